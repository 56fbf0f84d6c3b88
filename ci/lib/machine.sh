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

# Those without which only the containers of production are not tried (`etcd-local --bpm runc`): bpm's runtime and
# its init. Not every apt has them, and everything else works without.
missing_container_packages() {
  command -v runc >/dev/null || [[ -x /usr/sbin/runc ]] || echo runc
  command -v tini >/dev/null || echo tini
}

# update_packages: the lists of packages; root's business.
update_packages() {
  local -a as_root=()
  ((EUID == 0)) || as_root=(sudo)
  "${as_root[@]}" apt-get -o DPkg::Lock::Timeout=120 update
}

# Installs what is missing; touches the package lists only then.
install_packages() {
  local -a missing optional as_root=()
  readarray -t missing < <(missing_packages | tr ' ' '\n')
  readarray -t optional < <(missing_container_packages)
  if ((${#missing[@]} == 0 && ${#optional[@]} == 0)); then
    say "Debian packages: nothing missing"
    return
  fi
  if ! command -v apt-get >/dev/null; then
    ((${#missing[@]} == 0)) ||
      die "this machine lacks ${missing[*]} (Debian's names)" \
        "the crate and etcd-local need them, and there is no apt-get to install them with" \
        "install them with this machine's package manager, then run ci/setup again"
    without_containers "there is no apt-get to install ${optional[*]} with"
    return
  fi
  if ((EUID != 0)); then
    if ! command -v sudo >/dev/null; then
      ((${#missing[@]} == 0)) ||
        die "the Debian packages ${missing[*]} are missing" \
          "installing them needs root, and there is no sudo" \
          "run as root: apt-get install ${missing[*]}"
      without_containers "installing ${optional[*]} needs root, and there is no sudo"
      return
    fi
    as_root=(sudo)
  fi
  # For what can be done without, only when apt never heard of it because it has no lists yet.
  if ((${#missing[@]} > 0)) || ! has_package_lists; then
    quietly update_packages ||
      say "Debian packages: the lists could not be updated; trying with those at hand"
  fi
  if ((${#missing[@]} > 0)); then
    say "Debian packages: installing ${missing[*]}"
    quietly apt_install "${missing[@]}" ||
      die "apt-get could not install ${missing[*]}" \
        "the crate and etcd-local need them" \
        "read apt's words above, then run ci/setup again"
  fi
  if ((${#optional[@]} > 0)); then
    say "Debian packages: installing ${optional[*]}"
    quietly apt_install "${optional[@]}" ||
      without_containers "apt-get could not install ${optional[*]}"
  fi
}

has_package_lists() {
  compgen -G '/var/lib/apt/lists/*Packages*' >/dev/null
}

# apt_install PACKAGE...
apt_install() {
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get -o DPkg::Lock::Timeout=120 install --yes --no-install-recommends "$@"
}

# without_containers WHY: said loudly, and no failure.
without_containers() {
  say "SKIPPED: containers as in production will not be tried: $1"
  say "         etcd-local --bpm runc and half of spec/bpm.rs need Debian's runc and tini; all else works"
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
