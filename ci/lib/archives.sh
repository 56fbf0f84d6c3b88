# The archives of etcd that become blobs of the release. Sourced, never run, after tools.sh.
# shellcheck shell=bash
#
# shellcheck disable=SC2154 # root is set by the script that sources this

# How tar writes an archive that depends on the content alone: bosh calls tar, too, and passes this on (TAR_OPTIONS).
# The modes of a checkout follow its user's umask.
reproducible=(--sort=name --mtime=1970-01-01T00:00:00Z --owner=0 --group=0 --numeric-owner --mode=u+rwX,go+rX,go-w)

# archive NAME DIRECTORY: leaves the archive of a tool that ci/setup made available there, and prints its path.
archive() {
  local name=$1 directory=$2
  mkdir -p "$directory"
  if upstream_reachable; then
    upstream_archive "$name" "$directory"
  else
    own_archive "$name" "$directory"
  fi
}

# upstream_archive NAME DIRECTORY: fetched once, checked each time.
upstream_archive() {
  local name=$1 directory=$2 url file checked
  url=$(release_url "$name")
  file=$(release_file "$name")
  if [[ ! -f $directory/$file ]]; then
    fetch "$url/$file" "$directory/$file.new" ||
      die "$url/$file cannot be fetched" \
        "GitHub is in reach, so nothing else is packed in its place" \
        "read curl's words above; run ci/release again later, or correct ci/tools/pins"
    mv "$directory/$file.new" "$directory/$file"
  fi
  checked=$(check_sum "$directory" "$file" "$url")
  say "$name: $file from $url, $checked"
  echo "$directory/$file"
}

# own_archive NAME DIRECTORY: of upstream's shape, from the programs at hand. Its name and a file ORIGIN in it tell that
# it is not upstream's.
own_archive() {
  local name=$1 directory=$2 origin version mark top
  origin=$(<"$root/.tools/$name/origin")
  case $origin in
    *' built from '*) mark=built ;;
    *' from Debian'*) mark=debian ;;
    *) mark=repacked ;;
  esac
  version=$(version_of "$root/.tools/$name/bin/etcd")
  top=etcd-v$version+$mark-linux-amd64
  rm -rf "${directory:?}/$top"
  mkdir "$directory/$top"
  cp "$root/.tools/$name/bin"/* "$directory/$top/"
  echo "$origin" >"$directory/$top/ORIGIN"
  # Quickly: such an archive is for machines without internet, and CI makes it often.
  tar --create "${reproducible[@]}" --directory "$directory" "$top" | gzip --no-name --fast >"$directory/$top.tar.gz"
  rm -r "${directory:?}/$top"
  say "$name: $top.tar.gz, NOT upstream's: $origin"
  echo "$directory/$top.tar.gz"
}
