// What the service says in codes, said in plain words.

const REFUSALS = {
  bad_message: "The service could not read a message of this page. Reload the page: it may be older than the service.",
  bad_format: "The service does not take audio in this format or at this sample rate.",
  bad_audio: "A piece of audio was damaged and was left out.",
  bad_offset: "A piece of audio was out of place and was left out.",
  offset_gap: "A piece of audio went missing on the way. It counts as silence.",
  audio_conflict: "The service received two different recordings of the same moment and ended the session.",
  rate_limited: "Audio arrived faster than the service can take it; some of it was left out.",
  slow_consumer: "This page could not keep up with the captions, so the service ended the session.",
  idle_timeout: "Nothing was heard for a long time, so the service ended the session. Your captions are still here.",
  query_limit: "Too many questions are waiting, or this one is too long. Try again in a moment.",
  bad_text: "This question is empty or holds characters that cannot be asked.",
  unknown_question: "The answer that this one replies to is not there any more. Ask it as a question of its own.",
  bad_end: "The service counted a different amount of audio than this page sent.",
  no_session: "The session is gone. Start a new one.",
  superseded: "This session goes on in another tab or window.",
  data_loss: "The service lost a part of what it had stored, and ended the session.",
  shutting_down: "The service is restarting. Your captions are still here; start again in a moment.",
  engine_failed: "The model stumbled over this one. The audio is safe; try again.",
};

const CLOSES = {
  1001: REFUSALS.shutting_down,
  1009: "A message was too large for the service.",
  1011: "The service stopped answering and the connection was closed.",
  1012: REFUSALS.shutting_down,
  1013: "The service is full at the moment. Try again later.",
  4404: REFUSALS.no_session,
  4500: REFUSALS.data_loss,
  4401: "The token is missing, wrong, or has expired.",
};

const SOURCES = {
  NotAllowedError: "The browser did not allow this page to use the microphone. Allow it in the address bar, then start again.",
  NotFoundError: "No microphone was found. Plug one in, or open a file.",
  NotReadableError: "The microphone is in use by another program.",
  SyntaxError: "This token holds characters a browser cannot send.",
};

export const UNREACHABLE = "The service cannot be reached. Check that it is running, then start again.";

export const RECONNECTING = "The connection was lost. Audio is kept here until the service is back; nothing is lost so far.";
export const FILE_GONE = "A page cannot open your file again by itself. What was heard until the reload can be asked about; open the file again to hear the rest.";
export const CLICK_TO_GO_ON = "Click anywhere or press a key to go on listening: the browser waits for that after a reload.";
export const RESTING = "Listening has stopped. What was heard can be asked about and downloaded until you end the session.";
export const away = (seconds) => `The page was reloaded; ${seconds.toFixed(1)} s went by unheard. They are marked as lost on the timeline.`;

export const LEVELS = {
  none: "",
  interims_stretched: "Busy: words come less often",
  interims_dropped: "Very busy: only finished captions",
  answers_queued: "Very busy: answers wait",
  finals_late: "Very busy: captions come late",
  sessions_refused: "The server is full",
};

const LAGS_S = 3; // an answer that did not hear so much of its end, or more, says so

export const FINISHES = { length: "cut at the length limit", cancelled: "cancelled" };

export const refusal = ({ code, message }) => REFUSALS[code] ?? sentence(message);
export const lostConnection = ({ code, reason }) =>
  CLOSES[code] ?? (reason ? sentence(reason) : "The connection to the service was lost. Your captions are still here.");
export const sourceProblem = (error) => SOURCES[error.name] ?? sentence(error.message);

/** Why a handshake failed: browsers do not tell, so ask in the same place without one. */
export async function refusedHandshake(token) {
  try {
    const headers = token ? { Authorization: `Bearer ${token}` } : {};
    const answer = await fetch("/v1/stream", { headers, cache: "no-store" });
    if (answer.status === 401) return { token: true, text: token ? CLOSES[4401] : "This service asks for an access token." };
    const [reason, pause] = [sentence((await answer.text()).trim()), answer.headers.get("Retry-After")];
    if (pause) return { token: false, text: `${reason} Try again in ${pause} seconds.` };
    return { token: false, text: answer.status === 403 ? reason : "The connection did not come about. Try again." };
  } catch {
    return { token: false, text: UNREACHABLE };
  }
}

/** Seconds as 1:02:03, or 1:02; with `digits`, tenths and finer. */
export function clock(seconds, digits = 0) {
  const scale = 10 ** digits;
  const total = Math.max(0, digits ? Math.round(seconds * scale) / scale : Math.floor(seconds));
  const [h, m] = [Math.floor(total / 3600), Math.floor((total % 3600) / 60)];
  const s = (total % 60).toFixed(digits).padStart(digits ? digits + 3 : 2, "0");
  return h ? `${h}:${String(m).padStart(2, "0")}:${s}` : `${m}:${s}`;
}

export const range = ({ start, end }) => `${clock(start)} – ${clock(Math.ceil(end))}`;

/** What an answer is made of: the range it heard, and the captions that it read of what comes after. */
export function reach({ start, end, heard_until: heard = null, captions_from: from = null, captioned_until: until = null }) {
  if (heard === null && until === null) return `Heard ${range({ start, end })}`;
  if (heard === null) return `Captions ${range({ start: from, end: until })}`;
  if (end - heard <= LAGS_S) return `Heard ${range({ start, end })}`;
  const read = from <= heard + LAGS_S ? `to ${clock(Math.ceil(until))}` : range({ start: from, end: until });
  return `Heard ${range({ start, end: heard })}${until > heard ? `, captions ${read}` : ""}`;
}

const sentence = (text) => (text ? text[0].toUpperCase() + text.slice(1).replace(/[.\s]*$/, ".") : "Something went wrong.");

/** Makes an element: `make("p", {className: "x"}, "text", child)`. */
export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}
