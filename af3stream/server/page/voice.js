// What the microphone gives: speech, quiet, or nothing at all.

const MUTED_S = 3; // nothing but zeros for so long: no open microphone is so quiet

export class Voice {
  constructor(element) {
    this.element = element;
    this.clear();
  }

  clear() {
    Object.assign(this, { zeros: 0, muted: false, speaking: false });
    this.show();
  }

  speech({ state }) {
    this.speaking = state === "started";
    this.show();
  }

  /** Takes in what was captured, at `rate` samples a second. */
  hear(samples, rate) {
    this.zeros = samples.some((sample) => sample) ? 0 : this.zeros + samples.length;
    const muted = this.zeros >= MUTED_S * rate;
    if (muted === this.muted) return;
    this.muted = muted;
    this.show();
  }

  show() {
    this.element.dataset.state = this.muted ? "muted" : this.speaking ? "speech" : "quiet";
    this.element.lastElementChild.textContent = this.muted ? "No sound: is it muted?" : this.speaking ? "Speech" : "Quiet";
  }
}
