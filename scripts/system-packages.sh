#!/usr/bin/env bash
# Installs what the tests need beyond Python: a browser; PortAudio and a PulseAudio to be its microphone; an X server,
# a window manager and what Qt links to; FFmpeg. Debian packages, and only what is missing.
set -euo pipefail

wanted=(chromium ffmpeg libportaudio2 pulseaudio pulseaudio-utils libasound2-plugins openssl
  xvfb x11-utils openbox xdotool at-spi2-core dbus-x11 libegl1 libgl1 libxkbcommon-x11-0 libxcb-cursor0 libxcb-icccm4
  libxcb-keysyms1 libxcb-shape0 libxcb-render-util0 libxcb-image0 libdbus-1-3)

if ! command -v dpkg-query >/dev/null; then
  echo "the tests need what these packages of Debian or Ubuntu hold: ${wanted[*]}" >&2
  exit 2
fi
missing=()
for package in "${wanted[@]}"; do
  dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

as_root=()
[ "$(id -u)" -eq 0 ] || as_root=(sudo)
echo "installing ${missing[*]}"
"${as_root[@]}" apt-get update -qq
DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
