#!/usr/bin/env bash
# Installs the missing Debian packages that the tests need: a browser; PortAudio, with PulseAudio as its microphone; an X
# server, a window manager and the libraries of Qt; FFmpeg. `--installed` installs nothing, and prints the installed ones.
set -euo pipefail

wanted=(chromium ffmpeg libportaudio2 pulseaudio pulseaudio-utils libasound2-plugins openssl
  xvfb x11-utils openbox xdotool at-spi2-core dbus-x11 libegl1 libgl1 libxkbcommon-x11-0 libxcb-cursor0 libxcb-icccm4
  libxcb-keysyms1 libxcb-shape0 libxcb-render-util0 libxcb-image0 libdbus-1-3)

exec "$(dirname "$0")/debian-packages.sh" "${1:-make test}" "${wanted[@]}"
