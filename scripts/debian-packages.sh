#!/usr/bin/env bash
# Installs the named Debian packages that are missing: debian-packages.sh WHO PACKAGE...
# With --installed instead of WHO it installs nothing, and prints the installed ones, or "none".
set -euo pipefail

who=$1
shift
present=() missing=()
for package in "$@"; do
  if dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed'; then
    present+=("$package")
  else
    missing+=("$package")
  fi
done

if [ "$who" = --installed ]; then
  echo "${present[*]:-none}"
  exit 0
fi
[ ${#missing[@]} -eq 0 ] && exit 0
if ! command -v apt-get >/dev/null; then
  echo "$who needs these packages of Debian or Ubuntu: ${missing[*]}" >&2
  exit 2
fi
as_root=()
[ "$(id -u)" -eq 0 ] || as_root=(sudo)
echo "$who needs Debian packages that are missing. Installing them${as_root:+ with sudo}: ${missing[*]}"
"${as_root[@]}" apt-get update -qq
DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
