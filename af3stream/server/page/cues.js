// Final captions to readable cues, exactly as `af3stream/subtitles.py` cuts them: the files of the page and of the command
// line are the same, byte for byte. Shared cases (`tests/golden/cues.json`) and random captions hold both to it.
// Times are whole milliseconds of audio.

const LINE_CHARS = 42;
const LONGEST_MS = 7_000;
const SHORTEST_MS = 1_000; // where the next cue leaves so much room
const READING_CHARS_S = 20; // the same
const PAUSE_MS = 300; // of a speaker; as good a place to break as the end of a clause
const SENTENCE_END = /[.?!…。？！]$/u;
const CLAUSE_END = /[,;:—–，、；：]$/u;
const CLOSING = /["')\]}”’»]+$/u; // may follow the punctuation that ends a sentence
const CLAUSE_COST = 0.25; // in halves of a cue: how far from its middle a better place to break may lie
const WORD_COST = 0.5;
const WHITE_SPACE = /[\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+/; // as Python splits

/**
 * Cues `{start, end, text, speaker, begins}` from final captions in the order of their arrival; `text` has at most two
 * lines, and below them those of its translation. `begins` says whether the caption begins with this cue. A caption's
 * `name` is that of its speaker.
 */
export function cues(finals) {
  const pieces = finals.flatMap((caption) => {
    const speaker = caption.name || (caption.speaker ? `Speaker ${caption.speaker}` : "");
    const pieces = broken(words(caption));
    const below = divided(inLine(caption.translation ?? ""), pieces.map(({ lines }) => letters(lines)));
    return pieces.map((piece, at) => ({ ...piece, speaker, begins: at === 0, below: filled(below[at]) }));
  });
  let floor = 0;
  return pieces.map((piece, at) => {
    const start = Math.max(piece.start, floor);
    const following = pieces[at + 1]?.start ?? Infinity;
    const end = Math.min(Math.max(piece.end, start + least(piece)), start + LONGEST_MS);
    floor = Math.min(end, Math.max(following, start + 1)); // a cue of no duration would not be valid
    const text = [...piece.lines, ...piece.below].join("\n");
    return { start, end: floor, text, speaker: piece.speaker, begins: piece.begins };
  });
}

/** How long a piece is to be shown if there is room. */
function least({ lines }) {
  return Math.max(SHORTEST_MS, Math.floor((letters(lines) * 1_000) / READING_CHARS_S));
}

const letters = (lines) => lines.reduce((sum, line) => sum + count(line), 0);

/** Texts in as many parts as there are shares, in proportion to these. */
function divided(texts, shares) {
  const whole = shares.reduce((sum, share) => sum + share, 0);
  let end = 0;
  let cut = 0;
  return shares.map((share) => {
    end += share;
    const begin = cut;
    cut = rounded((texts.length * end) / whole);
    return texts.slice(begin, cut);
  });
}

/** Texts joined to as few lines as they need. */
function filled(texts) {
  const lines = [];
  for (const text of texts) {
    if (lines.length && count(lines.at(-1)) + 1 + count(text) <= LINE_CHARS) lines.push(`${lines.pop()} ${text}`);
    else lines.push(text);
  }
  return lines;
}

/** What is between white space; a run that is longer than a line, in pieces of a line. */
function inLine(text) {
  return runs(text).flatMap((run) => {
    const all = [...run];
    const pieces = [];
    for (let at = 0; at < all.length; at += LINE_CHARS) pieces.push(all.slice(at, at + LINE_CHARS).join(""));
    return pieces;
  });
}

/** The words of a caption, or as much of one as fits into a line, `{text, start, end}`. */
function words({ text, start, end, words: timed = [] }) {
  const texts = inLine(text);
  const said = timed.flatMap((word) => [...runs(word.text).join("")].map((letter) => ({ letter, word })));
  if (texts.join("") === said.map(({ letter }) => letter).join("")) {
    let at = 0;
    return texts.map((each) => {
      const first = at;
      at += count(each);
      return { text: each, start: ms(said[first].word.start), end: ms(said[at - 1].word.end) };
    });
  }
  const from = ms(start);
  const duration = Math.max(from, ms(end)) - from;
  const whole = texts.reduce((sum, each) => sum + count(each) + 1, 0);
  let before = 0;
  return texts.map((each) => {
    const began = before;
    before += count(each) + 1;
    const [first, last] = [began, before].map((bound) => from + rounded((duration * bound) / whole));
    return { text: each, start: first, end: last };
  });
}

const runs = (text) => text.split(WHITE_SPACE).filter(Boolean);

/** The words in as many pieces `{start, end, lines}` as they need, halved until each fits. */
function broken(all) {
  if (!all.length) return [];
  const lines = inLines(all);
  const [start, end] = [all[0].start, all.at(-1).end];
  if (lines && (end - start <= LONGEST_MS || all.length === 1)) return [{ start, end, lines }];
  const every = halves(all);
  const roomy = every.filter(({ shorter }) => shorter >= SHORTEST_MS);
  const { cut } = cheapest(roomy.length ? roomy : every);
  return [...broken(all.slice(0, cut)), ...broken(all.slice(cut))];
}

/** The words in one line or two; null where they do not fit. */
function inLines(all) {
  const texts = all.map(({ text }) => text);
  if (count(texts.join(" ")) <= LINE_CHARS) return [texts.join(" ")];
  const fitting = halves(all).filter(({ before, after }) => Math.max(before, after) <= LINE_CHARS);
  if (!fitting.length) return null;
  const { cut } = cheapest(fitting);
  return [texts.slice(0, cut).join(" "), texts.slice(cut).join(" ")];
}

/** Every place between two words: before the word `cut`, with so many characters before and after it. */
function halves(all) {
  const whole = all.reduce((sum, { text }) => sum + count(text) + 1, -1);
  let end = -1;
  return all.slice(0, -1).map((word, at) => {
    end += count(word.text) + 1;
    const next = all[at + 1];
    const shorter = Math.min(next.start - all[0].start, all.at(-1).end - next.start); // part, up to the next
    const last = word.text.replace(CLOSING, "");
    return { cut: at + 1, before: end, after: whole - end - 1, last, pause: next.start - word.end, shorter };
  });
}

/** The first of those that are nearest to the middle, and tear least apart. */
function cheapest(every) {
  const costs = every.map(({ before, after, last, pause }) => {
    const distance = Math.abs(before - after) / (before + after);
    if (SENTENCE_END.test(last)) return distance;
    return distance + (CLAUSE_END.test(last) || pause >= PAUSE_MS ? CLAUSE_COST : WORD_COST);
  });
  return every[costs.indexOf(Math.min(...costs))];
}

const count = (word) => [...word].length; // letters beyond 16 bits count once
const ms = (seconds) => Math.max(0, rounded(seconds * 1_000));

/** The nearest whole number; halves go to the even one. */
function rounded(value) {
  const below = Math.floor(value);
  const over = value - below;
  return over < 0.5 || (over === 0.5 && below % 2 === 0) ? below : below + 1;
}
