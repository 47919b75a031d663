#!/bin/sh
# Install the one system library that our wheels take from the machine: get-system.sh PYTHON
# The local model's engine is built with OpenMP; slim Linux images come without its runtime.
set -eu
python=$1

[ "$(uname -s)" = Linux ] || exit 0
"$python" -c 'import ctypes; ctypes.CDLL("libgomp.so.1")' 2>/dev/null && exit 0

if command -v apt-get >/dev/null 2>&1; then
    as_root=""
    [ "$(id -u)" = 0 ] || as_root="sudo -n"
    echo "installing libgomp1, which the local model needs" >&2
    if $as_root apt-get -qq update >/dev/null && $as_root apt-get -qq install -y libgomp1 >/dev/null; then
        exit 0
    fi
fi
echo "make: libgomp.so.1 is missing, which the local model needs; install it (Debian: libgomp1, Fedora: libgomp)" >&2
exit 1
