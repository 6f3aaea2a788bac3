// What of a session outlives a reload of the page: it lies in this tab's sessionStorage, and nowhere else.
//
// Captions are told again by the service. Kept here are the session's token, the audio that is not on the service's
// disk yet, the questions and watches, and what the timeline drew. What is not captured while no page is there, and
// audio for which the storage has no room, is declared lost.

import { decode, encode } from "./base64.js";

const KEY = "af3stream.session";
const AUDIO_CHARS = 3_000_000; // 23 s at 48 kHz, 70 s at 16 kHz; browsers give a tab about 5 million
const LONGEST_AWAY_MS = 600_000;

/** Keeps `{start, kept, ...page}`; `kept` is what `Session.kept` told. */
export function save({ kept, ...page }) {
  if (!kept.token) return forget();
  try {
    store({ ...page, kept: { ...kept, pieces: packed(kept.pieces, AUDIO_CHARS) } });
  } catch { // the storage is full
    try {
      store({ ...page, kept: { ...kept, pieces: packed(kept.pieces, 0) } });
    } catch {
      forget();
    }
  }
}

/** What was kept, with `away_ms` since then; null where there is nothing, or it is too long ago. */
export function load() {
  const text = sessionStorage.getItem(KEY);
  if (!text) return null;
  const state = JSON.parse(text);
  const away_ms = Date.now() - state.at;
  if (away_ms > LONGEST_AWAY_MS) return forget();
  const pieces = state.kept.pieces.map(({ frames, pcm }) => ({ frames, samples: pcm && decode(pcm) }));
  return { ...state, away_ms, kept: { ...state.kept, pieces } };
}

export function forget() {
  sessionStorage.removeItem(KEY);
  return null;
}

function store(state) { sessionStorage.setItem(KEY, JSON.stringify({ at: Date.now(), ...state })); }

function packed(pieces, room) {
  return pieces.map(({ frames, samples }) => {
    const pcm = samples && room > 0 ? encode(samples) : "";
    room -= pcm.length;
    return room >= 0 && pcm ? { frames, pcm } : { frames };
  });
}
