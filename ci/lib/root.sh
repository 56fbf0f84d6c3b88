# Running as root what needs it, and only that. Sourced, never run.
# shellcheck shell=bash
#
# Building stays with the user: Rust is usually installed in their home.

# sudo where it is needed, nothing for root.
sudo=

# need_root WHY: ends the script early if root is needed and cannot be had.
need_root() {
  ((EUID == 0)) && return
  command -v sudo >/dev/null || die "this needs root" "$1" "become root (su), then run $0 again"
  say "Parts of this run as root, through sudo: $1."
  sudo=sudo
}

# as_root COMMAND...: with the PATH of this script, which sudo would replace.
as_root() {
  if [[ -z $sudo ]]; then
    "$@"
  else
    sudo --preserve-env env PATH="$PATH" "$@"
  fi
}
