#!/usr/bin/env bash
# Concourse: the long tier of the tests.
set -euo pipefail
# shellcheck source=ci/tasks/caches.sh
source etcd-release/ci/tasks/caches.sh
exec etcd-release/ci/test long
