// Final captions to readable cues, exactly as `af3stream/captions.py` cuts them: the files of the page and of the command
// line are the same, byte for byte. Shared cases (`tests/golden/cues.json`) and random captions hold both to it.
// Times are whole milliseconds of audio.

const LINE_CHARS = 42;
const LONGEST_MS = 7_000;
const SHORTEST_MS = 1_000; // where the next cue leaves so much room
const SENTENCE_END = /[.?!…。？！]$/u;
const CLAUSE_END = /[,;:—–，、；：]$/u;
const CLOSING = /["')\]}”’»]+$/u; // may follow the punctuation that ends a sentence
const CLAUSE_COST = 0.25; // in halves of a cue: how far from its middle a better place to break may lie
const WORD_COST = 0.5;
const WHITE_SPACE = /[\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+/; // as Python splits

/** Cues `{start, end, text}` from final captions in the order of their arrival; `text` has at most two lines. */
export function cues(finals) {
  const pieces = finals.flatMap(({ text, start, end }) => {
    const from = Math.max(0, rounded(start * 1_000));
    return broken(words(text), from, Math.max(from, rounded(end * 1_000)));
  });
  let floor = 0;
  return pieces.map((piece, at) => {
    const start = Math.max(piece.start, floor);
    const following = pieces[at + 1]?.start ?? Infinity;
    const end = Math.min(Math.max(piece.end, start + SHORTEST_MS), start + LONGEST_MS);
    floor = Math.min(end, Math.max(following, start + 1)); // a cue of no duration would not be valid
    return { start, end: floor, text: piece.lines.join("\n") };
  });
}

/** What is between white space; a run that is longer than a line, in pieces of a line. */
function words(text) {
  return text.split(WHITE_SPACE).filter(Boolean).flatMap((run) => {
    const letters = [...run];
    const pieces = [];
    for (let at = 0; at < letters.length; at += LINE_CHARS) pieces.push(letters.slice(at, at + LINE_CHARS).join(""));
    return pieces;
  });
}

/** The words in as many pieces `{start, end, lines}` as they need, halved until each fits. */
function broken(all, start, end) {
  if (!all.length) return [];
  const lines = inLines(all);
  if (lines && (end - start <= LONGEST_MS || all.length === 1)) return [{ start, end, lines }];
  const half = bestHalf(all, end - start);
  const middle = start + rounded(((end - start) * half.before) / (half.before + half.after));
  return [...broken(all.slice(0, half.cut), start, middle), ...broken(all.slice(half.cut), middle, end)];
}

/** The words in one line or two; null where they do not fit. */
function inLines(all) {
  if (chars(all) <= LINE_CHARS) return [all.join(" ")];
  const fitting = halves(all).filter(({ before, after }) => Math.max(before, after) <= LINE_CHARS);
  if (!fitting.length) return null;
  const { cut } = cheapest(fitting);
  return [all.slice(0, cut).join(" "), all.slice(cut).join(" ")];
}

/** Where to break at least two words; no part is shorter than `SHORTEST_MS` if that can be. */
function bestHalf(all, duration_ms) {
  const every = halves(all);
  const margin = duration_ms ? (chars(all) * SHORTEST_MS) / duration_ms : 0;
  const roomy = every.filter(({ before, after }) => Math.min(before, after) >= margin);
  return cheapest(roomy.length ? roomy : every);
}

/** Every place between two words: before the word `cut`, with so many characters before and after it. */
function halves(all) {
  const whole = chars(all);
  let end = -1;
  return all.slice(0, -1).map((word, at) => {
    end += count(word) + 1;
    return { cut: at + 1, before: end, after: whole - end - 1, last: word.replace(CLOSING, "") };
  });
}

/** The first of those that are nearest to the middle, and tear least apart. */
function cheapest(every) {
  const costs = every.map(({ before, after, last }) => {
    const distance = Math.abs(before - after) / (before + after);
    return SENTENCE_END.test(last) ? distance : distance + (CLAUSE_END.test(last) ? CLAUSE_COST : WORD_COST);
  });
  return every[costs.indexOf(Math.min(...costs))];
}

const count = (word) => [...word].length; // letters beyond 16 bits count once
const chars = (all) => all.reduce((sum, word) => sum + count(word), all.length - 1);

/** The nearest whole number; halves go to the even one. */
function rounded(value) {
  const below = Math.floor(value);
  const over = value - below;
  return over < 0.5 || (over === 0.5 && below % 2 === 0) ? below : below + 1;
}
