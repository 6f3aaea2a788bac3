// Questions with their streaming answers, and watches (standing questions).

import { FINISHES, make, range, reach, refusal } from "./words.js";

export class Questions {
  constructor({ list, spoken, send, onPick, onCount, onReply }) {
    Object.assign(this, { list, spoken, send, onPick, onCount, onReply });
    this.clear();
  }

  clear() {
    this.cards = new Map();
    this.answers = [];
    this.newest = null; // the card of the newest answer that takes a reply
    this.list.replaceChildren();
  }

  get waiting() { return [...this.cards.values()].filter((card) => !card.done).length; }

  /** `followed` is the id of the question whose answer this one replies to. */
  ask(text, last_s, followed) {
    const id = `q${this.cards.size + 1}`;
    const after = followed && (this.cards.get(followed).outcome.event ?? followed);
    const card = this.add(id, text, followed);
    if (followed) this.scroll(card);
    else this.list.scrollTop = 0;
    this.send({ type: "ask", id, text, ...(last_s ? { scope: { last_s } } : {}), ...(after && { after }) });
    this.onCount(this.waiting);
  }

  add(id, text, followed) {
    const card = { id, text, followed, done: false, outcome: null, ...questionCard(text, () => this.send({ type: "cancel", id })) };
    this.cards.set(id, card);
    if (followed) this.cards.get(followed).thread.append(card.element);
    else this.list.prepend(card.element);
    return card;
  }

  /** What outlives a reload: every question, with its answer or refusal where there is one. */
  kept() { return [...this.cards.values()].map(({ id, text, followed, outcome }) => ({ id, text, followed, outcome })); }

  restore(kept) {
    for (const { id, text, followed, outcome } of kept) {
      const card = this.add(id, text, followed);
      if (outcome?.type === "answer") this.show(card, outcome);
      else if (outcome) this.fail(outcome);
    }
  }

  /** Answers under way begin anew: the connection was lost. */
  torn() {
    for (const card of this.cards.values()) {
      if (card.done) continue;
      card.answer.textContent = "";
      card.element.dataset.state = "waiting";
      card.foot.firstElementChild.textContent = "Listening back";
    }
  }

  delta({ id, text }) {
    const card = this.cards.get(id);
    if (!card || card.done) return;
    if (card.element.dataset.state === "waiting") {
      card.element.dataset.state = "answering";
      card.foot.firstElementChild.textContent = "Answering";
    }
    this.grow(card, () => { card.answer.textContent += text; });
  }

  answer(message) {
    const card = this.cards.get(message.id);
    if (!card || card.done) return;
    this.grow(card, () => this.show(card, message));
    this.spoken.replaceChildren(make("p", { textContent: `Answer to “${card.text}”: ${message.text}` }));
    this.onPick(message);
  }

  show(card, message) {
    card.outcome = message;
    card.answer.textContent = message.text;
    const heard = make("button", { type: "button", className: "range", textContent: reach(message) });
    heard.addEventListener("click", () => this.onPick(message));
    const notes = [FINISHES[message.finish], message.ttft_ms != null && `${(message.ttft_ms / 1000).toFixed(1)} s to the first word`];
    const remarks = make("div", { className: "remarks" }, make("span", { textContent: notes.filter(Boolean).join(" · ") }));
    card.foot.replaceChildren(heard, remarks);
    if (message.question && message.text.trim()) this.offerReply(card); // a service without follow-ups names no question
    this.finish(card, message.finish === "cancelled" ? "cancelled" : "answered");
    const { text, start, end, windows, finish, heard_until, captions_from, captioned_until } = message;
    const followed = this.cards.get(card.followed)?.text;
    const reached = { start, end, windows, heard_until, captions_from, captioned_until };
    this.answers.push({ question: card.text, follows_up: followed, answer: text, ...reached, finish });
  }

  offerReply(card) {
    this.newest = card;
    const reply = make("button", { type: "button", className: "quiet reply", textContent: "Reply" });
    reply.setAttribute("aria-label", `Reply to the answer to: ${card.text}`);
    reply.addEventListener("click", () => this.onReply(card));
    card.foot.lastElementChild.append(reply);
  }

  /** Changes a card; whoever saw its end in the list still does. */
  grow(card, change) {
    const seen = this.under(card) <= 1;
    change();
    if (seen) this.scroll(card);
  }

  scroll(card) { this.list.scrollTop += Math.max(0, this.under(card)); }

  /** How many pixels below the list's end a card ends, what replies to it left out. */
  under({ foot }) { return foot.getBoundingClientRect().bottom - this.list.getBoundingClientRect().bottom; }

  /** Shows a refusal on the card it belongs to; false if it belongs to none. */
  fail(error) {
    const card = this.cards.get(error.ref);
    if (!card || card.done) return false;
    card.outcome = error;
    card.foot.replaceChildren(make("span", { className: "problem", textContent: refusal(error) }));
    this.finish(card, "failed");
    return true;
  }

  /** The connection is gone: nothing more will come. */
  abandon() {
    for (const card of this.cards.values()) {
      if (card.done) continue;
      card.foot.replaceChildren(make("span", { className: "problem", textContent: "Not answered: the session ended." }));
      this.finish(card, "failed");
    }
  }

  finish(card, state) {
    card.done = true;
    card.element.dataset.state = state;
    this.onCount(this.waiting);
  }
}

function questionCard(text, onCancel) {
  const answer = make("p", { className: "answer" });
  const cancel = make("button", { type: "button", className: "quiet", textContent: "Cancel" });
  cancel.setAttribute("aria-label", `Cancel the question: ${text}`);
  cancel.addEventListener("click", onCancel);
  const foot = make("footer", {}, make("span", { className: "thinking", textContent: "Listening back" }), cancel);
  const thread = make("ol", { className: "thread" });
  thread.setAttribute("aria-label", `Replies to the answer to: ${text}`);
  const element = make("li", {}, make("p", { className: "asked", textContent: text }), answer, foot, thread);
  element.dataset.state = "waiting";
  return { element, answer, foot, thread };
}

export class Watches {
  constructor({ list, send, onPick }) {
    Object.assign(this, { list, send, onPick, made: 0 });
    this.clear();
  }

  clear() {
    this.cards = new Map();
    this.list.replaceChildren();
  }

  add(text, every_s) {
    const id = `w${this.made + 1}`;
    this.place({ id, text, every_s });
    this.send({ type: "watch", id, text, ...(every_s ? { every_s } : {}) });
  }

  /** What outlives a reload: every watch, with its newest answer. */
  kept() { return [...this.cards.values()].map(({ watch, newest }) => ({ ...watch, newest })); }

  restore(kept) {
    for (const { newest, ...watch } of kept) {
      this.place(watch);
      if (newest) this.hit(newest);
    }
  }

  place({ id, text, every_s }) {
    this.made = Math.max(this.made, Number(id.slice(1)));
    const answer = make("p", { className: "answer", textContent: "No answer yet." });
    const remove = make("button", { type: "button", className: "quiet", textContent: "Remove" });
    remove.setAttribute("aria-label", `Remove the watch: ${text}`);
    const when = make("span", { textContent: every_s ? `every ${every_s} s of audio` : "as windows close" });
    const foot = make("footer", {}, when, remove);
    const element = make("li", {}, make("p", { className: "asked", textContent: text }), answer, foot);
    element.dataset.state = "waiting";
    remove.addEventListener("click", () => {
      this.send({ type: "unwatch", id });
      this.cards.delete(id);
      element.remove();
    });
    this.cards.set(id, { element, answer, foot, when, watch: { id, text, every_s }, newest: null });
    this.list.prepend(element);
  }

  hit(message) {
    const card = this.cards.get(message.id);
    if (!card) return;
    card.newest = message;
    card.element.dataset.state = "answered";
    card.answer.textContent = message.text;
    const heard = make("button", { type: "button", className: "range", textContent: `Heard ${range(message)}` });
    heard.addEventListener("click", () => this.onPick(message));
    card.when.replaceWith(heard);
    card.when = heard;
  }

  fail(error) {
    const card = this.cards.get(error.ref);
    if (!card) return false;
    card.element.dataset.state = "failed";
    card.answer.textContent = refusal(error);
    return true;
  }
}
