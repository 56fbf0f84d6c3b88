# What ci/setup needs from the machine: Debian packages, Rust. Sourced, never run.
# shellcheck shell=bash disable=SC2154 # root is set by the script that sources this

# The names of the Debian packages without which something below does not work, one per line. What counts is the
# capability, not the package: a protoc from elsewhere is as good.
missing_packages() {
  command -v cc >/dev/null || echo build-essential
  command -v readelf >/dev/null && command -v strip >/dev/null || echo binutils
  command -v git >/dev/null || echo git
  command -v curl >/dev/null || echo curl ca-certificates
  command -v ruby >/dev/null || echo ruby
  command -v unshare >/dev/null && command -v nsenter >/dev/null || echo util-linux
  command -v mount >/dev/null || echo mount
  command -v ip >/dev/null || echo iproute2
  command -v ps >/dev/null || echo procps
  command -v useradd >/dev/null || [[ -x /usr/sbin/useradd ]] || echo passwd
  command -v protoc >/dev/null || echo protobuf-compiler
  has_well_known_protos || echo libprotobuf-dev
}

# The build script of etcd-client imports google/protobuf/*.proto, which Debian packs apart from protoc.
has_well_known_protos() {
  local directory
  [[ -f ${PROTOC_INCLUDE:-/usr/include}/google/protobuf/timestamp.proto ]] && return
  command -v protoc >/dev/null || return
  directory=$(dirname "$(dirname "$(readlink -f "$(command -v protoc)")")")
  [[ -f $directory/include/google/protobuf/timestamp.proto ]]
}

# update_packages: the lists of packages; root's business.
update_packages() {
  local -a as_root=()
  ((EUID == 0)) || as_root=(sudo)
  "${as_root[@]}" apt-get -o DPkg::Lock::Timeout=120 update
}

# Installs what is missing; touches the package lists only then.
install_packages() {
  local -a missing as_root=()
  readarray -t missing < <(missing_packages | tr ' ' '\n')
  if ((${#missing[@]} == 0)); then
    say "Debian packages: nothing missing"
    return
  fi
  command -v apt-get >/dev/null ||
    die "this machine lacks ${missing[*]} (Debian's names)" \
      "the crate and etcd-local need them, and there is no apt-get to install them with" \
      "install them with this machine's package manager, then run ci/setup again"
  if ((EUID != 0)); then
    command -v sudo >/dev/null ||
      die "the Debian packages ${missing[*]} are missing" \
        "installing them needs root, and there is no sudo" \
        "run as root: apt-get install ${missing[*]}"
    as_root=(sudo)
  fi
  say "Debian packages: installing ${missing[*]}"
  quietly update_packages ||
    say "Debian packages: the lists could not be updated; trying with those at hand"
  quietly "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get -o DPkg::Lock::Timeout=120 install --yes --no-install-recommends "${missing[@]}" ||
    die "apt-get could not install ${missing[*]}" \
      "the crate and etcd-local need them" \
      "read apt's words above, then run ci/setup again"
}

# Rust is the developer's own: said, never installed.
check_rust() {
  local wanted found
  wanted=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' "$root/Cargo.toml")
  command -v cargo >/dev/null ||
    die "there is no cargo on PATH" \
      "the tools of this release are Rust, ${wanted} or newer" \
      "install Rust from https://rustup.rs, open a new shell, run ci/setup again"
  found=$(rustc --version | cut -d ' ' -f 2)
  at_least "$found" "$wanted" ||
    die "Rust $found is too old" \
      "Cargo.toml asks for $wanted or newer" \
      "rustup update stable"
  say "Rust: $found"
}
