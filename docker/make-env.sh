#!/bin/sh
# Writes .env from .env.example, with a fresh random secret for every change-me. Leaves an existing .env alone.
set -eu
cd "$(dirname "$0")/.."
if [ -e .env ]; then
    echo ".env exists already; move it away first" >&2
    exit 1
fi
umask 077
trap 'rm -f .env.new' EXIT
while IFS= read -r line; do
    case "$line" in
        "#"*) ;;
        *change-me*) line="${line%%change-me*}$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')" ;;
    esac
    printf '%s\n' "$line"
done < .env.example > .env.new
mv .env.new .env
echo "Wrote .env with fresh secrets, readable by you alone"
