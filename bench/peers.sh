#!/usr/bin/env bash
# Installs WhisperLive into an environment of its own, without what it needs for a GPU, a microphone and OpenVINO:
# peers.sh FOLDER. It does nothing if the environment is complete. PYTHON names the interpreter.
set -euo pipefail

folder=$1
if [ -e "$folder/complete" ]; then
  exit 0
fi
torch=$(grep '^torch==' "$(dirname "$0")/../requirements.lock")
rm -rf "$folder"
"${PYTHON:-python3}" -m venv "$folder"
pip=("$folder/bin/pip" install --quiet --disable-pip-version-check)
"${pip[@]}" "$torch" faster-whisper==1.2.0 tokenizers==0.20.3 'numpy<2.5' scipy websockets fastapi uvicorn \
  python-multipart
"${pip[@]}" --no-deps whisper-live==0.10.0
touch "$folder/complete"
