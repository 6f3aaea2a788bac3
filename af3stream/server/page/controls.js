// Which controls there are, and which of them make sense, as a session goes along.

import { canCapture } from "./capture.js";
import { RESTING } from "./words.js";

export const STATES = {
  idle: "Not connected", connecting: "Connecting", live: "Listening", finished: "File heard", stopped: "Stopped",
  reconnecting: "Reconnecting", ending: "Finishing", ended: "Finished", lost: "Disconnected",
};

/** Whether questions are taken in a state. */
export const isOpen = (state) => ["live", "finished", "stopped", "reconnecting"].includes(state);

/** Whether no other session can begin in a state. */
export const isBusy = (state) => ["connecting", "live", "reconnecting", "ending"].includes(state);

const $ = (id) => document.getElementById(id);

/**
 * `state` is one of `STATES`; `resting`: the source has come to its end; `finalising`: a flush is under way; `full`: no
 * further question fits; `captioned`: there is something to download.
 */
export function showControls({ state, resting, finalising, full, captioned }) {
  const [open, busy] = [isOpen(state), isBusy(state)];
  const listening = busy && !resting;
  for (const id of ["microphone", "choose", "everything-option", "options"]) $(id).hidden = busy;
  if (!canCapture()) $("microphone").hidden = true;
  if (!busy) $("fast-option").hidden = false;
  $("source-name").hidden = !busy && !open;
  $("stop").hidden = !listening;
  $("stop").disabled = !open;
  $("flush").hidden = !listening && !(open && finalising);
  $("flush").disabled = !open || finalising;
  $("flush").textContent = finalising ? "Finalising" : "Finalise now";
  $("end").hidden = !open || !resting;
  $("end").disabled = finalising || state === "live"; // so that a second click on Stop ends nothing
  document.querySelector("#ask [type=submit]").disabled = !open || full;
  for (const button of document.querySelectorAll("#answers .reply")) button.disabled = !open;
  document.querySelector("#watch button").disabled = !open || resting; // it is asked again as audio goes on
  const closed = ["ended", "lost"].includes(state) ? "This session is over." : "Questions open once audio flows.";
  $("ask-hint").textContent = full ? "Wait for an answer before asking more." : open ? RESTING : closed;
  $("ask-hint").hidden = open && !full && !resting;
  for (const button of document.querySelectorAll("[data-download]")) button.disabled = !captioned;
}
