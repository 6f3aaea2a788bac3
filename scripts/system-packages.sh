#!/usr/bin/env bash
# Installs what the tests need beyond Python: Chromium and PortAudio. Only what is missing; Debian and Ubuntu.
set -euo pipefail

PATH=$PATH:/sbin:/usr/sbin
missing=()
command -v chromium >/dev/null || missing+=(chromium)
ldconfig -p | grep libportaudio.so.2 >/dev/null || missing+=(libportaudio2)
[ ${#missing[@]} -eq 0 ] && exit 0

as_root=()
[ "$(id -u)" -eq 0 ] || as_root=(sudo)
if ! command -v apt-get >/dev/null; then
  echo "the tests need ${missing[*]}; install them with this system's own package manager" >&2
  exit 2
fi
echo "installing ${missing[*]}"
"${as_root[@]}" apt-get update -qq
DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
