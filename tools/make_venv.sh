#!/usr/bin/env bash
# make_venv.sh EXTRA: create .venv in the checkout with the newest Python there is, and install the project into it,
# editable, with the extra named EXTRA (demo or dev). PYTHON=... chooses the Python.
set -euo pipefail
cd "$(dirname "$0")/.."
extra=$1

usable() { # it runs, is new enough, and can make virtual environments
    "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

find_python() {
    local candidate
    for candidate in ${PYTHON:-python3.14 python3.13 python3.12 python3.11 python3 python}; do
        if usable "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    {
        echo "seqlib needs Python 3.11 or newer with its venv module; none of these will do:"
        for candidate in ${PYTHON:-python3.14 python3.13 python3.12 python3.11 python3 python}; do
            if command -v "$candidate" >/dev/null; then
                echo "  $candidate: $("$candidate" --version 2>&1 | head -n 1)"
            fi
        done
        echo "Install one (on Debian and Ubuntu: apt install python3 python3-venv) or call make PYTHON=/path/to/python."
    } >&2
    exit 1
}

if ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
    python=$(find_python)
    echo "Making .venv with $("$python" --version)."
    rm -rf .venv
    "$python" -m venv .venv
fi

echo "Installing seqlib and what it needs into .venv (a few hundred megabytes, once)."
if ! .venv/bin/python -m pip install --quiet --disable-pip-version-check --editable ".[$extra]"; then
    echo "The installation did not finish: pip's message above says why. Calling make again goes on from here." >&2
    exit 1
fi
touch ".venv/.$extra"
if [ "$extra" = dev ]; then touch .venv/.demo; fi # dev contains demo
