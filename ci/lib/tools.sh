# Puts the pinned tools into .tools: from PATH, from the cache, from upstream, from Debian's packages, or built. Sourced,
# never run.
# shellcheck shell=bash
#
# The cache lies outside the checkout, one folder per content of the pin, so that a fresh clone is warm and two
# branches with different pins do not fight. A folder appears there complete, by a rename, or not at all.
#
# shellcheck disable=SC2154 # root is set by the script that sources this

tools_cache=${XDG_CACHE_HOME:-${HOME:?is not set, and without XDG_CACHE_HOME there is no place for the cache of tools}/.cache}/etcd-release/tools

# yes or no, once asked: whether upstream's releases can be reached.
upstream=

# need_tool NAME: afterwards .tools/NAME/bin holds its programs; says where they came from, and keeps that in
# .tools/NAME/origin.
need_tool() {
  local name=$1 origin directory=
  if ! origin=$(from_path "$name"); then
    directory=$tools_cache/$name-$(pin_key "$name")
    [[ -f $directory/origin ]] || fill_cache "$name" "$directory"
    origin=$(<"$directory/origin")
  fi
  link_tool "$name" "$directory"
  echo "$origin" >"$root/.tools/$name/origin"
  say "$name: $origin"
}

# The programs of a tool.
programs() {
  case $1 in
    bosh) echo bosh ;;
    # etcdutl begins with 3.5.
    etcd-3.3 | etcd-3.4) echo etcd etcdctl ;;
    etcd-*) echo etcd etcdctl etcdutl ;;
  esac
}

# pin NAME FIELD: a field of the tool's line in ci/tools/pins (3 is the version, 4 the floor).
pin() {
  awk -v name="$1" -v field="$2" '$1 == "tool" && $2 == name { print $field }' "$root/ci/tools/pins"
}

# What a tool's folder in the cache is called after: all that decides what is in it.
pin_key() {
  {
    uname --machine
    awk -v name="$1" '$1 == "tool" { here = $2 == name } here && /^(tool|sha256|debian|suite)/' "$root/ci/tools/pins"
    [[ ! -d $root/ci/tools/$1 ]] || cat "$root/ci/tools/$1/go.mod" "$root/ci/tools/$1/go.sum"
  } | sha256sum | cut -c 1-16
}

# --- from PATH ---

# The version a program reports, as X.Y.Z.
version_of() {
  local report
  case ${1##*/} in
    bosh | etcd) report=$("$1" --version 2>/dev/null) || return ;;
    *) report=$("$1" version 2>/dev/null) || return ;;
  esac
  grep --max-count=1 --only-matching --extended-regexp '[0-9]+\.[0-9]+\.[0-9]+' <<<"$report" | head -n 1
}

# Where PATH has a program, other than in our own folders.
elsewhere() {
  type -aP "$1" | grep --invert-match --fixed-strings "$root/.tools/" | head -n 1
}

# Prints where the tool comes from if PATH has all its programs, recent enough and of one version.
from_path() {
  local name=$1 program path version='' found floor
  floor=$(pin "$name" 4)
  for program in $(programs "$name"); do
    path=$(elsewhere "$program") && found=$(version_of "$path") || return
    [[ -z $version || $found == "$version" ]] && at_least "$found" "$floor" || return
    [[ $name == bosh || ${found%.*} == "${floor%.*}" ]] || return
    version=$found
  done
  echo "$version from PATH, ${path%/*}"
}

# --- from upstream's release ---

# Asked once per run, and briefly: a machine without internet should not wait for it.
upstream_reachable() {
  if [[ -z $upstream ]]; then
    upstream=no
    if curl --silent --head --output /dev/null --connect-timeout 2 --max-time 5 https://github.com/; then
      upstream=yes
    fi
  fi
  [[ $upstream == yes ]]
}

# The architecture as upstream's file names have it; fails where there is no such file.
architecture() {
  case $(uname --machine) in
    x86_64) echo amd64 ;;
    aarch64) echo arm64 ;;
    *) return 1 ;;
  esac
}

# fetch URL FILE
fetch() {
  curl --fail --silent --show-error --location --connect-timeout 5 --retry 2 --output "$2" "$1"
}

# The folder of upstream's release of a tool.
release_url() {
  case $1 in
    bosh) echo "https://github.com/cloudfoundry/bosh-cli/releases/download/v$(pin "$1" 3)" ;;
    etcd-*) echo "https://github.com/etcd-io/etcd/releases/download/v$(pin "$1" 3)" ;;
  esac
}

# The file in it; fails on an architecture that upstream does not build for.
release_file() {
  local arch
  arch=$(architecture) || return
  case $1 in
    bosh) echo "bosh-cli-$(pin "$1" 3)-linux-$arch" ;;
    etcd-*) echo "etcd-v$(pin "$1" 3)-linux-$arch.tar.gz" ;;
  esac
}

# download NAME DIRECTORY: fails if there is no such file or no way to it.
download() {
  local url file
  file=$(release_file "$1") && upstream_reachable || return
  url=$(release_url "$1")
  say "$1: downloading $url/$file"
  fetch "$url/$file" "$2/$file"
}

# install_release NAME DIRECTORY: what download left there, checked and unpacked. A wrong sum ends the script: building
# instead would hide it.
install_release() {
  local name=$1 directory=$2 url file checked
  url=$(release_url "$name")
  file=$(release_file "$name")
  checked=$(check_sum "$directory" "$file" "$url")
  unpack "$name" "$directory" "$file"
  echo "$(pin "$name" 3) from $url/$file, $checked" >"$directory/origin"
}

# check_sum DIRECTORY FILE URL: prints how the file was checked.
check_sum() {
  local directory=$1 file=$2 url=$3 wanted found checked='SHA-256 as pinned'
  wanted=$(awk -v file="$file" '$1 == "sha256" && $3 == file { print $2 }' "$root/ci/tools/pins")
  if [[ -z $wanted ]]; then
    fetch "$url/SHA256SUMS" "$directory/SHA256SUMS" ||
      die "$url/SHA256SUMS cannot be fetched" \
        "ci/tools/pins has no sum of $file, so that nothing says what it should contain" \
        "run ci/setup again later, or write the sum into ci/tools/pins"
    wanted=$(awk -v file="$file" '$2 == file || $2 == "*" file { print $1 }' "$directory/SHA256SUMS")
    checked="SHA-256 as in its release's own SHA256SUMS (not pinned)"
  fi
  found=$(sha256sum "$directory/$file" | cut -d ' ' -f 1)
  [[ $found == "$wanted" ]] ||
    die "$file has SHA-256 $found, expected ${wanted:-one in SHA256SUMS, which does not name it}" \
      "it is not what upstream released, or the pin is wrong; nothing of it was installed" \
      "compare $url with ci/tools/pins, then run ci/setup again"
  echo "$checked"
}

# unpack NAME DIRECTORY FILE: leaves only DIRECTORY/bin.
unpack() {
  local name=$1 directory=$2 file=$3 program
  local -a members=()
  mkdir "$directory/bin"
  if [[ $file == *.tar.gz ]]; then
    for program in $(programs "$name"); do
      members+=("${file%.tar.gz}/$program")
    done
    tar --extract --gzip --file "$directory/$file" --directory "$directory/bin" --strip-components=1 \
      --no-same-owner "${members[@]}"
    rm "$directory/$file"
  else
    mv "$directory/$file" "$directory/bin/$name"
  fi
  rm -f "$directory/SHA256SUMS"
  chmod 0755 "$directory"/bin/*
}

# --- from Debian's packages ---

# The packages of a tool, as apt-get takes them (NAME=VERSION): of one that no module proxy has, because its tags are no
# versions of a Go module.
debian_packages() {
  awk -v name="$1" '$1 == "debian" && $2 == name { for (i = 4; i <= NF; i++) print $i "=" $3 }' "$root/ci/tools/pins"
}

# other_release NAME DIRECTORY: makes `apt` look into another Debian release than this machine's, on the same server and
# with lists of its own, if the tool's packages are there.
other_release() {
  local name=$1 directory=$2/apt suite servers server
  suite=$(awk -v name="$name" '$1 == "suite" && $2 == name { print $3 }' "$root/ci/tools/pins")
  [[ -n $suite ]] || return 0
  # shellcheck disable=SC2016 # apt expands it
  servers=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages')
  server=$(grep --invert-match security <<<"$servers" | head -n 1)
  mkdir -p "$directory/lists/partial" "$directory/cache/archives/partial"
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $server $suite main" >"$directory/sources.list"
  apt+=(-o "Dir::Etc::sourcelist=$directory/sources.list" -o Dir::Etc::sourceparts=/dev/null
    -o "Dir::State::lists=$directory/lists" -o "Dir::Cache=$directory/cache")
  quietly "${apt[@]}" update || say "$name: the lists of Debian's $suite could not be fetched"
}

# unpack_packages NAME DIRECTORY PACKAGE...: fetched and unpacked, never installed. apt checks what it fetches against
# the signature of the archive.
unpack_packages() {
  local name=$1 directory=$2 program file
  shift 2
  command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null ||
    die "$name cannot be had" \
      "it is not on PATH in a recent version, upstream's releases are out of reach, and there is no apt-get to ask for $*" \
      "put $name $(pin "$name" 4) or newer on PATH"
  say "$name: fetching $* (never installed)"
  local -a apt=(apt-get)
  other_release "$name" "$directory"
  (cd "$directory" && quietly "${apt[@]}" download "$@") || {
    # A machine that was never asked for a package has no lists.
    quietly update_packages || say "$name: the lists of packages could not be updated; trying with those at hand"
    (cd "$directory" && quietly "${apt[@]}" download "$@") ||
      die "apt-get could not download $*" \
        "$name is neither on PATH in a recent version nor could it be downloaded, so Debian 12's package was the last way" \
        "read apt's words above; put $name $(pin "$name" 4) or newer on PATH"
  }
  mkdir -p "$directory/bin" "$directory/unpacked"
  for file in "$directory"/*.deb; do
    dpkg-deb --extract "$file" "$directory/unpacked"
  done
  for program in $(programs "$name"); do
    mv "$directory/unpacked/usr/bin/$program" "$directory/bin/$program"
  done
  rm -rf "$directory/unpacked" "$directory/apt" "$directory"/*.deb
  echo "$(version_of "$directory/bin/etcd") from Debian's packages ($*), not upstream's binary" >"$directory/origin"
}

# --- from the Go module proxy ---

# build NAME DIRECTORY: builds the modules that ci/tools/NAME/go.mod pins.
build() {
  local name=$1 directory=$2 version
  check_go "$name"
  mkdir -p "$directory/bin"
  case $name in
    bosh)
      version=$(module_version "$name" github.com/cloudfoundry/bosh-cli/v7)
      say "$name: building $version from the Go module proxy (half a minute, once)"
      go_build "$name" "$directory/bin/bosh" github.com/cloudfoundry/bosh-cli/v7 \
        "-X github.com/cloudfoundry/bosh-cli/v7/cmd.VersionLabel=$version+built-from-the-go-module-proxy"
      ;;
    etcd-*)
      version=$(module_version "$name" go.etcd.io/etcd/server/v3)
      [[ $version == "$(pin "$name" 3)" ]] ||
        die "ci/tools/$name/go.mod pins $version, ci/tools/pins says $(pin "$name" 3)" \
          "a tool must be the same however it is obtained" \
          "move both pins to the same version"
      say "$name: building $version from the Go module proxy (a minute, once)"
      local program module
      for program in $(programs "$name"); do
        module=$program
        if [[ $program == etcd ]]; then module=server; fi
        go_build "$name" "$directory/bin/$program" "go.etcd.io/etcd/$module/v3" \
          "-X go.etcd.io/etcd/api/v3/version.GitSHA=built-from-the-go-module-proxy"
      done
      ;;
  esac
  echo "$version built from the Go module proxy (ci/tools/$name/go.mod), not upstream's binary" >"$directory/origin"
}

# module_version NAME MODULE: what the tool's go.mod pins, without the v.
module_version() {
  sed -n "s|^[[:space:]]*$2 v\([0-9.]*\).*|\1|p" "$root/ci/tools/$1/go.mod" | head -n 1
}

# go_build NAME OUTPUT PACKAGE VARIABLES
go_build() {
  CGO_ENABLED=0 go build -C "$root/ci/tools/$1" -mod=readonly -trimpath -buildvcs=false \
    -ldflags "-s -w $4" -o "$2" "$3" >&2 ||
    die "$3 could not be built" \
      "$1 is neither on PATH in a recent version nor could it be downloaded, so building it was the last way" \
      "read Go's words above; check GOPROXY, or put $1 $(pin "$1" 4) or newer on PATH"
}

# A newer Go than the one installed is fetched by Go itself unless GOTOOLCHAIN says local.
check_go() {
  local wanted found
  wanted=$(sed -n 's/^go //p' "$root/ci/tools/$1/go.mod")
  command -v go >/dev/null ||
    die "$1 cannot be had" \
      "it is not on PATH in a recent version, upstream's releases are out of reach, and there is no Go to build it with" \
      "put $1 $(pin "$1" 4) or newer on PATH, or install Go $wanted or newer from https://go.dev/dl"
  found=$(go env GOVERSION)
  at_least "${found#go}" "$wanted" || [[ $(go env GOTOOLCHAIN) != local ]] ||
    die "Go ${found#go} is too old" \
      "$1 has to be built here, and ci/tools/$1/go.mod asks for $wanted" \
      "install Go $wanted or newer from https://go.dev/dl"
}

# --- into .tools ---

# fill_cache NAME DIRECTORY
fill_cache() {
  local name=$1 directory=$2 work
  local -a packages
  mkdir -p "$tools_cache"
  work=$(mktemp --directory "$tools_cache/.$name-XXXXXX")
  # shellcheck disable=SC2064 # the folder of this call, whatever the variable holds at the end
  trap "rm -rf '$work'" EXIT
  # The steps stand in the branches, not in the condition: there, bash would ignore their failures.
  if download "$name" "$work"; then
    install_release "$name" "$work"
  else
    readarray -t packages < <(debian_packages "$name")
    if ((${#packages[@]} > 0)); then
      unpack_packages "$name" "$work" "${packages[@]}"
    else
      build "$name" "$work"
    fi
  fi
  chmod 0755 "$work"
  # Somebody else may have been faster; theirs is as good.
  mv --no-target-directory "$work" "$directory" 2>/dev/null || rm -rf "$work"
}

# link_tool NAME DIRECTORY: links to the programs in the cache, or to those of PATH if there is no directory.
link_tool() {
  local name=$1 directory=$2 program target
  mkdir -p "$root/.tools/$name/bin"
  for program in $(programs "$name"); do
    target=$directory/bin/$program
    if [[ -z $directory ]]; then target=$(elsewhere "$program"); fi
    link "$target" "$root/.tools/$name/bin/$program"
  done
}

# link TARGET LINK: replaces the link in one step, so that a test running meanwhile never misses it.
link() {
  [[ $(readlink "$2") == "$1" ]] && return
  ln --symbolic --force --no-dereference "$1" "$2.new"
  mv --no-target-directory "$2.new" "$2"
}
