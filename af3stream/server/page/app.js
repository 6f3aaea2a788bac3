// Wires the page: sources into a session, messages onto the page.

import { AskBox } from "./askbox.js";
import { Behind } from "./behind.js";
import { canCapture, openFile, openMicrophone, sleep, somebodyActs } from "./capture.js";
import { CaptionList } from "./captions.js";
import { confirmed } from "./confirm.js";
import { STATES, isBusy, isOpen, showControls } from "./controls.js";
import { onDrop } from "./drop.js";
import { arrange } from "./layout.js";
import { showLedger } from "./ledger.js";
import { Options } from "./options.js";
import { Questions, Watches } from "./questions.js";
import { Recording } from "./recording.js";
import { forget, load, save } from "./reload.js";
import { Session } from "./session.js";
import { Speakers } from "./speakers.js";
import { download } from "./subtitles.js";
import { Timeline } from "./timeline.js";
import { Voice } from "./voice.js";
import {
  CLICK_TO_GO_ON, FILE_GONE, LEVELS, RECONNECTING, away, clock, lostConnection, refusal, refusedHandshake,
  sourceProblem,
} from "./words.js";

const $ = (id) => document.getElementById(id);
const SAVE_MS = 5_000; // for a page that has no chance to say goodbye
const LEAVING_MS = 3_000; // until another session begins, whatever the one that is left does

const timeline = new Timeline($("timeline"), pick);
const send = (message) => session?.send(message);
const options = new Options({ language: $("language"), translate: $("translate"), speakers: $("speakers") });
const speakers = new Speakers({ onName: (speaker, name) => send({ type: "name_speaker", speaker, name }) });
const captions = new CaptionList({
  list: $("captions"), scroll: $("scroll"), spoken: $("finals"), latest: $("latest"), onPick: pick, speakers,
  onWord: (seconds) => recording.playFrom(seconds),
});
const recording = new Recording($("recording"), (seconds) => captions.markWord(seconds));
const questions = new Questions({
  list: $("answers"), spoken: $("answered"), send, onPick: pick, onCount: enable, onReply: (card) => askBox.reply(card),
});
const askBox = new AskBox({
  form: $("ask"), newest: () => questions.newest, onAsk: (...question) => questions.ask(...question),
});
const watches = new Watches({ list: $("watches"), send, onPick: pick });
const behind = new Behind();
const voice = new Voice($("voice"));

let session = null;
let source = null;
let ledger = null;
let flushes = 0;
let finalising = false;
let rest = null; // once the source has come to its end, the state in which the session stays open: finished, stopped
let token = new URLSearchParams(location.search).get("token") ?? "";
let again = null; // what to start over once a token has been typed

const HANDLERS = {
  ready(message) {
    setState(session.ending ? "ending" : rest ?? "live");
    if ($("notice").firstElementChild.textContent === RECONNECTING) tell("");
    keep();
    name("model", message.model);
    name("captioner", message.captioner);
    $("question").maxLength = message.max_question_chars;
    $("watch-text").maxLength = message.max_question_chars;
  },
  ack() {
    $("lag").textContent = `${behind.seconds(session.captured_s).toFixed(1)} s`;
  },
  speech(message) {
    timeline.addSpeech(message);
    voice.speech(message);
  },
  window: (message) => timeline.addWindow(message),
  caption_update: (message) => captions.correct(message),
  sound: (message) => captions.addSound(message),
  speaker_update: (message) => captions.correct(message),
  speaker_named: (message) => speakers.named(message),
  caption(message) {
    captions.update(message);
    timeline.setUtterance(message);
    if (message.final) enable();
  },
  answer_delta: (message) => questions.delta(message),
  answer: (message) => questions.answer(message),
  watch_hit: (message) => watches.hit(message),
  flushed: () => showFinalising(false),
  degraded({ level }) {
    $("level").hidden = level === "none";
    $("level").lastElementChild.textContent = LEVELS[level];
  },
  error(message) {
    session.told ||= message.fatal;
    if (!questions.fail(message) && !watches.fail(message)) tell(refusal(message));
  },
  ended(message) {
    ledger = message;
    forget();
    timeline.finish(message.received_s);
    showLedger($("ledger"), message);
    $("lag").textContent = "–";
    setState("ended");
    session.close();
    $("scroll").scrollTop = $("scroll").scrollHeight;
    $("ledger").focus({ preventScroll: true });
  },
};

/** Opens a source and a session for it, in place of what is on the page; `openSource` resolves to the source. */
async function begin(openSource) {
  if (busy() || !await mayClear()) return;
  again = () => begin(openSource);
  tell("");
  $("token-form").hidden = true;
  const before = state();
  setState("connecting");
  try {
    source = await openSource();
  } catch (error) {
    setState(before);
    tell(sourceProblem(error));
    return;
  }
  await leave();
  reset();
  await listen();
}

/** A new session for the source that has been opened. */
async function listen() {
  setState("connecting");
  try {
    connect({ chosen: { ...options.start, ...($("everything").checked && { mode: "everything" }) } });
    $("source-name").textContent = source.run ? `${source.name}, ${clock(source.duration_s)}` : source.name;
    $("fast-option").hidden = !source.run;
    if (source.run) await runFile(source, session);
    else if (!await source.start()) await source.resume();
  } catch (error) {
    if (!busy()) return; // the connection ended first, and has been told of
    await release();
    session?.close();
    setState("idle");
    tell(sourceProblem(error));
    $("token-form").hidden = error.name !== "SyntaxError";
  }
}

/** Whether the page may be cleared: asks where something is on it. */
async function mayClear() {
  return !captions.rows.size && !questions.cards.size || confirmed($("anew"), "anew");
}

/** Ends the session that is on the page; the service has a place less taken then. */
async function leave() {
  const old = session;
  session = null;
  forget();
  if (!old?.live) return;
  if (old.asleep) return old.close();
  old.end();
  await Promise.race([old.left, sleep(LEAVING_MS)]);
}

function connect({ chosen, start, resume }) {
  const mine = new Session({
    token,
    resume,
    start: start ?? { format: "pcm_s16le", rate: source.rate, channels: 1, words: true, ...chosen },
    onMessage: (message) => mine === session && handle(message),
    onLost: (offset, frames) => timeline.addLost(offset / mine.rate, (offset + frames) / mine.rate, mine.rate),
    onReconnecting: () => mine === session && reconnecting(),
    onClose: (close) => mine === session && closed(close),
  });
  session = mine;
}

function handle(message) {
  behind.hear(message, session.rate);
  HANDLERS[message.type]?.(message);
}

function reconnecting() {
  questions.torn();
  setState("reconnecting");
  tell(RECONNECTING);
}

/** What another load of this page needs to go on; nothing is kept once the session is over. */
function keep() {
  if (!session?.keeps || session.over || !isOpen(state())) return;
  save({
    start: session.start, kept: session.kept(), rest, sourceName: $("source-name").textContent, file: !source?.start,
    timeline: timeline.kept(), questions: questions.kept(), watches: watches.kept(),
  });
}

/** Goes on with the session that this tab had before it was reloaded. */
async function goOn(before) {
  setState("connecting");
  rest = before.rest ?? (before.file ? "finished" : null);
  for (const [part, kept] of [[timeline, before.timeline], [questions, before.questions], [watches, before.watches]]) part.restore(kept);
  const { rate } = before.start;
  let at = before.kept.begin;
  for (const { frames, samples } of before.kept.pieces) {
    if (!samples) timeline.addLost(at / rate, (at + frames) / rate, rate);
    at += frames;
  }
  const resuming = () => connect({ start: before.start, resume: before.kept });
  $("source-name").textContent = before.sourceName;
  $("fast-option").hidden = true;
  if (rest) {
    resuming();
    if (!before.rest) tell(FILE_GONE);
    await settle(rest);
    return;
  }
  try {
    source = await openMicrophone(onSamples, unplugged, rate);
    resuming();
    if (!await source.start()) {
      tell(CLICK_TO_GO_ON);
      await somebodyActs();
    }
    await source.resume();
  } catch (error) {
    if (!session) resuming();
    tell(sourceProblem(error));
    await settle("stopped");
    return;
  }
  unheard(before);
}

/** The time without a page is no audio: it is lost, up to this moment. */
function unheard({ at, kept }) {
  const frames = kept.end + Math.round(((Date.now() - at) / 1000) * session.rate) - session.audio.end;
  if (frames <= 0) return;
  session.lose(frames);
  tell(away(frames / session.rate));
}

function onSamples(samples) {
  timeline.addSamples(samples, session.rate);
  if (source?.start) voice.hear(samples, session.rate); // a file may be silent for as long as it likes
  session.push(samples);
}

async function runFile(file, mine) {
  const whole = await file.run(onSamples, { fast: () => $("fast").checked, ready: () => mine.drained() });
  if (whole && mine === session && mine.live) await settle("finished");
}

/** No audio follows: what was said is captioned to its end, and the session stays open for questions until it is left. */
async function settle(next) {
  const mine = session;
  const focused = document.activeElement === $("stop");
  rest = next;
  if (source?.file) recording.offer(source.file);
  enable();
  await release();
  while (mine.live && mine.unsent) await sleep(50);
  if (mine !== session || !mine.live || mine.ending) return;
  mine.rest();
  if (state() === "live") setState(rest);
  flush();
  if (focused) document.querySelector(".source button:not([hidden])").focus();
}

function flush() {
  flushes += 1;
  showFinalising(true);
  send({ type: "flush", id: `f${flushes}` });
}

function showFinalising(on) {
  finalising = on;
  enable();
}

function end() {
  setState("ending");
  session.end();
}

async function release() {
  const old = source;
  source = null;
  await old?.stop();
}

async function closed({ opened, ended, ...close }) {
  forget();
  if (!ended) setState(opened ? "lost" : "idle");
  await release();
  questions.abandon();
  if (ended) return;
  captions.freeze();
  if (opened && close.code !== 4401) {
    if (!session.told) tell(lostConnection(close));
    return;
  }
  const { token: ask, text } = opened ? { token: true, text: lostConnection(close) } : await refusedHandshake(token);
  tell(text);
  $("token-form").hidden = !ask;
  if (ask) $("token").focus();
}

function reset() {
  for (const part of [timeline, recording, captions, speakers, questions, askBox, watches, behind, voice]) part.clear();
  ledger = null;
  rest = null;
  $("ledger").hidden = true;
  showFinalising(false);
}

const state = () => document.body.dataset.state;
const busy = () => isBusy(state());

function setState(next) {
  document.body.dataset.state = next;
  $("connection").lastElementChild.textContent = STATES[next];
  $("voice").hidden = next !== "live";
  $("invitation").hidden = next !== "idle" || captions.rows.size > 0;
  if (!busy() && !isOpen(state())) HANDLERS.degraded({ level: "none" });
  enable();
  if (next === "live" && document.activeElement === document.body) $("stop").focus(); // the start button is gone
}

function enable() {
  showControls({
    state: state(), resting: rest !== null, finalising, captioned: captions.finals().length > 0,
    full: isOpen(state()) && questions.waiting >= (session?.ready?.max_questions ?? 1),
  });
}

function tell(text) {
  $("notice").hidden = !text;
  $("notice").firstElementChild.textContent = text;
}

function name(id, value) {
  $(id).textContent = value.split("/").at(-1);
  $(id).title = value;
}

/** Marks a range on the timeline and in the captions, and widens the view if it is out of sight. */
function pick(range) {
  timeline.pick(range);
  captions.mark(range, range.utterance !== undefined);
  if (range.utterance !== undefined) recording.seek(range.start);
  if (timeline.shows(range)) return;
  $("view").value = "all";
  timeline.setView("all");
}

const unplugged = () => tell("The microphone was unplugged. What was heard is safe; stop, and go on asking about it.");
const microphoneSource = () => openMicrophone(onSamples, unplugged);

function listenToFile(file) {
  if (!file) return;
  if (busy()) tell("Stop listening before opening another file.");
  else begin(() => openFile(file));
}

function submit(form, field, act) {
  $(form).addEventListener("submit", (event) => {
    event.preventDefault();
    const text = $(field).value.trim();
    if (!text) return;
    act(text);
    $(field).value = "";
  });
}

$("microphone").addEventListener("click", () => begin(microphoneSource));
$("choose").addEventListener("click", () => $("file").click());
$("file").addEventListener("change", () => { listenToFile($("file").files[0]); $("file").value = ""; });
$("flush").addEventListener("click", flush);
$("stop").addEventListener("click", () => settle("stopped"));
$("end").addEventListener("click", end);
$("view").addEventListener("change", () => timeline.setView($("view").value));
$("notice").lastElementChild.addEventListener("click", () => tell(""));
submit("watch", "watch-text", (text) => watches.add(text, Number($("watch-every").value)));
submit("token-form", "token", (text) => { token = text; again?.(); });
for (const button of document.querySelectorAll("[data-download]")) {
  button.addEventListener("click", () => download(button.dataset.download, captions.finals().map(named), {
    session: session?.ready?.session, model: session?.ready?.model, answers: questions.answers, ledger,
  }));
}
const named = (caption) => (caption.speaker ? { ...caption, name: speakers.name(caption.speaker) } : caption);
onDrop(listenToFile);
if (!canCapture()) {
  tell("This browser lends its microphone only to pages served over https or from this computer. Files work.");
}
arrange(document.querySelector(".timeline"), document.querySelector("main"));
setState("idle");
addEventListener("pagehide", keep);
addEventListener("pageshow", ({ persisted }) => { if (persisted) location.reload(); });
setInterval(keep, SAVE_MS);
const before = load();
if (before) goOn(before);
