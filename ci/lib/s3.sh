# Puts the S3 server of the specifications into .tools/s3. Sourced, never run.
# shellcheck shell=bash disable=SC2154 # root and tools_cache are set by the script that sources this

# want_s3_server: said loudly, and no failure, where it cannot be had: spec/backup_store.rs then tries files only.
want_s3_server() {
  local requirements=$root/ci/tools/s3/requirements.txt key directory work
  # shellcheck disable=SC2034 # apt_install's
  local -a as_root=()
  # A venv names its own place and its Python, so both are part of what it is.
  key=$({ uname --machine; python3 --version; cat "$requirements"; } 2>/dev/null | sha256sum | cut -c 1-16)
  directory=$tools_cache/s3-$key
  if [[ ! -f $directory/origin ]]; then
    if ! has_venv && command -v apt-get >/dev/null && { ((EUID == 0)) || command -v sudo >/dev/null; }; then
      say "s3: installing Debian's python3-venv"
      ((EUID == 0)) || as_root=(sudo)
      quietly apt_install python3-venv || say "s3: apt-get could not install python3-venv"
    fi
    if ! has_venv; then
      without_s3_server "there is no python3 with venv (Debian: python3-venv)"
      return
    fi
    say "s3: installing moto from PyPI (half a minute, once)"
    mkdir -p "$tools_cache"
    work=$(mktemp --directory "$tools_cache/.s3-XXXXXX")
    # Made where it will stay: a venv cannot be moved. What an interrupted run left is made anew.
    rm -rf "$directory"
    if ! { python3 -m venv "$directory" &&
      "$directory/bin/pip" install --quiet --disable-pip-version-check --no-deps --requirement "$requirements"; } \
      >"$work/log" 2>&1; then
      cat "$work/log" >&2
      rm -rf "$work" "$directory"
      without_s3_server "pip could not install it; its words are above"
      return
    fi
    rm -rf "$work"
    echo "moto $(sed -n 's/^moto==//p' "$requirements") from PyPI" >"$directory/origin"
  fi
  mkdir -p "$root/.tools/s3/bin"
  link "$directory/bin/moto_server" "$root/.tools/s3/bin/moto_server"
  say "s3: $(<"$directory/origin")"
}

has_venv() {
  command -v python3 >/dev/null && python3 -c 'import venv, ensurepip' 2>/dev/null
}

# without_s3_server WHY
without_s3_server() {
  rm -rf "$root/.tools/s3"
  say "SKIPPED: backups in S3 will not be tried: $1"
}
