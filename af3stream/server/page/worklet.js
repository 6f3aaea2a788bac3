// Runs on the audio thread: gathers render quanta into blocks of mono samples and posts each to the page.

class Capture extends AudioWorkletProcessor {
  constructor({ processorOptions }) {
    super();
    this.block = new Float32Array(processorOptions.frames);
    this.filled = 0;
    this.stopped = false;
    this.port.onmessage = () => this.finish();
  }

  process([channels]) {
    if (this.stopped) return false;
    const samples = channels[0] ?? new Float32Array(128); // nothing connected: time passes all the same
    for (let at = 0; at < samples.length; ) {
      const count = Math.min(samples.length - at, this.block.length - this.filled);
      this.block.set(samples.subarray(at, at + count), this.filled);
      this.filled += count;
      at += count;
      if (this.filled === this.block.length) this.post(this.block.slice());
    }
    return true;
  }

  post(samples) {
    this.filled = 0;
    this.port.postMessage(samples, [samples.buffer]);
  }

  finish() {
    this.stopped = true;
    if (this.filled) this.post(this.block.slice(0, this.filled));
    this.port.postMessage(null); // nothing comes after this
  }
}

registerProcessor("capture", Capture);
