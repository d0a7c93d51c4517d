#!/usr/bin/env bash
# Build the images and test the system as containers, on a real engine. Where none can run it says so, and is content.
#
#     tools/containers.sh [pytest ARGUMENT]...
#
# As root on Debian it installs the engine and Compose where they are lacking, and runs the engine for as long as
# the tests take where none runs. TESTS_INSIDE=1 also runs, in their container, the tests
# that have real processes: to all others it makes no difference where they run.
set -euo pipefail
cd "$(dirname "$0")/.."
base=debian:bookworm-slim
stand_in=../shared/tools/base-image        # makes the base image where no registry can be reached
daemon=

skip() { echo "containers: skipped: $1"; exit 0; }

finish() {
    [ -n "$daemon" ] || return 0
    kill "$daemon" 2>/dev/null || true
    wait "$daemon" 2>/dev/null || true
    rm -f "$log"
}
trap finish EXIT

programs() {                               # install what is lacking
    local lacking=()
    command -v docker >/dev/null && { docker compose version >/dev/null 2>&1 || command -v docker-compose >/dev/null; } \
        || lacking+=(docker.io docker-compose)
    docker image inspect "$base" >/dev/null 2>&1 || ! [ -x "$stand_in" ] || command -v debootstrap >/dev/null \
        || lacking+=(debootstrap)
    [ ${#lacking[@]} -gt 0 ] || return 0
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || skip "needs ${lacking[*]}"
    echo "containers: installing ${lacking[*]}"
    apt-get -qq update && DEBIAN_FRONTEND=noninteractive \
        apt-get -qq install -y --no-install-recommends "${lacking[@]}" iptables >/dev/null 2>&1 \
        || skip "cannot install ${lacking[*]}"
}

engine() {                                 # have one run
    docker info >/dev/null 2>&1 && return 0
    [ "$(id -u)" = 0 ] && command -v dockerd >/dev/null || skip "no Docker engine runs, and only root starts one"
    log=$(mktemp)
    dockerd >"$log" 2>&1 &
    daemon=$!
    for _ in $(seq 100); do
        docker info >/dev/null 2>&1 && return 0
        kill -0 "$daemon" 2>/dev/null || break
        sleep 0.2
    done
    tail -n 5 "$log" >&2
    skip "the Docker engine does not run on this machine: its last words are above"
}

base_image() {
    docker image inspect "$base" >/dev/null 2>&1 && return 0
    if [ -x "$stand_in" ]; then "$stand_in"; else docker pull -q "$base"; fi >/dev/null \
        || skip "no image $base can be had"
}

build() {                                  # the network of the host: a proxy or a mirror of the host's is then found
    docker build -q --network host --target "$1" -t "$2" . >/dev/null
    echo "containers: $2 has $(($(docker image inspect -f '{{.Size}}' "$2") / 1000000)) MB"
}

programs
engine
base_image
build system exokernel
.venv/bin/pytest -m "containers and not soak" tests/containers "$@"
if [ -n "${TESTS_INSIDE:-}" ]; then
    build tests exokernel-tests
    compose=(docker compose)
    docker compose version >/dev/null 2>&1 || compose=(docker-compose)
    # As on the host: the machine is shared, and what failed is run once more, alone.
    "${compose[@]}" -p exo-inside run --rm --entrypoint sh tests -c \
        'pytest -m "system and not soak and not containers" -o cache_dir=/tmp/cache || { echo "== what failed, once more"; pytest -o cache_dir=/tmp/cache --last-failed; }'
    "${compose[@]}" -p exo-inside down -v
fi
