// Final captions as VTT, SRT and JSON files.

import { cues } from "./cues.js";

function stamp(ms, point) {
  const part = (value, digits = 2) => String(Math.floor(value)).padStart(digits, "0");
  return `${part(ms / 3_600_000)}:${part((ms / 60_000) % 60)}:${part((ms / 1_000) % 60)}${point}${part(ms % 1_000, 3)}`;
}

const escaped = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
const block = ({ start, end }, point, text) => `${stamp(start, point)} --> ${stamp(end, point)}\n${text}\n\n`;

const voice = ({ speaker, text }) => `${speaker && `<v ${escaped(speaker)}>`}${escaped(text)}`;
const named = ({ speaker, begins, text }) => `${speaker && begins ? `${speaker}: ` : ""}${text}`;

/** A WebVTT file. */
export const toVtt = (captions) => `WEBVTT\n\n${cues(captions).map((cue) => block(cue, ".", voice(cue))).join("")}`;

/** A SubRip file. */
export const toSrt = (captions) => cues(captions).map((cue, at) => `${at + 1}\n${block(cue, ",", named(cue))}`).join("");

function toJson(captions, extra) {
  const plain = captions.map(({ utterance, start, end, text, speaker, name, language, translation, words }) => (
    { utterance: Math.max(-1, utterance), start, end, text, speaker, name, language, translation, words }
  ));
  return `${JSON.stringify({ ...extra, captions: plain }, null, 2)}\n`;
}

/** Hands the person a file: `kind` is `vtt`, `srt` or `json`; `extra` goes into the JSON. */
export function download(kind, captions, extra) {
  const [text, type] = {
    vtt: () => [toVtt(captions), "text/vtt"],
    srt: () => [toSrt(captions), "application/x-subrip"],
    json: () => [toJson(captions, extra), "application/json"],
  }[kind]();
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = `captions.${kind}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
