#!/bin/sh
# Make the secrets of docker-compose.yml, in ./secrets or the folder that is named; those that are there are kept.
set -eu
folder=${1:-secrets}

new_secret() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }
hash_of() { printf %s "$1" | if command -v sha256sum >/dev/null; then sha256sum; else shasum -a 256; fi | cut -d ' ' -f 1; }

# The folder is closed to others, its files are not: a container's user is none of this machine, and must read them.
mkdir -p "$folder"
chmod 700 "$folder"
umask 022

if [ ! -e "$folder/redis.conf" ]; then
    password=$(new_secret)
    printf 'redis://:%s@redis:6379/0\n' "$password" >"$folder/redis_url"
    printf 'requirepass %s\n' "$password" >"$folder/redis.conf"
fi
if [ ! -e "$folder/api_keys" ]; then
    key=pm-$(new_secret)
    printf '%s\n' "$key" >"$folder/api_key"
    printf 'sha256:%s  # secrets/api_key\n' "$(hash_of "$key")" >"$folder/api_keys"
fi
if [ ! -e "$folder/flower.py" ]; then
    password=$(new_secret)
    printf '%s\n' "$password" >"$folder/flower_password"
    printf 'basic_auth = ["pointsman:%s"]\n' "$password" >"$folder/flower.py"
fi
echo "secrets are in $folder: api_key for HTTP, flower_password for Flower (user pointsman)" >&2
