#!/bin/sh
# Finds a Python that is new enough and hands over to install.py: `sh requirements/install.sh run|dev`.
# PYTHON=/path/to/python3 chooses one.
set -eu
cd "$(dirname "$0")/.."

new_enough='import sys; sys.exit(sys.version_info < (3, 11))'
complete='import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))'

# First one that can also make virtual environments; Debian ships that part apart.
for needs in "$complete" "$new_enough"; do
    for python in "${PYTHON:-python3}" python3.14 python3.13 python3.12 python3.11; do
        if "$python" -c "$needs" >/dev/null 2>&1; then
            exec "$python" requirements/install.py "$@"
        fi
        [ -z "${PYTHON:-}" ] || break
    done
done

echo "Fleet needs Python 3.11 or newer, and none was found as ${PYTHON:-python3, python3.14, ... or python3.11}." >&2
echo "Install one, or name it: make PYTHON=/path/to/python3 ..." >&2
exit 1
