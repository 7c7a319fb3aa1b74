#!/bin/sh
# Print the path of a uv: one on PATH that is new enough, else one of our own, installed once below the cache.
set -eu

version=0.13.9
oldest_minor=9 # of 0.x: pyproject.toml's required-version

fail() {
    printf 'llama-chat: %s\n' "$1" >&2
    exit 1
}

fits() {
    answer=$("$1" --version 2>/dev/null </dev/null) || return 1
    number=${answer#uv }
    major=${number%%.*}
    rest=${number#*.}
    minor=${rest%%.*}
    case "$major,$minor" in *[!0-9,]* | ,* | *,) return 1 ;; esac
    [ "$major" -gt 0 ] || [ "$minor" -ge "$oldest_minor" ]
}

use_if_fits() {
    if fits "$1"; then
        printf '%s\n' "$1"
        exit 0
    fi
}

new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

if found=$(command -v uv); then use_if_fits "$found"; fi
cache=${XDG_CACHE_HOME:-$HOME/.cache}/llama-chat
home=$cache/uv-$version
use_if_fits "$home/bin/uv"

python=
for candidate in python3 python3.13 python3.12 python3.11; do
    if new_enough "$candidate"; then
        python=$candidate
        break
    fi
done
[ -n "$python" ] || fail 'no Python 3.11 or newer on PATH: install it (Debian: apt-get install python3 python3-venv).'

if ! "$python" -c 'import ensurepip, venv' >/dev/null 2>&1; then
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null ||
        fail "$python cannot make a virtual environment: install its venv module (Debian: apt-get install python3-venv)."
    export DEBIAN_FRONTEND=noninteractive
    # A fresh machine has no package lists yet.
    apt-get install -y python3-venv >&2 </dev/null || { apt-get update && apt-get install -y python3-venv; } >&2 </dev/null ||
        fail 'python3-venv cannot be installed: run apt-get update && apt-get install python3-venv.'
fi

# A folder of its own, put in place whole: a second run at the same time does the same, and the first one in place stays.
mkdir -p "$cache"
making=$(mktemp -d "$cache/.uv-XXXXXX")
trap 'rm -rf "$making"' EXIT
trap 'exit 130' INT TERM
"$python" -m venv "$making" >&2 || fail "$python cannot make a virtual environment below $cache."
"$making/bin/python" -m pip install --quiet --disable-pip-version-check "uv==$version" >&2 </dev/null ||
    fail "uv $version cannot be installed: check the network, or install uv 0.$oldest_minor or newer yourself."
[ ! -d "$home" ] || fits "$home/bin/uv" || rm -rf "$home"
"$python" -c 'import os, sys; os.rename(*sys.argv[1:])' "$making" "$home" 2>/dev/null || true
use_if_fits "$home/bin/uv"
fail "the uv in $home does not run: remove that folder and try again."
