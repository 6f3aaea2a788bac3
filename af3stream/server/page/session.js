// The protocol's client: one WebSocket, one session. Audio waits here for the socket and for credit.

const SUBPROTOCOL = "af3stream.v1.json";
const TOKEN_PREFIX = "af3stream.token.";
const SOCKET_BYTES = 1 << 20; // unsent bytes in the browser's own buffer before audio waits here
const QUEUE_S = 30; // audio that waits here before it is given up and declared as a gap
const LOW_S = 1; // a file hands over more below this

/**
 * Callbacks: `onMessage(message)` for every server message, `onClose({opened, ended, code, reason})` once.
 * `captured`, `sent`, `received` and `processed` count sample frames from the session's start.
 */
export class Session {
  constructor({ token, start, onMessage, onClose }) {
    Object.assign(this, { start, onMessage, onClose, ready: null, opened: false, ended: false, ending: false });
    Object.assign(this, { captured: 0, sent: 0, received: 0, processed: 0, queued: 0, healed: -1, held: false });
    this.queue = []; // Int16Array of samples, or a number of lost frames
    this.waiting = [];
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    const offered = token ? [SUBPROTOCOL, TOKEN_PREFIX + token] : [SUBPROTOCOL];
    this.socket = new WebSocket(`${scheme}//${location.host}/v1/stream`, offered);
    this.socket.onopen = () => { this.opened = true; this.send({ type: "start", ...start }); };
    this.socket.onmessage = ({ data }) => this.receive(JSON.parse(data));
    this.socket.onclose = ({ code, reason }) => this.closed(code, reason);
  }

  get rate() { return this.start.rate; }
  get lag_s() { return (this.received - this.processed) / this.rate; }
  get open() { return this.socket.readyState === WebSocket.OPEN; }

  send(message) {
    if (this.open) this.socket.send(JSON.stringify(message));
  }

  /** Takes captured samples. What finds the queue full is lost, and the service is told so. */
  push(samples) {
    this.captured += samples.length;
    if (this.queued + samples.length <= QUEUE_S * this.rate) {
      this.queue.push(samples);
      this.queued += samples.length;
    } else if (typeof this.queue.at(-1) === "number") {
      this.queue[this.queue.length - 1] += samples.length;
    } else {
      this.queue.push(samples.length);
    }
    this.pump();
  }

  /** Resolves when the queue is short, so that a fast file neither floods memory nor outruns its credit. */
  drained() {
    if (this.queued < LOW_S * this.rate || !this.live()) return Promise.resolve();
    return new Promise((resolve) => { this.waiting.push(resolve); });
  }

  /** No more audio: `end` follows once everything queued has been sent. */
  end() {
    this.ending = true;
    this.pump();
  }

  live() { return this.socket.readyState <= WebSocket.OPEN; }

  pump() {
    if (!this.ready || !this.open || this.held) return;
    while (this.queue.length) {
      if (this.socket.bufferedAmount > SOCKET_BYTES) return this.hold(50);
      const credit = this.processed + this.ready.credit_s * this.rate - this.sent;
      if (!(typeof this.queue[0] === "number" ? this.sendGap(credit) : this.sendAudio(credit))) break;
    }
    if (this.queued < LOW_S * this.rate) this.release();
    if (this.ending && !this.queue.length && !this.endSent) {
      this.endSent = true;
      this.send({ type: "end", total: this.sent });
    }
  }

  sendAudio(credit) {
    const samples = this.queue[0];
    if (samples.length > credit) return false;
    this.queue.shift();
    this.queued -= samples.length;
    this.send({ type: "audio", offset: this.sent, pcm: base64(samples) });
    this.sent += samples.length;
    return true;
  }

  sendGap(credit) {
    const frames = Math.min(this.queue[0], Math.floor(credit));
    if (frames <= 0) return false;
    this.send({ type: "gap", offset: this.sent, frames });
    this.sent += frames;
    this.queue[0] -= frames;
    if (!this.queue[0]) this.queue.shift();
    return true;
  }

  hold(ms) {
    this.held = true;
    setTimeout(() => { this.held = false; this.pump(); }, ms);
  }

  release() {
    for (const resolve of this.waiting.splice(0)) resolve();
  }

  receive(message) {
    if (message.type === "ready") this.ready = message;
    if (message.type === "ack") ({ received: this.received, processed: this.processed } = message);
    if (message.type === "ended") this.ended = true;
    if (message.type === "error") this.recover(message);
    this.onMessage(message);
    this.pump();
  }

  /** Audio the service refused is lost: it is declared once, so that what follows fits on. */
  recover({ code, retry_after_ms: pause, expected_offset: expected }) {
    if (code === "rate_limited" && !this.held) this.hold(pause ?? 500);
    if (expected == null || expected >= this.sent || expected === this.healed) return;
    this.healed = expected;
    this.send({ type: "gap", offset: expected, frames: this.sent - expected });
  }

  closed(code, reason) {
    this.release();
    this.onClose({ opened: this.opened, ended: this.ended, code, reason });
  }

  close() { this.socket.close(1000); }
}

function base64(samples) {
  const bytes = new Uint8Array(samples.buffer, samples.byteOffset, samples.byteLength); // browsers run little-endian
  let text = "";
  for (let at = 0; at < bytes.length; at += 4_096) text += String.fromCharCode(...bytes.subarray(at, at + 4_096));
  return btoa(text);
}
