// The newest stretch of a session's audio: samples that may have to be sent again, and ranges of it that are lost.

/** `begin` and `end` are sample frames from the session's start; nothing below `begin` is kept. */
export class Retained {
  constructor(begin = 0) {
    this.begin = this.end = begin;
    this.pieces = []; // {offset, frames, samples}, in order; without samples: lost
  }

  append(samples) { this.add({ frames: samples.length, samples }); }
  appendLost(frames) { if (frames > 0) this.add({ frames }); }

  add(piece) {
    const last = this.pieces.at(-1);
    if (!piece.samples && last && !last.samples) last.frames += piece.frames;
    else this.pieces.push({ offset: this.end, ...piece });
    this.end += piece.frames;
  }

  /** What was kept from `offset` to `until` is lost from now on. */
  lose(offset, until) {
    const after = this.pieces.filter((piece) => piece.offset + piece.frames > until);
    const cut = after.map((piece) => tail(piece, until));
    const before = this.pieces.filter((piece) => piece.offset < offset).map((piece) => head(piece, offset));
    this.pieces = [...before, { offset, frames: until - offset }, ...cut];
  }

  /** Nothing below `below` is read any more. */
  free(below) {
    while (this.pieces.length && this.pieces[0].offset + this.pieces[0].frames <= below) this.pieces.shift();
    this.begin = Math.max(this.begin, Math.min(below, this.end));
  }

  /** What is kept from `offset` on, at most `most` frames of it: `{offset, frames, samples}`. */
  piece(offset, most) {
    const found = this.pieces.find((piece) => piece.offset + piece.frames > offset);
    return found && head(tail(found, offset), offset + most);
  }
}

function head(piece, until) {
  const frames = Math.min(piece.frames, until - piece.offset);
  return { offset: piece.offset, frames, samples: piece.samples?.subarray(0, frames) };
}

function tail(piece, from) {
  const skipped = Math.max(0, from - piece.offset);
  return { offset: piece.offset + skipped, frames: piece.frames - skipped, samples: piece.samples?.subarray(skipped) };
}
