// Captions on the page, and as VTT, SRT and JSON.

import { clock, make } from "./words.js";

const LINE_CHARS = 42; // of a subtitle line; a cue has at most two
const NEAR_END_PX = 48;

/** The list of utterances. An utterance keeps its element from the first interim to its final text. */
export class CaptionList {
  constructor({ list, scroll, spoken, latest, onPick }) {
    Object.assign(this, { list, scroll, spoken, latest, onPick });
    this.rows = new Map();
    this.following = true;
    scroll.addEventListener("scroll", () => this.follow(this.nearEnd()));
    latest.addEventListener("click", () => { this.follow(true); this.toEnd(); });
    this.clear();
  }

  clear() {
    this.rows.clear();
    this.list.replaceChildren();
    this.spoken.replaceChildren();
    this.follow(true);
  }

  /** Final captions in the order of time. */
  finals() {
    const done = [...this.rows.values()].map((row) => row.caption).filter((caption) => caption.final && caption.text);
    return done.sort((a, b) => a.start - b.start);
  }

  update(caption) {
    let row = this.rows.get(caption.utterance);
    if (row?.caption.final) return;
    if (caption.final && !caption.text.trim()) { // nothing was said after all
      row?.element.remove();
      this.rows.delete(caption.utterance);
      return;
    }
    row ??= this.add(caption);
    row.caption = caption;
    draw(row, caption);
    if (caption.final) this.speak(caption.text);
    if (this.following) this.toEnd();
  }

  /** Gives up on utterances that will never be final, when the connection is lost. */
  freeze() {
    for (const { element, caption } of this.rows.values()) if (!caption.final) element.dataset.state = "lost";
  }

  add(caption) {
    const stable = make("span", { className: "stable" });
    const rest = make("span", { className: "rest" });
    const time = make("button", { type: "button", className: "time", textContent: clock(caption.start) });
    time.setAttribute("aria-label", `Show ${clock(caption.start)} on the timeline`);
    const text = make("p", {}, stable, rest);
    const element = make("li", {}, time, text);
    const row = { element, stable, rest, text, caption };
    time.addEventListener("click", () => this.onPick(row.caption));
    this.rows.set(caption.utterance, row);
    const later = [...this.rows.values()].find((other) => other.caption.utterance > caption.utterance);
    this.list.insertBefore(element, later?.element ?? null);
    return row;
  }

  speak(text) {
    this.spoken.append(make("p", { textContent: text }));
    while (this.spoken.childElementCount > 20) this.spoken.firstElementChild.remove();
  }

  nearEnd() {
    return this.scroll.scrollHeight - this.scroll.scrollTop - this.scroll.clientHeight < NEAR_END_PX;
  }

  follow(on) {
    this.following = on;
    this.latest.hidden = on;
  }

  toEnd() { this.scroll.scrollTop = this.scroll.scrollHeight; }
}

/** Touches only the text that changed; an interim never shrinks its row, so nothing jumps. */
function draw({ element, stable, rest, text }, caption) {
  const solid = caption.final ? caption.text : agreed(caption);
  if (stable.textContent !== solid) stable.textContent = solid;
  const loose = caption.text.slice(solid.length);
  if (rest.textContent !== loose) rest.textContent = loose;
  element.dataset.state = caption.final ? "final" : "open";
  element.dataset.utterance = caption.utterance;
  text.style.minHeight = caption.final ? "" : `${text.offsetHeight}px`;
}

const agreed = ({ text, stable = "" }) => (text.startsWith(stable) ? stable : "");

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

export function toVtt(captions) {
  const body = captions.flatMap(cues).map(
    ({ start, end, lines }) => `${stamp(start, ".")} --> ${stamp(end, ".")}\n${lines.map(escaped).join("\n")}\n`);
  return ["WEBVTT\n", ...body].join("\n");
}

export function toSrt(captions) {
  return captions.flatMap(cues).map(
    ({ start, end, lines }, at) => `${at + 1}\n${stamp(start, ",")} --> ${stamp(end, ",")}\n${lines.join("\n")}\n`).join("\n");
}

export function toJson(captions, extra) {
  const plain = captions.map(({ utterance, start, end, text }) => ({ utterance, start, end, text }));
  return `${JSON.stringify({ ...extra, captions: plain }, null, 2)}\n`;
}
