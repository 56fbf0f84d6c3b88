# Stages with their times, and what the tests in them came to. Sourced, never run.
# shellcheck shell=bash

passed=0
failed=0
ignored=0
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# stage NAME BUDGET_SECONDS COMMAND...: a stage that fails counts as one failure, unless its tests were counted; the
# next ones run all the same, so that one run tells everything.
stage() {
  local name=$1 budget_seconds=$2 started=$SECONDS outcome=done failed_before=$failed took_seconds
  shift 2
  printf '\n== %s\n' "$name"
  if ! "$@"; then
    outcome=FAILED
    ((failed > failed_before)) || failed=$((failed + 1))
  fi
  took_seconds=$((SECONDS - started))
  if ((took_seconds > budget_seconds)); then outcome+=', over its budget'; fi
  printf '== %s: %s, %s s of %s s\n' "$name" "$outcome" "$took_seconds" "$budget_seconds"
}

# The same, for a stage without which the next ones make no sense.
stage_or_end() {
  local failed_before=$failed
  stage "$@"
  ((failed == failed_before)) || end
}

# count_tests COMMAND...: runs cargo and adds up the `test result:` line of each of its test binaries.
count_tests() {
  local status=0 counts p f i
  "$@" 2>&1 | tee "$log" || status=$?
  counts=$(awk '/^test result: / { p += $4; f += $6; i += $8 } END { print p + 0, f + 0, i + 0 }' "$log")
  read -r p f i <<<"$counts"
  passed=$((passed + p)) failed=$((failed + f)) ignored=$((ignored + i))
  return "$status"
}

# The end of the script: `N passed, N failed`, alone on the last line.
end() {
  if ((ignored > 0)); then say "note: $ignored tests are marked as ignored; an ignored test promises nothing"; fi
  if ((passed + failed == 0)); then say "error: no test ran; if a name was given, no test has it"; fi
  printf '\n%s passed, %s failed\n' "$passed" "$failed"
  ((failed == 0 && passed > 0)) || exit 1
  exit 0
}
