// Wires the page: sources into a session, messages onto the page.

import { Behind } from "./behind.js";
import { canCapture, openFile, openMicrophone, somebodyActs } from "./capture.js";
import { CaptionList } from "./captions.js";
import { onDrop } from "./drop.js";
import { showLedger } from "./ledger.js";
import { Questions, Watches } from "./questions.js";
import { forget, load, save } from "./reload.js";
import { Session } from "./session.js";
import { download } from "./subtitles.js";
import { Timeline } from "./timeline.js";
import { Voice } from "./voice.js";
import {
  CLICK_TO_GO_ON, FILE_GONE, LEVELS, RECONNECTING, away, clock, lostConnection, refusal, refusedHandshake, sourceProblem,
} from "./words.js";

const $ = (id) => document.getElementById(id);
const SAVE_MS = 5_000; // for a page that has no chance to say goodbye
const STATES = {
  idle: "Not connected", connecting: "Connecting", live: "Listening", finished: "File heard",
  reconnecting: "Reconnecting", ending: "Finishing", ended: "Finished", lost: "Disconnected",
};

const timeline = new Timeline($("timeline"), pick);
const send = (message) => session?.send(message);
const captions = new CaptionList({
  list: $("captions"), scroll: $("scroll"), spoken: $("finals"), latest: $("latest"), onPick: pick,
});
const questions = new Questions({ list: $("answers"), spoken: $("answered"), send, onPick: pick, onCount: enable });
const watches = new Watches({ list: $("watches"), send, onPick: pick });
const behind = new Behind();
const voice = new Voice($("voice"));

let session = null;
let source = null;
let ledger = null;
let flushes = 0;
let heard = false; // whether the source has come to its end
let token = new URLSearchParams(location.search).get("token") ?? "";
let again = null; // what to start over once a token has been typed

const HANDLERS = {
  ready(message) {
    setState(session.ending ? "ending" : heard ? "finished" : "live");
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
  caption(message) {
    captions.update(message);
    timeline.setUtterance(message);
    if (message.final) enable();
  },
  answer_delta: (message) => questions.delta(message),
  answer: (message) => questions.answer(message),
  watch_hit: (message) => watches.hit(message),
  flushed() { $("flush").textContent = "Finalise now"; enable(); },
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

/** Opens a source and a session for it; `open` resolves to the source. */
async function begin(open) {
  if (busy()) return;
  again = () => begin(open);
  tell("");
  $("token-form").hidden = true;
  setState("connecting");
  try {
    source = await open();
    reset();
    connect({ mode: $("everything").checked ? "everything" : null });
    $("source-name").textContent = source.run ? `${source.name}, ${clock(source.duration_s)}` : source.name;
    $("fast-option").hidden = !source.run;
    if (source.run) await runFile(source, session);
    else if (!await source.start()) await source.resume();
  } catch (error) {
    if (!busy()) return; // the connection ended first, and has been told of
    await release();
    session?.close();
    setState("idle");
addEventListener("pagehide", keep);
addEventListener("pageshow", ({ persisted }) => { if (persisted) location.reload(); });
setInterval(keep, SAVE_MS);
const before = load();
if (before) goOn(before);
    tell(sourceProblem(error));
    $("token-form").hidden = error.name !== "SyntaxError";
  }
}

function connect({ mode, start, resume }) {
  const mine = new Session({
    token,
    resume,
    start: start ?? { format: "pcm_s16le", rate: source.rate, channels: 1, ...(mode && { mode }) },
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
  if (!session?.keeps || session.over || !["live", "finished", "reconnecting"].includes(state())) return;
  save({
    start: session.start, kept: session.kept(), heard, sourceName: $("source-name").textContent, file: !source?.start,
    timeline: timeline.kept(), questions: questions.kept(), watches: watches.kept(),
  });
}

/** Goes on with the session that this tab had before it was reloaded. */
async function goOn(before) {
  setState("connecting");
  heard = before.heard || before.file;
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
  if (before.file) {
    resuming();
    if (!before.heard) tell(FILE_GONE);
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
    heard = true;
    if (!session) resuming();
    tell(sourceProblem(error));
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

/** When a file has been heard the session stays open for questions. */
async function runFile(file, mine) {
  const whole = await file.run(onSamples, { fast: () => $("fast").checked, ready: () => mine.drained() });
  if (!whole || mine !== session || !mine.live) return;
  heard = true;
  while (mine.live && mine.unsent) await new Promise((resolve) => { setTimeout(resolve, 50); });
  await release();
  if (!["live", "reconnecting"].includes(state())) return;
  if (state() === "live") setState("finished");
  flush();
}

function flush() {
  flushes += 1;
  $("flush").textContent = "Finalising";
  $("flush").disabled = true;
  send({ type: "flush", id: `f${flushes}` });
}

async function stop() {
  setState("ending");
  await release();
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
  for (const part of [timeline, captions, questions, watches, behind, voice]) part.clear();
  ledger = null;
  heard = false;
  $("ledger").hidden = true;
  $("flush").textContent = "Finalise now";
}

const state = () => document.body.dataset.state;
const busy = () => ["connecting", "live", "finished", "reconnecting", "ending"].includes(state());

function setState(next) {
  document.body.dataset.state = next;
  $("connection").lastElementChild.textContent = STATES[next];
  $("voice").hidden = next !== "live";
  $("invitation").hidden = next !== "idle" || captions.rows.size > 0;
  for (const id of ["microphone", "choose", "everything-option"]) $(id).hidden = busy();
  for (const id of ["flush", "stop"]) $(id).hidden = !busy();
  if (!busy()) {
    $("fast-option").hidden = false;
    HANDLERS.degraded({ level: "none" });
  }
  $("source-name").hidden = !busy();
  if (!canCapture()) $("microphone").hidden = true;
  enable();
  if (next === "live" && document.activeElement === document.body) $("stop").focus(); // the start button is gone
}

/** Which controls make sense now. */
function enable() {
  const open = ["live", "finished", "reconnecting"].includes(state());
  $("flush").disabled = !open || $("flush").textContent === "Finalising";
  $("stop").disabled = !open;
  const full = open && questions.waiting >= (session?.ready?.max_questions ?? 1);
  document.querySelector("#ask button").disabled = !open || full;
  document.querySelector("#watch button").disabled = !open;
  const over = ["ended", "lost"].includes(state()) ? "This session is over." : "Questions open once audio flows.";
  $("ask-hint").textContent = full ? "Wait for an answer before asking more." : over;
  $("ask-hint").hidden = open && !full;
  const some = captions.finals().length > 0;
  for (const button of document.querySelectorAll("[data-download]")) button.disabled = !some;
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
  if (timeline.shows(range)) return;
  $("view").value = "all";
  timeline.setView("all");
}

const unplugged = () => tell("The microphone was unplugged. What was heard is safe; stop to see the account of it.");
const microphoneSource = () => openMicrophone(onSamples, unplugged);

function listenToFile(file) {
  if (!file) return;
  if (busy()) tell("Stop the running session before opening another file.");
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
$("stop").addEventListener("click", stop);
$("view").addEventListener("change", () => timeline.setView($("view").value));
$("notice").lastElementChild.addEventListener("click", () => tell(""));
$("question").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  if (!document.querySelector("#ask button").disabled) $("ask").requestSubmit();
});
submit("ask", "question", (text) => questions.ask(text, Number($("scope").value)));
submit("watch", "watch-text", (text) => watches.add(text, Number($("watch-every").value)));
submit("token-form", "token", (text) => { token = text; again?.(); });
for (const button of document.querySelectorAll("[data-download]")) {
  button.addEventListener("click", () => download(button.dataset.download, captions.finals(), {
    session: session?.ready?.session, model: session?.ready?.model, answers: questions.answers, ledger,
  }));
}
onDrop(listenToFile);
if (!canCapture()) {
  tell("This browser lends its microphone only to pages served over https or from this computer. Files work.");
}
setState("idle");
addEventListener("pagehide", keep);
addEventListener("pageshow", ({ persisted }) => { if (persisted) location.reload(); });
setInterval(keep, SAVE_MS);
const before = load();
if (before) goOn(before);
