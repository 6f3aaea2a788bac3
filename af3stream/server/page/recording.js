// The recording that was heard, once it is heard: played again from any word.

/** An audio element; `onTime(seconds)` follows its playhead, and gets null when it stops. */
export class Recording {
  constructor(audio, onTime) {
    Object.assign(this, { audio, onTime });
    audio.addEventListener("play", () => this.follow());
    for (const moved of ["seeked", "pause"]) audio.addEventListener(moved, () => onTime(audio.currentTime));
    audio.addEventListener("ended", () => onTime(null));
  }

  get offered() { return !this.audio.hidden; }

  /** Shows a file; its beginning is the session's. */
  offer(file) {
    this.clear();
    this.audio.src = URL.createObjectURL(file);
    this.audio.hidden = false;
  }

  clear() {
    if (!this.offered) return;
    this.audio.pause();
    URL.revokeObjectURL(this.audio.src);
    this.audio.removeAttribute("src");
    this.audio.hidden = true;
    this.onTime(null);
  }

  seek(seconds) {
    if (this.offered) this.audio.currentTime = seconds;
  }

  playFrom(seconds) {
    if (!this.offered) return;
    this.seek(seconds);
    this.audio.play();
  }

  follow() {
    if (this.audio.paused || this.audio.ended) return;
    this.onTime(this.audio.currentTime);
    requestAnimationFrame(() => this.follow());
  }
}
