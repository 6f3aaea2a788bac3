// Wires the page: sources into a session, messages onto the page.

import { canCapture, openFile, openMicrophone } from "./capture.js";
import { CaptionList, toJson, toSrt, toVtt } from "./captions.js";
import { showLedger } from "./ledger.js";
import { Questions, Watches } from "./questions.js";
import { Session } from "./session.js";
import { Timeline } from "./timeline.js";
import { LEVELS, clock, lostConnection, refusal, refusedHandshake, sourceProblem } from "./words.js";

const $ = (id) => document.getElementById(id);
const STATES = {
  idle: "Not connected", connecting: "Connecting", live: "Listening", finished: "File heard",
  ending: "Finishing", ended: "Finished", lost: "Disconnected",
};

const timeline = new Timeline($("timeline"));
const send = (message) => session?.send(message);
const captions = new CaptionList({
  list: $("captions"), scroll: $("scroll"), spoken: $("finals"), latest: $("latest"), onPick: pick,
});
const questions = new Questions({ list: $("answers"), spoken: $("answered"), send, onPick: pick, onCount: enable });
const watches = new Watches({ list: $("watches"), send, onPick: pick });

let session = null;
let source = null;
let ledger = null;
let flushes = 0;
let token = new URLSearchParams(location.search).get("token") ?? "";
let again = null; // what to start over once a token has been typed

const HANDLERS = {
  ready(message) {
    setState("live");
    name("model", message.model);
    name("captioner", message.captioner);
    $("question").maxLength = message.max_question_chars;
    $("watch-text").maxLength = message.max_question_chars;
  },
  ack() {
    $("lag").textContent = `${session.lag_s.toFixed(1)} s`;
  },
  speech(message) {
    timeline.addSpeech(message);
    const speaking = message.state === "started";
    $("voice").dataset.speaking = speaking;
    $("voice").lastElementChild.textContent = speaking ? "Speech" : "Quiet";
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
  degraded({ level, lag_s }) {
    $("level").hidden = level === "none";
    $("level").lastElementChild.textContent = level === "none" ? "" : `${LEVELS[level]} (${lag_s.toFixed(0)} s behind)`;
  },
  error(message) {
    session.told ||= message.fatal;
    if (!questions.fail(message) && !watches.fail(message)) tell(refusal(message));
  },
  ended(message) {
    ledger = message;
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
    connect();
    $("source-name").textContent = source.run ? `${source.name}, ${clock(source.duration_s)}` : source.name;
    $("fast-option").hidden = !source.run;
    await (source.run ? runFile(source, session) : source.start());
  } catch (error) {
    if (!busy()) return; // the connection ended first, and has been told of
    await release();
    session?.close();
    setState("idle");
    tell(sourceProblem(error));
    $("token-form").hidden = error.name !== "SyntaxError";
  }
}

function connect() {
  const mode = $("everything").checked ? { mode: "everything" } : {};
  const mine = new Session({
    token,
    start: { format: "pcm_s16le", rate: source.rate, channels: 1, ...mode },
    onMessage: (message) => mine === session && HANDLERS[message.type]?.(message),
    onClose: (close) => mine === session && closed(close),
  });
  session = mine;
}

function onSamples(samples) {
  timeline.addSamples(samples, session.rate);
  session.push(samples);
}

/** When a file has been heard the session stays open for questions. */
async function runFile(file, mine) {
  const whole = await file.run(onSamples, { fast: () => $("fast").checked, ready: () => mine.drained() });
  if (!whole || mine !== session || !mine.live()) return;
  while (mine.live() && mine.sent < mine.captured) await new Promise((resolve) => { setTimeout(resolve, 50); });
  await release();
  if (state() !== "live") return;
  setState("finished");
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
  if (!ended) setState(opened ? "lost" : "idle");
  await release();
  questions.abandon();
  if (ended) return;
  captions.freeze();
  if (opened && close.code !== 4401) {
    if (!session.told) tell(lostConnection(close));
    return;
  }
  const { token: ask, text } = opened ? { token: true, text: lostConnection(close) } : await refusedHandshake();
  tell(text);
  $("token-form").hidden = !ask;
  if (ask) $("token").focus();
}

function reset() {
  for (const part of [timeline, captions, questions, watches]) part.clear();
  ledger = null;
  $("ledger").hidden = true;
  $("flush").textContent = "Finalise now";
  HANDLERS.degraded({ level: "none", lag_s: 0 });
}

const state = () => document.body.dataset.state;
const busy = () => ["connecting", "live", "finished", "ending"].includes(state());

function setState(next) {
  document.body.dataset.state = next;
  $("connection").lastElementChild.textContent = STATES[next];
  $("voice").hidden = next !== "live";
  $("invitation").hidden = next !== "idle" || captions.rows.size > 0;
  for (const id of ["microphone", "choose", "everything-option"]) $(id).hidden = busy();
  for (const id of ["flush", "stop"]) $(id).hidden = !busy();
  if (!busy()) $("fast-option").hidden = false;
  $("source-name").hidden = !busy();
  if (!canCapture()) $("microphone").hidden = true;
  enable();
  if (next === "live" && document.activeElement === document.body) $("stop").focus(); // the start button is gone
}

/** Which controls make sense now. */
function enable() {
  const open = ["live", "finished"].includes(state());
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

/** Marks a range on the timeline, and widens the view if it is out of sight. */
function pick(range) {
  timeline.pick(range);
  if (timeline.shows(range)) return;
  $("view").value = "all";
  timeline.setView("all");
}

function download(kind) {
  const finals = captions.finals();
  const extra = { session: session?.ready?.session, model: session?.ready?.model, answers: questions.answers, ledger };
  const [text, type] = {
    vtt: () => [toVtt(finals), "text/vtt"],
    srt: () => [toSrt(finals), "application/x-subrip"],
    json: () => [toJson(finals, extra), "application/json"],
  }[kind]();
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = `captions.${kind}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

const microphoneSource = () => openMicrophone(onSamples, () => {
  tell("The microphone was unplugged. What was heard is safe; stop to see the account of it.");
});

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
  button.addEventListener("click", () => download(button.dataset.download));
}
addEventListener("dragover", (event) => { event.preventDefault(); document.body.classList.add("dragging"); });
addEventListener("dragleave", (event) => { if (!event.relatedTarget) document.body.classList.remove("dragging"); });
addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dragging");
  listenToFile(event.dataTransfer.files[0]);
});
if (!canCapture()) {
  tell("This browser lends its microphone only to pages served over https or from this computer. Files work.");
}
setState("idle");
