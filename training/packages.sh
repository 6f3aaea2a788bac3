#!/usr/bin/env bash
# Installs what training speaks, plays and reads: Debian packages alone, and only what is missing. `held-out` adds the
# recordings that evaluation measures on. `--installed` installs nothing and prints those that are there.
set -euo pipefail

wanted=(wordnet-base fortunes dict-jargon flite espeak-ng festival festvox-kallpc16k festvox-kdlpc16k
  festvox-us-slt-hts fluidsynth fluid-soundfont-gm sonic-pi-samples
  beneath-a-steel-sky flight-of-the-amazon-queen drascula)
who=training
case "${1:-}" in
  held-out)
    wanted+=(asterisk-core-sounds-en asterisk-core-sounds-en-wav asterisk-core-sounds-fr-wav asterisk-core-sounds-it-wav)
    wanted+=(asterisk-core-sounds-ru-wav asterisk-prompt-it-menardi-wav)
    wanted+=(sound-theme-freedesktop gnome-audio frozen-bubble-data pingus-data)
    ;;
  --installed) who=--installed ;;
esac

exec "$(dirname "$0")/../scripts/debian-packages.sh" "$who" "${wanted[@]}"
