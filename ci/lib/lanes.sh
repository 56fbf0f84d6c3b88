# The specifications, several files of them at a time. Sourced, never run.
# shellcheck shell=bash
#
# Most of a specification's time is waiting for clusters, and each file has one test that outlasts the others of it:
# one file after the other leaves a machine of two cores half idle.

# built_tests CARGO...: the programs that a `cargo test --no-run` makes, as lines of `SOURCE PROGRAM`.
built_tests() {
  "$@" 2>&1 | sed -n 's/^ *Executable \(spec\/[^ ]*\) (\(.*\))$/\1 \2/p'
}

# run_in_lanes LANES LIST ARGUMENT...: runs each program of a list, so many at a time; what one of them printed comes
# in one piece, when it has ended. The source of each one that failed is told once more at the end.
run_in_lanes() {
  local lanes=$1 list=$2 directory status=0
  shift 2
  directory=$(mktemp -d)
  export -f run_one
  # shellcheck disable=SC2016 # expanded by the inner shell
  xargs --arg-file "$list" --max-lines=1 --max-procs "$lanes" \
    bash -c 'run_one "$@"' run_one "$directory" "$sudo" "$PATH" "$@" -- || status=1
  if [[ -s $directory/failed ]]; then
    printf '\nfailed: %s\n' "$(sort "$directory/failed" | tr '\n' ' ')"
  fi
  rm -rf "$directory"
  return "$status"
}

# run_one DIRECTORY SUDO PATH ARGUMENT... -- SOURCE PROGRAM: one lane's work.
run_one() {
  local directory=$1 sudo=$2 path=$3 source program status=0
  local -a arguments=() line
  shift 3
  while [[ $1 != -- ]]; do
    arguments+=("$1")
    shift
  done
  source=$2 program=$3
  line=("$program" "${arguments[@]}")
  if [[ -n $sudo ]]; then line=(sudo --preserve-env env "PATH=$path" "${line[@]}"); fi
  "${line[@]}" >"$directory/${source//\//-}" 2>&1 || status=$?
  # One after the other, and whole.
  flock "$directory" bash -c 'printf "\n     Running %s\n" "$1" && cat "$2"' tell "$source" "$directory/${source//\//-}"
  if ((status != 0)); then
    echo "$source" >>"$directory/failed"
    return 1
  fi
}
