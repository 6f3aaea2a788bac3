// The session drawn on one canvas: waveform, speech, utterances, windows, what was left out or lost, and the range an
// answer heard. Pointer and arrow keys pick utterances.

import { clock } from "./words.js";

const BIN_S = 0.05; // one stored peak
const RECENT_S = 60;
const SHORTEST_S = 30;
const BAR_PX = 3;
const STEPS_S = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600];
const COLOURS = ["soft", "muted", "line", "accent", "tint", "problem"];
const HATCH_PX = 7;
const SHORTEST_SKIP_S = 0.3; // windows touch nearly: what lies between is not worth a mark

export class Timeline {
  constructor(canvas, onPick) {
    Object.assign(this, { canvas, onPick, view: "all" });
    this.clear();
    canvas.addEventListener("click", (event) => this.pickAt(event));
    canvas.addEventListener("keydown", (event) => this.step(event));
    new ResizeObserver(() => this.refresh()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.refresh());
  }

  clear() {
    Object.assign(this, { peaks: [], bin: 0, binned: 0, frames: 0, rate: 1, picked: null });
    Object.assign(this, { speech: [], windows: [], lost: [], utterances: new Map(), total_s: null });
    this.refresh();
  }

  get duration_s() { return this.frames / this.rate; }

  addSamples(samples, rate) {
    this.rate = rate;
    this.frames += samples.length;
    const frames = rate * BIN_S;
    for (const sample of samples) {
      this.bin = Math.max(this.bin, Math.abs(sample));
      this.binned += 1;
      if (this.binned >= frames) {
        this.peaks.push(this.bin / 32_768);
        this.bin = 0;
        this.binned -= frames;
      }
    }
    this.refresh();
  }

  /** Frames that were never heard; the timeline goes on over them. */
  addLost(start, end, rate) {
    const missing = Math.round(end * rate) - this.frames;
    if (missing > 0) this.addSamples(new Int16Array(missing), rate);
    this.lost.push({ start, end });
    this.refresh();
  }

  /** All audio has come: what no window heard by now was left out. */
  finish(total_s) { this.total_s = total_s; this.refresh(); }

  /** What outlives a reload. */
  kept() {
    const { frames, rate, speech, windows, lost } = this;
    return { frames, rate, speech, windows, lost, peaks: this.peaks.map((peak) => Math.round(peak * 255)) };
  }

  restore({ peaks, ...kept }) {
    Object.assign(this, kept, { peaks: peaks.map((peak) => peak / 255) });
    this.refresh();
  }

  /** Stretches that no window heard: the voice detector found nothing in them. */
  skipped() {
    const edges = [{ end: 0 }, ...this.windows, ...(this.total_s === null ? [] : [{ start: this.total_s }])];
    const between = edges.slice(1).map(({ start }, at) => ({ start: edges[at].end, end: start }));
    return between.filter(({ start, end }) => end - start >= SHORTEST_SKIP_S);
  }

  addSpeech({ state, at }) {
    if (state === "started") this.speech.push({ start: at, end: null });
    else if (this.speech.length) this.speech.at(-1).end = at;
    this.refresh();
  }

  addWindow(window) { this.windows.push(window); this.refresh(); }
  setUtterance(caption) { this.utterances.set(caption.utterance, caption); this.refresh(); }
  setView(view) { this.view = view; this.refresh(); }

  /** Marks a range (or nothing); whether it can be seen is the caller's to arrange by the view. */
  pick(range) { this.picked = range; this.refresh(); }
  shows({ start }) { return start >= this.span().start; }

  pickAt({ offsetX }) {
    const { start, end } = this.span();
    const at = start + (offsetX / this.canvas.clientWidth) * (end - start);
    const hit = this.withWords().find((utterance) => at >= utterance.start && at <= utterance.end);
    if (hit) this.onPick(hit);
  }

  /** Arrow keys go from utterance to utterance, Home and End to the first and the last. */
  step(event) {
    const all = this.withWords();
    const now = all.findIndex(({ start, end }) => start === this.picked?.start && end === this.picked?.end);
    const to = { ArrowRight: now + 1, ArrowLeft: now < 0 ? all.length - 1 : now - 1, Home: 0, End: all.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    if (all[to]) this.onPick(all[to]);
  }

  withWords() {
    return [...this.utterances.values()].filter(({ text }) => text).sort((a, b) => a.start - b.start);
  }

  span() {
    const end = Math.max(this.duration_s, SHORTEST_S);
    if (this.view === "all") return { start: 0, end };
    const last = Math.max(end, RECENT_S);
    return { start: last - RECENT_S, end: last };
  }

  refresh() {
    if (this.pending) return;
    this.pending = true;
    requestAnimationFrame(() => { this.pending = false; this.draw(); });
  }

  draw() {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    const ratio = window.devicePixelRatio || 1;
    const [deviceWidth, deviceHeight] = [Math.round(width * ratio), Math.round(height * ratio)];
    if (this.canvas.width !== deviceWidth) this.canvas.width = deviceWidth;
    if (this.canvas.height !== deviceHeight) this.canvas.height = deviceHeight;
    const style = getComputedStyle(this.canvas);
    const colours = Object.fromEntries(COLOURS.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
    const pen = this.canvas.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, height);
    pen.font = `11px ${style.fontFamily}`;
    const { start, end } = this.span();
    const x = (seconds) => ((seconds - start) / (end - start)) * width;
    const room = { pen, x, colours, start, end, width, wave: { top: 8, height: height - 62 }, rows: height - 46, axis: height - 6 };
    this.drawSkipped(room);
    this.drawRange(room);
    this.drawWave(room);
    this.drawLost(room);
    this.drawUtterances(room);
    this.drawWindows(room);
    this.drawAxis(room);
    this.describe();
  }

  drawRange({ pen, x, colours, rows }) {
    if (!this.picked) return;
    const [from, to] = [x(this.picked.start), x(this.picked.end)];
    pen.fillStyle = colours.tint;
    pen.beginPath();
    pen.roundRect(from, 0, Math.max(3, to - from), rows + 24, 6);
    pen.fill();
    pen.strokeStyle = colours.accent;
    pen.lineWidth = 1.5;
    pen.stroke();
  }

  /** Hatched, with how long it is where that fits. */
  drawSkipped({ pen, x, colours, rows }) {
    for (const range of this.skipped()) {
      const [from, to] = [x(range.start), x(range.end)];
      pen.save();
      pen.beginPath();
      pen.rect(from, 0, to - from, rows + 23);
      pen.clip();
      pen.strokeStyle = colours.line;
      pen.lineWidth = 1.5;
      pen.beginPath();
      for (let at = from - rows - 23; at < to; at += HATCH_PX) {
        pen.moveTo(at, rows + 23);
        pen.lineTo(at + rows + 23, 0);
      }
      pen.stroke();
      pen.restore();
      pen.fillStyle = colours.soft;
      if (to - from > 74) pen.fillText(`left out ${(range.end - range.start).toFixed(0)} s`, from + 6, rows + 19);
    }
  }

  drawLost({ pen, x, colours, rows }) {
    for (const { start, end } of this.lost) {
      const [from, wide] = [x(start), Math.max(2, x(end) - x(start))];
      pen.fillStyle = colours.problem;
      pen.globalAlpha = 0.18;
      pen.fillRect(from, 0, wide, rows);
      pen.globalAlpha = 1;
      pen.fillRect(from, rows, wide, 3);
    }
  }

  /** One bar every few pixels, as tall as the loudest sample under it; accent where speech was detected. */
  drawWave({ pen, x, colours, start, end, width, wave }) {
    const middle = wave.top + wave.height / 2;
    const per = (end - start) / width;
    const bars = Math.ceil(Math.min(x(this.duration_s), width) / BAR_PX);
    let stretch = 0; // of speech: the first that has not ended before the bar
    for (let bar = 0; bar < bars; bar += 1) {
      const at = start + bar * BAR_PX * per;
      const first = Math.floor(at / BIN_S);
      const last = Math.max(first + 1, Math.floor((at + BAR_PX * per) / BIN_S));
      let peak = 0;
      for (let bin = first; bin < last; bin += 1) peak = Math.max(peak, this.peaks[bin] ?? 0);
      const tall = Math.max(1.5, Math.sqrt(peak) * wave.height); // the root lifts quiet speech into view
      while (stretch < this.speech.length && (this.speech[stretch].end ?? Infinity) <= at) stretch += 1;
      pen.fillStyle = this.speech[stretch]?.start <= at ? colours.accent : colours.muted;
      pen.fillRect(bar * BAR_PX, middle - tall / 2, BAR_PX - 1, tall);
    }
    pen.fillStyle = colours.line;
    pen.fillRect(Math.max(0, bars * BAR_PX), middle - 0.5, width, 1);
  }

  drawUtterances({ pen, x, colours, rows }) {
    for (const { start, end, final } of this.utterances.values()) {
      pen.globalAlpha = final ? 1 : 0.4;
      pen.fillStyle = colours.accent;
      pen.fillRect(x(start), rows, Math.max(2, x(end) - x(start) - 2), 3);
    }
    pen.globalAlpha = 1;
  }

  drawWindows({ pen, x, colours, rows }) {
    for (const { index, start, end } of this.windows) {
      const [from, wide] = [x(start), Math.max(3, x(end) - x(start) - 2)];
      pen.fillStyle = colours.tint;
      pen.strokeStyle = colours.accent;
      pen.lineWidth = 1;
      pen.beginPath();
      pen.roundRect(from + 0.5, rows + 7.5, wide - 1, 15, 4);
      pen.fill();
      pen.stroke();
      pen.fillStyle = colours.accent;
      const label = wide > 84 ? `window ${index + 1}` : String(index + 1);
      if (wide > 16) pen.fillText(label, from + 6, rows + 19);
    }
  }

  drawAxis({ pen, x, colours, start, end, width, axis }) {
    const step = STEPS_S.find((seconds) => ((seconds / (end - start)) * width) > 64) ?? STEPS_S.at(-1);
    pen.fillStyle = colours.soft;
    for (let at = Math.ceil(start / step) * step; x(at) < width - 28; at += step) {
      pen.fillText(clock(at), x(at) + (at ? -pen.measureText(clock(at)).width / 2 : 0), axis);
    }
  }

  /** The canvas is a slider over utterances: its value is the one that is picked. */
  describe() {
    const set = (name, value) => { if (this.canvas.getAttribute(name) !== String(value)) this.canvas.setAttribute(name, value); };
    if (!this.frames) return set("aria-label", "Timeline: no audio yet");
    const many = (count, what) => (count ? `, ${count} ${what}${count === 1 ? "" : "s"}` : "");
    const total = (ranges) => ranges.reduce((sum, { start, end }) => sum + end - start, 0);
    const parts = [`Timeline: ${clock(Math.floor(this.duration_s / 10) * 10)} of audio`, many(this.utterances.size, "utterance")];
    const [skipped, lost] = [Math.round(total(this.skipped())), Math.ceil(total(this.lost))];
    parts.push(many(this.windows.length, "closed window"));
    parts.push(skipped ? `${many(skipped, "second")} left out` : "", lost ? `${many(lost, "second")} lost` : "");
    set("aria-label", parts.join(""));
    set("aria-valuemax", Math.ceil(this.duration_s));
    set("aria-valuenow", Math.floor(this.picked?.start ?? 0));
    const { start, end, text } = this.picked ?? {};
    set("aria-valuetext", this.picked ? `${clock(start)} to ${clock(end)}${text ? `: ${text}` : ""}` : "nothing picked");
  }
}
