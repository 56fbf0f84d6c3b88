# Puts cargo-deny into .tools/deny. Sourced, never run.
# shellcheck shell=bash disable=SC2154 # root and tools_cache are set by the script that sources this

# want_cargo_deny: built without optimisation, which takes two minutes where the release profile takes ten.
want_cargo_deny() {
  local version key directory work
  version=$(pin cargo-deny 3)
  key=$({ uname --machine; rustc --version; echo "$version"; } | sha256sum | cut -c 1-16)
  directory=$tools_cache/deny-$key
  if [[ ! -f $directory/origin ]]; then
    say "cargo-deny: building $version from crates.io (two minutes, once)"
    mkdir -p "$tools_cache"
    work=$(mktemp --directory "$tools_cache/.deny-XXXXXX")
    # Outside of the repository: its Cargo configuration is not for others' programs.
    if ! (cd "$work" && CARGO_TARGET_DIR=$work/target cargo install --debug --locked --quiet --root "$work/root" \
      --version "$version" cargo-deny) >"$work/log" 2>&1; then
      cat "$work/log" >&2
      rm -rf "$work"
      die "cargo-deny $version could not be built" "what a dependency brings in would go unseen" \
        "its words are above; it comes from crates.io"
    fi
    rm -rf "$directory"
    mv "$work/root" "$directory"
    rm -rf "$work"
    echo "$version from crates.io" >"$directory/origin"
  fi
  mkdir -p "$root/.tools/deny/bin"
  link "$directory/bin/cargo-deny" "$root/.tools/deny/bin/cargo-deny"
  say "cargo-deny: $(<"$directory/origin")"
}
