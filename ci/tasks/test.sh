#!/usr/bin/env bash
# Concourse: what .ci/run does, with the caches where Concourse keeps them.
set -euo pipefail
# shellcheck source=ci/tasks/caches.sh
source etcd-release/ci/tasks/caches.sh
exec etcd-release/.ci/run
