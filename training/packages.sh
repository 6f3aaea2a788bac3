#!/usr/bin/env bash
# Installs what training speaks, plays and reads: Debian packages alone, and only what is missing. `held-out` adds the
# recordings that evaluation measures on.
set -euo pipefail

wanted=(wordnet-base fortunes dict-jargon flite espeak-ng festival festvox-kallpc16k festvox-kdlpc16k
  festvox-us-slt-hts fluidsynth fluid-soundfont-gm sonic-pi-samples
  beneath-a-steel-sky flight-of-the-amazon-queen drascula)
[ "${1:-}" = held-out ] && wanted+=(asterisk-core-sounds-en asterisk-core-sounds-en-wav)

missing=()
for package in "${wanted[@]}"; do
  dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

as_root=()
[ "$(id -u)" -eq 0 ] || as_root=(sudo)
if ! command -v apt-get >/dev/null; then
  echo "training needs these packages of Debian or Ubuntu: ${missing[*]}" >&2
  exit 2
fi
echo "installing ${missing[*]}"
"${as_root[@]}" apt-get update -qq
DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
