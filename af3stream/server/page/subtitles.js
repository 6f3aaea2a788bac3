// Final captions as VTT, SRT and JSON.

const LINE_CHARS = 42; // of a subtitle line; a cue has at most two

/** Cuts one caption into cues of at most two lines, sharing its time by characters. */
function cues({ text, start, end }) {
  const lines = [];
  for (const word of text.trim().split(/\s+/)) {
    const last = lines.at(-1);
    if (last !== undefined && last.length + word.length < LINE_CHARS) lines[lines.length - 1] = `${last} ${word}`;
    else lines.push(word);
  }
  const chars = lines.reduce((sum, line) => sum + line.length, 0);
  const made = [];
  for (let at = 0, from = start; at < lines.length; at += 2) {
    const pair = lines.slice(at, at + 2);
    const to = at + 2 >= lines.length ? end : from + ((end - start) * pair.join("").length) / chars;
    made.push({ start: from, end: to, lines: pair });
    from = to;
  }
  return made;
}

function stamp(seconds, comma) {
  const ms = Math.round(seconds * 1000);
  const part = (value, digits = 2) => String(Math.floor(value)).padStart(digits, "0");
  return `${part(ms / 3_600_000)}:${part((ms / 60_000) % 60)}:${part((ms / 1000) % 60)}${comma}${part(ms % 1000, 3)}`;
}

const escaped = (line) => line.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");

function toVtt(captions) {
  const body = captions.flatMap(cues).map(
    ({ start, end, lines }) => `${stamp(start, ".")} --> ${stamp(end, ".")}\n${lines.map(escaped).join("\n")}\n`);
  return ["WEBVTT\n", ...body].join("\n");
}

function toSrt(captions) {
  return captions.flatMap(cues).map(
    ({ start, end, lines }, at) => `${at + 1}\n${stamp(start, ",")} --> ${stamp(end, ",")}\n${lines.join("\n")}\n`).join("\n");
}

function toJson(captions, extra) {
  const plain = captions.map(({ utterance, start, end, text }) => ({ utterance, start, end, text }));
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
