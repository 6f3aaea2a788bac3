#!/usr/bin/env bash
# Installs the missing Debian packages with the voices, sounds and texts of training. `held-out` adds the recordings of
# evaluation. `--installed` installs nothing, and prints the installed ones.
set -euo pipefail

wanted=(wordnet-base fortunes dict-jargon flite espeak-ng festival festvox-kallpc16k festvox-kdlpc16k
  festvox-us-slt-hts fluidsynth fluid-soundfont-gm sonic-pi-samples
  beneath-a-steel-sky flight-of-the-amazon-queen drascula)
who=training
case "${1:-}" in
  held-out)
    for language in en es fr it ru; do
      wanted+=("asterisk-core-sounds-$language" "asterisk-core-sounds-$language-wav")
    done
    wanted+=(asterisk-prompt-it-menardi-wav)
    wanted+=(sound-theme-freedesktop gnome-audio frozen-bubble-data pingus-data)
    ;;
  --installed) who=--installed ;;
esac

exec "$(dirname "$0")/../scripts/debian-packages.sh" "$who" "${wanted[@]}"
