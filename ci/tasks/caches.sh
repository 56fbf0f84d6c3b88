# Where Cargo, Go and ci/setup keep what the next run of a task can use again. Sourced by the tasks.
# shellcheck shell=bash

export CARGO_HOME=$PWD/cache/cargo
export CARGO_TARGET_DIR=$PWD/cache/target
export GOMODCACHE=$PWD/cache/go-modules
export XDG_CACHE_HOME=$PWD/cache
mkdir -p "$CARGO_HOME"
