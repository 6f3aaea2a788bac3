// Captions on the page.

import { clock, make } from "./words.js";

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

  /** Marks the utterances that reach into a range; with `reveal`, scrolls to the first of them. */
  mark(range, reveal = false) {
    let first = null;
    for (const { element, caption } of this.rows.values()) {
      const inside = caption.start < range.end && caption.end > range.start;
      element.classList.toggle("heard", inside);
      if (inside && (!first || caption.start < first.caption.start)) first = { element, caption };
    }
    if (!first || !reveal) return;
    this.follow(false);
    first.element.scrollIntoView({ block: "nearest" });
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
