// Captions on the page.

import { clock, make } from "./words.js";

const NEAR_END_PX = 48;

/** The list of utterances. An utterance keeps its element from the first interim to its final text. */
export class CaptionList {
  constructor({ list, scroll, spoken, latest, onPick, onWord, speakers }) {
    Object.assign(this, { list, scroll, spoken, latest, onPick, speakers });
    this.rows = new Map();
    this.following = true;
    scroll.addEventListener("scroll", () => this.follow(this.nearEnd()));
    latest.addEventListener("click", () => { this.follow(true); this.toEnd(); });
    new ResizeObserver(() => { if (this.following) this.toEnd(); }).observe(scroll); // a phone that is turned
    list.addEventListener("keydown", (event) => this.step(event));
    list.addEventListener("focusin", ({ target }) => this.stopAt(target));
    list.addEventListener("click", ({ target }) => target.matches(".word") && onWord(Number(target.dataset.start)));
    this.clear();
  }

  clear() {
    this.rows.clear();
    this.stop = null;
    this.now = null;
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
      if (row) this.remove(row);
      return;
    }
    row ??= this.add(caption);
    row.caption = caption;
    this.draw(row);
    if (caption.final) this.speak(caption.text);
    if (this.following) this.toEnd();
  }

  /** Puts other words, or another speaker, in the place of a final caption's; one without words goes. */
  correct({ type, utterance, ...changes }) {
    const row = this.rows.get(utterance);
    if (!row) return;
    row.caption = { ...row.caption, ...(type === "caption_update" && { words: [] }), ...changes };
    if (row.caption.text.trim()) this.draw(row);
    else this.remove(row);
  }

  /** Adds a sound that is no speech, in its place, under a negative number. One that is told again replaces the first. */
  addSound({ text, start, end }) {
    const utterance = -1 - Math.round(start * 1_000);
    const row = this.rows.get(utterance) ?? this.add({ utterance, text, start, end, final: true });
    row.element.classList.add("sound");
    this.draw(row);
    if (this.following) this.toEnd();
  }

  /** Draws a row, and who speaks in it and in the next one: a turn is labelled once. */
  draw(row) {
    draw(row, row.caption);
    for (const element of [row.element, row.element.nextElementSibling]) {
      const drawn = this.row(element);
      if (drawn) this.speakers.show(drawn.speaker, drawn.caption.speaker, this.row(element.previousElementSibling)?.caption.speaker);
    }
  }

  row(element) { return element && this.rows.get(Number(element.dataset.utterance)); }

  /** Marks the utterances that reach into a range; with `reveal`, scrolls to the first of them. */
  mark(range, reveal = false) {
    let first = null;
    for (const row of this.rows.values()) {
      const inside = row.caption.start < range.end && row.caption.end > range.start;
      row.element.classList.toggle("heard", inside);
      if (inside && (!first || row.caption.start < first.caption.start)) first = row;
    }
    if (!first || !reveal) return;
    this.stopAt(first.time);
    first.element.scrollIntoView({ block: "nearest" });
    this.follow(this.nearEnd());
  }

  /** Marks the word that is said at so many seconds, and scrolls to it; null: none. */
  markWord(seconds) {
    const said = ({ start, end }) => seconds !== null && start <= seconds && seconds < end;
    const row = [...this.rows.values()].find(({ caption }) => said(caption));
    const words = [...(row?.element.querySelectorAll(".word") ?? [])];
    const now = words.find(({ dataset }) => said({ start: Number(dataset.start), end: Number(dataset.end) })) ?? null;
    if (now === this.now) return;
    this.now?.classList.remove("now");
    now?.classList.add("now");
    now?.scrollIntoView({ block: "nearest" });
    this.now = now;
  }

  /** Gives up on utterances that will never be final, when the connection is lost. */
  freeze() {
    for (const { element, caption } of this.rows.values()) if (!caption.final) element.dataset.state = "lost";
  }

  add(caption) {
    const stable = make("span", { className: "stable" });
    const rest = make("span", { className: "rest" });
    const time = make("button", { type: "button", className: "time", tabIndex: -1, textContent: clock(caption.start) });
    time.setAttribute("aria-label", `Show ${clock(caption.start)} on the timeline`);
    const text = make("p", {}, stable, rest);
    const speaker = this.speakers.label();
    const translation = make("div", { className: "translation", lang: "en", hidden: true });
    const element = make("li", {}, time, make("div", {}, speaker, text, translation));
    element.dataset.utterance = caption.utterance;
    const row = { element, time, stable, rest, text, speaker, translation, caption };
    time.addEventListener("click", () => this.onPick(row.caption));
    this.rows.set(caption.utterance, row);
    const [later] = [...this.rows.values()].filter((other) => other.caption.start > caption.start).sort((a, b) => a.caption.start - b.caption.start);
    this.list.insertBefore(element, later?.element ?? null);
    if (this.following && !this.list.contains(document.activeElement)) this.stopAt(this.times().at(-1));
    return row;
  }

  remove({ element, time, speaker, caption }) {
    this.speakers.forget(speaker);
    const focused = element.contains(document.activeElement);
    element.remove();
    this.rows.delete(caption.utterance);
    if (time !== this.stop) return;
    this.stopAt(this.times().at(-1) ?? null);
    if (focused) this.stop?.focus();
  }

  times() { return [...this.list.querySelectorAll(".time")]; }

  /** The times are one tab stop: the newest, or the one that somebody has gone to. */
  stopAt(time) {
    if (this.stop) this.stop.tabIndex = -1;
    this.stop = time;
    if (time) time.tabIndex = 0;
  }

  /** Arrow keys go from one time to the next, Home and End to the first and the last. */
  step(event) {
    const times = this.times();
    const now = times.indexOf(event.target);
    const [next, before] = [now + 1, now - 1];
    const keys = { ArrowDown: next, ArrowRight: next, ArrowUp: before, ArrowLeft: before, Home: 0, End: times.length - 1 };
    if (now < 0 || !(event.key in keys)) return;
    event.preventDefault();
    times[keys[event.key]]?.focus();
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
function draw({ element, stable, rest, text, translation }, caption) {
  const solid = caption.final ? caption.text : agreed(caption);
  if (caption.words?.length) stable.replaceChildren(...inWords(caption));
  else if (stable.textContent !== solid) stable.textContent = solid;
  const loose = caption.text.slice(solid.length);
  if (rest.textContent !== loose) rest.textContent = loose;
  element.dataset.state = caption.final ? "final" : "open";
  text.lang = caption.language ?? "";
  translation.textContent = caption.translation ?? "";
  translation.hidden = !caption.translation;
  text.style.minHeight = caption.final ? "" : `${text.offsetHeight}px`;
}

const agreed = ({ text, stable = "" }) => (text.startsWith(stable) ? stable : "");

/** The text of a caption, each word an element of its own; whole if its words are not found in it. */
function inWords({ text, words }) {
  const parts = [];
  let at = 0;
  for (const { text: word, start, end } of words) {
    const begin = text.indexOf(word, at);
    if (begin < 0) return [text];
    const element = make("span", { className: "word", textContent: word });
    Object.assign(element.dataset, { start, end });
    parts.push(text.slice(at, begin), element);
    at = begin + word.length;
  }
  return [...parts, text.slice(at)];
}
