#!/bin/sh
# Install uv, which reads the lock file, into a folder of its own: get-uv.sh PYTHON FOLDER
set -eu
python=$1
folder=$2

echo "uv is not installed; putting it into $folder" >&2
rm -rf "$folder"
# A Python without ensurepip (Debian has it in a package of its own) can make no environment with pip; its own pip,
# where it has one, does as well.
if "$python" -m venv "$folder" >/dev/null 2>&1; then
    "$folder/bin/python" -m pip install --quiet --disable-pip-version-check uv
elif "$python" -m pip --version >/dev/null 2>&1; then
    rm -rf "$folder"
    "$python" -m pip install --quiet --disable-pip-version-check --target "$folder" uv
else
    rm -rf "$folder"
    echo "make: $python has neither venv nor pip; on Debian: apt-get install python3-venv, or install uv" >&2
    exit 1
fi
