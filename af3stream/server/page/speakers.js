// Who speaks: a label before the first caption of each turn, which a person can give a name.

import { make } from "./words.js";

const MOST_CHARS = 64; // of a name, as the protocol has it

/** The names of the session's speakers, and the labels that show them. `onName(speaker, name)` asks for a new name. */
export class Speakers {
  constructor({ onName }) {
    Object.assign(this, { onName, names: new Map(), labels: new Map() });
  }

  clear() {
    this.names.clear();
    this.labels.clear();
  }

  name(speaker) { return this.names.get(speaker) || `Speaker ${speaker}`; }

  /** A speaker has a name from now on; an empty one: none any more. */
  named({ speaker, name }) {
    this.names.set(speaker, name);
    for (const [label, of] of this.labels) {
      if (label.isConnected && of === speaker) label.textContent = this.name(speaker);
    }
  }

  /** A button with the speaker's name, which turns into a field. */
  label() {
    const label = make("button", { type: "button", className: "speaker", hidden: true });
    label.title = "Name this speaker";
    label.addEventListener("click", () => this.edit(label));
    return label;
  }

  /** Shows a speaker on a label; nobody, where it is not known or the caption before is the same person's. */
  show(label, speaker, before) {
    this.labels.set(label, speaker);
    label.hidden = speaker == null || speaker === before;
    if (speaker != null) label.textContent = this.name(speaker);
  }

  forget(label) { this.labels.delete(label); }

  edit(label) {
    const speaker = this.labels.get(label);
    const field = make("input", { type: "text", className: "speaker", maxLength: MOST_CHARS, value: this.names.get(speaker) ?? "" });
    field.placeholder = this.name(speaker);
    field.setAttribute("aria-label", `Name of ${this.name(speaker)}`);
    let over = false; // a field that is replaced loses the focus
    const done = (keep) => {
      if (over) return;
      over = true;
      const name = field.value.trim();
      field.replaceWith(label);
      label.focus();
      if (keep && name !== (this.names.get(speaker) ?? "")) this.onName(speaker, name);
    };
    field.addEventListener("keydown", (event) => {
      if (!["Enter", "Escape"].includes(event.key)) return;
      event.preventDefault(); // the label has the focus then, and Enter would press it
      done(event.key === "Enter");
    });
    field.addEventListener("blur", () => done(true));
    label.replaceWith(field);
    field.focus();
    field.select();
  }
}
