# What the scripts in ci/ say to people. Sourced, never run.
# shellcheck shell=bash

# One line of the story; stdout stays free for answers.
say() {
  printf '%s\n' "$*" >&2
}

# die WHAT WHY NEXT: ends the script the way our tools report errors.
die() {
  say "error: $1"
  say "why:   $2"
  say "next:  $3"
  exit 1
}

# Runs a command whose output nobody needs unless it fails.
quietly() {
  local output
  if ! output=$("$@" 2>&1); then
    say "$output"
    return 1
  fi
}

# at_least VERSION FLOOR: whether VERSION is FLOOR or newer.
at_least() {
  [[ $(printf '%s\n%s\n' "$1" "$2" | sort --version-sort | head -n 1) == "$2" ]]
}
