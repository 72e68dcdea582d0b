#!/usr/bin/env bash
# Pins every set of packages with hashes, for all platforms and Python 3.11+. Needs uv. Run by `make lock`.
set -euo pipefail
cd "$(dirname "$0")/.."
pin() {
    local name=$1; shift
    uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate \
        --no-emit-package onnx-fleet --no-emit-package onnx-fleet-client --python-version 3.11 \
        "$@" --output-file "requirements/$name.txt" pyproject.toml
}
# Overrides leave packages out that another one asks for, so what is pinned is installed without asking anew.
pin dev --override requirements/overrides.in --extra worker --extra embedded --extra flower --group dev
pin run --extra worker --extra embedded --extra flower --group build
pin api --group build
pin worker-cpu --extra worker --group build
pin worker-gpu --extra worker-gpu --group build
pin flower --extra flower --group build
