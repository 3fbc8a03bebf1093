#!/usr/bin/env bash
# Write requirements.lock and requirements-build.lock anew from pyproject.toml.
#
# The newest release of everything that pyproject.toml allows, for any Python it allows, with the
# hash of every file of the public index.  The answer names no index address and no path of this
# machine, so it can be installed from whichever mirror a site uses.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly UV=uv==0.13.9 # the resolver; pinned, so that a new lock differs by releases alone

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
python3 -m venv "$scratch/venv"
"$scratch/venv/bin/pip" --quiet --disable-pip-version-check install "$UV"

# uv reads no pip configuration, so a mirror with files of its own cannot slip in; system
# certificates are used, so that it works behind a proxy that inspects TLS.
lock() { # OUTPUT ARGUMENT...
    local output=$1
    shift
    "$scratch/venv/bin/uv" --quiet --native-tls pip compile \
        --universal --python-version 3.11 --generate-hashes --upgrade \
        --no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock' \
        --output-file "$output" "$@"
    printf '%s: %s packages\n' "$output" "$(grep --count == "$output")"
}

lock requirements.lock --extra dev pyproject.toml
lock requirements-build.lock --group pyproject.toml:build
