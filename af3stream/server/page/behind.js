// How far captions are behind what is said: speech that was captured and has no caption yet. Silence is never behind.

const DUE_S = 1; // an utterance's last caption may end so much before its speech does

export class Behind {
  constructor() {
    this.clear();
  }

  clear() {
    this.waiting = []; // speech without all of its captions: from, to; the open one to infinity
    this.shown_s = 0; // up to where speech has its captions
  }

  /** Takes in one message of the service; `rate` is the session's. */
  hear(message, rate) {
    if (message.type === "speech") {
      if (message.state === "started") this.waiting.push({ start: message.at, end: Infinity });
      else if (this.waiting.length) this.waiting.at(-1).end = message.at;
    }
    if (message.type === "caption") this.shown_s = Math.max(this.shown_s, message.end);
    if (message.type === "ack") this.shown_s = Math.max(this.shown_s, message.processed / rate);
    while (this.waiting[0]?.end <= this.shown_s + DUE_S) this.waiting.shift();
  }

  /** Seconds since the oldest speech without a caption, where so many were captured. */
  seconds(captured_s) {
    return this.waiting.length ? Math.max(0, captured_s - Math.max(this.waiting[0].start, this.shown_s)) : 0;
  }
}
