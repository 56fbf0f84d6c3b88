# What a binary must be like to be shipped. Sourced, never run.
# shellcheck shell=bash

# Of the stemcells that are current, jammy has the oldest glibc.
glibc_of_stemcells=2.35

# needed_glibc FILE: the newest version of glibc's symbols that a binary asks for; nothing of a static one.
needed_glibc() {
  readelf --version-info --wide "$1" | sed -n 's/.*Name: GLIBC_\([0-9.]*\) .*/\1/p' | sort --version-sort | tail -n 1
}

# check_shipped FILE...: ends the script if one of them must not reach a VM.
check_shipped() {
  local file needed
  for file in "$@"; do
    if grep --quiet --text --fixed-strings ETCD_TOOLS_FAIL_POINT "$file"; then
      die "${file##*/} has fail points" \
        "anybody who may set a variable or write a file on a VM could make it die at a place of choice" \
        "build without the feature \`fail-points\` (ci/build does)"
    fi
    needed=$(needed_glibc "$file")
    [[ -z $needed ]] || at_least "$glibc_of_stemcells" "$needed" ||
      die "${file##*/} needs glibc $needed: $(newer_symbols "$file")" \
        "stemcells for Ubuntu jammy have $glibc_of_stemcells, where it would not even start" \
        "avoid those functions, or build on a machine with glibc $glibc_of_stemcells"
  done
}

# newer_symbols FILE: the symbols that the stemcells do not have.
newer_symbols() {
  local symbol version
  readelf --dyn-syms --wide "$1" | sed -n 's/.* \([^ ]*\)@GLIBC_\([0-9.]*\) .*/\1 \2/p' |
    while read -r symbol version; do
      at_least "$glibc_of_stemcells" "$version" || echo "$symbol"
    done | sort --unique | paste --serial --delimiters ' '
}
