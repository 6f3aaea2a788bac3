// The protocol's client: one session, over one connection after another. Audio waits here for the socket and for
// credit, and where the service keeps sessions, until it is on the service's disk.

import { encode } from "./base64.js";
import { Retained } from "./retained.js";

const SUBPROTOCOL = "af3stream.v1.json";
const TOKEN_PREFIX = "af3stream.token.";
const SOCKET_BYTES = 1 << 20; // unsent bytes in the browser's own buffer before audio waits here
const WAITING_S = 120; // unsent audio; what is captured beyond is lost
const PIECE_S = 1; // the most audio in one message
const LOW_S = 1; // a file hands over more below this
const PAUSES_MS = [250, 500, 1_000, 2_000, 4_000, 8_000]; // between attempts to connect again, the last one repeated
const GIVE_UP_MS = 300_000;
const DATA_LOSS = 4500;
const BAD_FORMAT = 4422;
const IDLE = 4408;
const FEATURES = ["answer_reach", "follow_ups", "caption_updates", "languages", "words", "speakers", "sounds"]; // of the protocol, that this page knows
const ASKED = ["ask", "watch", "flush"]; // said again over another connection, until they are settled

/**
 * Callbacks: `onMessage(message)` for every server message; `onLost(offset, frames)` for audio that never reaches the
 * service; `onReconnecting()` when a connection broke off that another one follows; `onClose({opened, ended, code,
 * reason})` once. All counts are sample frames from the session's start.
 *
 * `resume` goes on with a session as `kept()` told it; what it said is told again from its beginning.
 *
 * Attributes: `left` is a promise of the moment when it is over.
 */
export class Session {
  constructor({ token, start, resume, onMessage, onLost, onReconnecting, onClose }) {
    Object.assign(this, { token, start, onMessage, onLost, onReconnecting, onClose });
    Object.assign(this, { ready: null, greeted: false, opened: false, ended: false, ending: false, over: false, held: false });
    Object.assign(this, { resting: false, asleep: false });
    Object.assign(this, { sent: 0, received: 0, processed: 0, mended: 0, lastEvent: 0, attempts: 0 });
    this.again = resume?.token ?? "";
    this.audio = new Retained(resume?.begin);
    for (const { frames, samples } of resume?.pieces ?? []) samples ? this.audio.append(samples) : this.audio.appendLost(frames);
    this.asked = new Map(resume?.asked.map((request) => [request.id, request])); // without a reply yet; and watches
    this.waiting = [];
    this.left = new Promise((resolve) => { this.markLeft = resolve; });
    this.connect();
  }

  get rate() { return this.start.rate; }
  get captured_s() { return this.audio.end / this.rate; }
  get open() { return this.greeted && this.socket.readyState === WebSocket.OPEN; }
  get live() { return !this.over; }
  get keeps() { return Boolean(this.again); }
  get unsent() { return this.audio.end - this.sent; }

  /** What another page needs to go on with this session. */
  kept() {
    const { pieces, end } = this.audio;
    return { token: this.again, begin: pieces[0]?.offset ?? end, end, pieces, asked: [...this.asked.values()] };
  }

  connect() {
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    const offered = this.token ? [SUBPROTOCOL, TOKEN_PREFIX + this.token] : [SUBPROTOCOL];
    const socket = new WebSocket(`${scheme}//${location.host}/v1/stream`, offered);
    const resuming = this.again && { resume: this.again, last_event: this.lastEvent };
    socket.onopen = () => { this.opened = true; this.say({ type: "start", ...this.start, features: FEATURES, ...resuming }); };
    socket.onmessage = ({ data }) => this.receive(JSON.parse(data));
    socket.onclose = ({ code, reason }) => this.closed(code, reason);
    this.socket = socket;
  }

  /** Says a request, and says it again over another connection until it has its reply. */
  send(message) {
    if (ASKED.includes(message.type)) this.asked.set(message.id, message);
    if (message.type === "unwatch") this.asked.delete(message.id);
    this.wake();
    if (this.open) this.say(message);
  }

  say(message) { this.socket.send(JSON.stringify(message)); }

  /** Takes captured samples. What finds too much waiting is lost, and the service is told so. */
  push(samples) {
    if (this.unsent + samples.length <= WAITING_S * this.rate) this.audio.append(samples);
    else this.lose(samples.length);
    this.pump();
  }

  /** The next frames were not captured. */
  lose(frames) {
    this.onLost(this.audio.end, frames);
    this.audio.appendLost(frames);
    this.pump();
  }

  /** Resolves when little is waiting, so that a fast file neither floods memory nor outruns its credit. */
  drained() {
    if (this.unsent < LOW_S * this.rate || !this.live) return Promise.resolve();
    return new Promise((resolve) => { this.waiting.push(resolve); });
  }

  /**
   * No audio for now. Where the service keeps sessions, it may close the connection of one that is idle: another one is
   * made when something is asked.
   */
  rest() { this.resting = this.keeps; }

  wake() {
    if (!this.asleep) return;
    Object.assign(this, { asleep: false, lostSince: null, attempts: 0 });
    this.connect();
  }

  /** No more audio: `end` follows once everything has been sent. */
  end() {
    this.ending = true;
    this.wake();
    this.pump();
  }

  pump() {
    if (!this.open || this.held) return;
    while (this.unsent) {
      if (this.socket.bufferedAmount > SOCKET_BYTES) return this.hold(50);
      const credit = Math.floor(this.processed + this.ready.credit_s * this.rate) - this.sent;
      if (credit <= 0) break;
      this.sendPiece(this.audio.piece(this.sent, Math.min(credit, PIECE_S * this.rate)));
    }
    if (this.unsent < LOW_S * this.rate) this.release();
    if (this.ending && !this.unsent && !this.endSent) {
      this.endSent = true;
      this.say({ type: "end", total: this.sent });
    }
  }

  sendPiece({ offset, frames, samples }) {
    this.say(samples ? { type: "audio", offset, pcm: encode(samples) } : { type: "gap", offset, frames });
    this.sent = offset + frames;
    if (!this.keeps) this.audio.free(this.sent);
  }

  hold(ms) {
    this.held = true;
    setTimeout(() => { this.held = false; this.pump(); }, ms);
  }

  release() {
    for (const resolve of this.waiting.splice(0)) resolve();
  }

  receive(message) {
    if (this.resting && message.code === "idle_timeout") return;
    if (this.wordless(message)) return;
    if (message.event) {
      if (message.event <= this.lastEvent) return; // told again after a connection was lost
      this.lastEvent = message.event;
    }
    if (message.type === "ready") this.begin(message);
    if (message.type === "ack") this.acknowledged(message);
    if (message.type === "ended") this.ended = true;
    if (message.type === "error") this.refused(message);
    if (message.type === "answer" || message.type === "flushed") this.asked.delete(message.id);
    this.onMessage(message);
    this.pump();
  }

  /** Does without word times if the captioner has none; the connection that asked for them is closed. */
  wordless({ code }) {
    if (code !== "bad_format" || this.ready || !this.start.words) return false;
    this.start = { ...this.start, words: false };
    this.refusedWords = true;
    return true;
  }

  /** The session exists, or goes on where the service stands. */
  begin(message) {
    const ready = { resume: "", received: 0, processed: 0, durable: null, ...message }; // defaults are left out
    const resumed = this.again !== "";
    Object.assign(this, { ready, greeted: true, again: ready.resume, attempts: 0, lostSince: null, endSent: false, mended: 0 });
    if (!resumed) return;
    this.sent = ready.received;
    if (this.audio.end < ready.received) this.audio = new Retained(ready.received); // another page sent more
    if (ready.received < this.audio.begin) return this.socket.close(DATA_LOSS);
    this.acknowledged(ready);
    for (const message of this.asked.values()) this.say(message);
  }

  acknowledged({ received, processed, durable }) {
    Object.assign(this, { received, processed });
    if (this.keeps) this.audio.free(durable ?? received);
  }

  /** Audio the service refused is lost: it is declared once, so that what follows fits on. */
  refused({ code, ref, fatal, retry_after_ms: pause, expected_offset: expected }) {
    if (ref && !code.startsWith("engine_")) this.asked.delete(ref);
    this.retryAfter = fatal ? pause : null;
    if (code === "rate_limited" && !this.held) this.hold(pause ?? 500);
    if (expected == null || expected >= this.sent || expected < this.mended) return;
    this.onLost(expected, this.sent - expected);
    this.audio.lose(expected, this.sent);
    this.mended = this.sent;
    this.sent = expected;
  }

  closed(code, reason) {
    const final = [1000, 1002, 1003, 1007, 1009].includes(code) || (code >= 4400 && code !== 4408 && code !== 4429);
    this.greeted = false;
    if (this.over) return;
    if (this.refusedWords && code === BAD_FORMAT) {
      this.refusedWords = false;
      this.connect();
      return;
    }
    if (this.resting && code === IDLE) {
      this.asleep = true;
      return;
    }
    this.lostSince ??= performance.now();
    if (this.keeps && !this.ended && !final && performance.now() - this.lostSince < GIVE_UP_MS) {
      if (!this.attempts) this.onReconnecting();
      const pause = PAUSES_MS[Math.min(this.attempts, PAUSES_MS.length - 1)] * (0.75 + Math.random() / 2);
      this.attempts += 1;
      this.retrying = setTimeout(() => this.connect(), Math.max(pause, this.retryAfter ?? 0));
      return;
    }
    this.over = true;
    this.release();
    this.markLeft();
    this.onClose({ opened: this.opened, ended: this.ended, code, reason });
  }

  /** Leaves; nothing is told any more. */
  close() {
    this.over = true;
    clearTimeout(this.retrying);
    this.release();
    this.markLeft();
    this.socket.close(1000);
  }
}
