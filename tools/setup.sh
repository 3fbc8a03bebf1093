#!/usr/bin/env bash
# Prepare a checkout: Debian packages, .venv, the locked dependencies, this project itself.
#
#   tools/setup.sh                  everything
#   tools/setup.sh build runtime    of the Debian packages, only those for these uses
#
# May be run at any time: what is done already is found in a fraction of a second.  The Debian
# packages and their uses are in .ci/debian-packages.txt; PYTHON=/path/to/python3.11 chooses the
# interpreter.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly VENV=.venv
readonly PACKAGES=.ci/debian-packages.txt
readonly POLICY=/usr/sbin/policy-rc.d
readonly UNREADY=3 # exit code where a person has to act first
# Before a command: a mirror hiccups, and of apt's locks DPkg::Lock::Timeout waits for dpkg's alone,
# not for those of its lists and archives, which a new machine's own update holds for a minute.
# shellcheck disable=SC2016 # for that bash to expand
readonly PERSISTENTLY=(bash -c
    'for pause in 5 15 30 60; do "$@" && exit; sleep "$pause"; done; exec "$@"' persistently)

scratch=$(mktemp -d)
as_root=()
policy_is_ours=

finish() {
    if [[ $policy_is_ours ]]; then "${as_root[@]}" rm -f "$POLICY"; fi
    rm -rf "$scratch"
}
trap finish EXIT

say() { printf 'setup: %s\n' "$*"; }

# step TEXT COMMAND...: run one command quietly; a line with the time it took, or all its output
# if it fails.  A single command, no function: bash would not stop at a failure within one.
step() {
    local text=$1 began=$SECONDS code=0
    shift
    "$@" </dev/null >"$scratch/log" 2>&1 || code=$?
    if ((code)); then
        cat "$scratch/log" >&2
        say "failed: $text" >&2
        exit "$code"
    fi
    say "$text ($((SECONDS - began)) s)"
}

# -- Debian packages ---------------------------------------------------------------------------

wanted_packages() { # USE...
    awk -v uses=" $* " '!/^#/ && NF && index(uses, " " $2 " ") { print $1 }' "$PACKAGES" | sort -u
}

installed_packages() {
    dpkg-query --show --showformat='${db:Status-Status} ${Package}\n' |
        awk '$1 == "installed" { print $2 }' | sort -u
}

become_root() { # PACKAGE...: the packages to name when it cannot be done
    ((EUID != 0)) || return 0
    if ! sudo -n true 2>/dev/null; then
        say "Debian packages are missing, and installing them takes root:" >&2
        say "    apt-get install --no-install-recommends $*" >&2
        exit "$UNREADY"
    fi
    as_root=(sudo -n)
}

# A PACS must not start on a machine, now or at its next boot, because someone checked out a
# repository: the tests start what they need themselves.
forbid_service_starts() {
    [[ ! -e $POLICY ]] || return 0
    printf '#!/bin/sh\nexit 101\n' >"$scratch/policy" # 101: forbidden, says Debian's invoke-rc.d
    "${as_root[@]}" install -m 0755 "$scratch/policy" "$POLICY"
    policy_is_ours=yes
}

disable_services_of() { # PACKAGE...
    local -a units
    mapfile -t units < <(dpkg --listfiles "$@" |
        sed -nE 's,^(/usr)?/lib/systemd/system/([^/@]+\.service)$,\2,p' | sort -u)
    ((${#units[@]})) && command -v systemctl >/dev/null || return 0
    step "not started, now or at boot: ${units[*]}" "${as_root[@]}" systemctl disable "${units[@]}"
}

provide_packages() { # USE...
    if ! command -v dpkg-query >/dev/null; then
        say "not a Debian system; to be provided by hand: $(wanted_packages "$@" | paste -sd ' ')"
        return
    fi
    local -a missing new
    mapfile -t missing < <(wanted_packages "$@" | comm -23 - <(installed_packages))
    ((${#missing[@]})) || return 0
    become_root "${missing[@]}"
    local -a apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive
        apt-get --quiet -o DPkg::Lock::Timeout=300)
    step "list of Debian packages" "${PERSISTENTLY[@]}" "${apt[@]}" update
    installed_packages >"$scratch/before"
    forbid_service_starts
    step "${missing[*]}" \
        "${PERSISTENTLY[@]}" "${apt[@]}" install --yes --no-install-recommends "${missing[@]}"
    mapfile -t new < <(installed_packages | comm -13 "$scratch/before" -)
    disable_services_of "${new[@]}"
}

# -- Python ------------------------------------------------------------------------------------

find_python() {
    local candidate
    for candidate in ${PYTHON:-} python3.11 python3 python3.12 python3.13; do
        if "$candidate" -c \
            'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    say "found no Python from 3.11 on with venv: set PYTHON to one" >&2
    exit "$UNREADY"
}

# The place counts too: scripts in .venv name their interpreter by its full path.
fingerprint() { # FILE...
    { cat "$@" && pwd; } | sha256sum
}

is_current() { # STAMP FINGERPRINT
    [[ -x $VENV/bin/python && -f $VENV/$1 && $(<"$VENV/$1") == "$2" ]]
}

provide_python() {
    local locked project python
    local -a pip=("$VENV/bin/python" -m pip --quiet --disable-pip-version-check --no-input
        --timeout 60 --retries 10 install)
    locked=$(fingerprint requirements.lock requirements-build.lock tools/setup.sh)
    project=$(fingerprint pyproject.toml)
    if ! is_current stamp-locked "$locked"; then
        python=$(find_python)
        step "$VENV with $("$python" --version)" "$python" -m venv --clear "$VENV"
        step "build tools" "${pip[@]}" --require-hashes -r requirements-build.lock
        # Not in isolation: that would fetch build tools that no hash vouches for.
        step "dependencies" "${pip[@]}" --require-hashes --no-build-isolation -r requirements.lock
        printf '%s' "$locked" >"$VENV/stamp-locked"
    fi
    if ! is_current stamp-project "$project"; then
        step "vitrine itself" "${pip[@]}" --no-deps --no-build-isolation --editable .
        printf '%s' "$project" >"$VENV/stamp-project"
    fi
}

if (($# == 0)); then set -- build runtime test; fi
began=$SECONDS
provide_packages "$@"
provide_python
say "ready ($((SECONDS - began)) s)"
