#!/usr/bin/env bash
# Concourse: the figures, of the binaries as they ship.
set -euo pipefail
# shellcheck source=ci/tasks/caches.sh
source etcd-release/ci/tasks/caches.sh
export CI_PROFILE=release
exec etcd-release/ci/bench --json "$PWD/figures/figures.json"
