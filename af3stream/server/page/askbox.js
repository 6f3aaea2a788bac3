// The box that questions are typed into. Its next question stands alone, or replies to an answer.

const FOLLOW_UP = ">"; // typed first, it replies to the newest answer, as in `af3stream listen --ask`

/**
 * `form` holds the question box, the scope and the answer that is replied to. `newest()` is the card of the newest
 * answer that takes a reply; `onAsk(text, last_s, id)` asks, with the id of the question that is replied to, or none.
 */
export class AskBox {
  constructor({ form, newest, onAsk }) {
    const part = (selector) => form.querySelector(selector);
    Object.assign(this, { form, newest, onAsk, field: part("textarea"), button: part("[type=submit]"), replying: part(".replying") });
    this.plain = { placeholder: this.field.placeholder, button: this.button.textContent };
    form.addEventListener("submit", (event) => { event.preventDefault(); this.ask(Number(part("select").value)); });
    form.addEventListener("keydown", (event) => this.key(event));
    this.field.addEventListener("input", () => this.typed());
    part(".leave").addEventListener("click", () => this.leave());
    this.card = null;
  }

  /** The next question replies to this card's answer. */
  reply(card) {
    this.clear();
    this.card = card;
    card.element.classList.add("replied-to");
    this.replying.hidden = false;
    this.replying.querySelector(".asked").textContent = card.text;
    this.replying.querySelector(".answer").textContent = card.outcome.text;
    this.field.setAttribute("aria-describedby", this.replying.firstElementChild.id);
    this.field.placeholder = "Ask a follow-up";
    this.button.textContent = "Reply";
    this.field.focus();
  }

  /** The next question stands alone; what was typed stays. */
  leave() {
    this.clear();
    this.field.focus();
  }

  clear() {
    this.card?.element.classList.remove("replied-to");
    this.card = null;
    this.replying.hidden = true;
    this.field.removeAttribute("aria-describedby");
    this.field.placeholder = this.plain.placeholder;
    this.button.textContent = this.plain.button;
  }

  ask(last_s) {
    const text = this.field.value.trim();
    if (!text) return;
    this.onAsk(text, last_s, this.card?.id);
    this.field.value = "";
    this.clear();
  }

  key(event) {
    if (event.isComposing) return;
    if (event.key === "Escape" && this.card) {
      event.preventDefault();
      this.leave();
    } else if (event.key === "Enter" && !event.shiftKey && event.target === this.field) {
      event.preventDefault();
      if (!this.button.disabled) this.form.requestSubmit();
    }
  }

  typed() {
    const card = this.field.value.startsWith(FOLLOW_UP) && this.newest();
    if (!card) return;
    this.field.value = this.field.value.slice(FOLLOW_UP.length).trimStart();
    this.reply(card);
  }
}
