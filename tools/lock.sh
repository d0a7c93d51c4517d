#!/usr/bin/env bash
# Write requirements.lock anew from pyproject.toml: every dependency, pinned, with its hashes, for every
# Python we support. Usage: tools/lock.sh [--upgrade | --upgrade-package NAME]
set -euo pipefail
cd "$(dirname "$0")/.."

command -v uv >/dev/null || { echo "tools/lock.sh: needs uv: pip install uv" >&2; exit 1; }
uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 \
    --generate-hashes --custom-compile-command tools/lock.sh \
    --no-emit-index-url --no-emit-find-links --quiet --output-file requirements.lock "$@" >/dev/null
