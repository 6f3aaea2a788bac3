// The account of a finished session: received = heard + skipped + lost.

import { make } from "./words.js";

const PARTS = [
  ["heard_s", "Heard by the model"],
  ["skipped_s", "Left out, no speech"],
  ["lost_s", "Lost on the way"],
];

export function showLedger(element, ended) {
  const bar = make("div", { className: "bar" });
  bar.setAttribute("aria-hidden", "true");
  const rows = [["Received", seconds(ended.received_s)]];
  for (const [key, label] of PARTS) {
    const part = make("span", { className: key.slice(0, -2) });
    part.style.flexGrow = ended[key];
    bar.append(part);
    rows.push([label, seconds(ended[key])]);
  }
  rows.push(["Captioned", seconds(ended.captioned_s)], ["Utterances", ended.utterances], ["Windows", ended.windows]);
  const list = make("dl", {}, ...rows.map(([name, value]) =>
    make("div", {}, make("dt", { textContent: name }), make("dd", { textContent: value }))));
  element.replaceChildren(make("h3", { textContent: "Every second, accounted for" }), bar, list);
  element.hidden = false;
}

const seconds = (value) => `${value.toFixed(1)} s`;
