// What a person chooses before a session begins: the language, a translation, who speaks.

const AUTO = "auto";
// The languages that Whisper knows, by their codes; the service refuses one that its captioner does not know.
const CODES = (
  "af am ar as az ba be bg bn bo br bs ca cs cy da de el en es et eu fa fi fo fr gl gu ha haw he hi hr ht hu hy id is it "
  + "ja jw ka kk km kn ko la lb ln lo lt lv mg mi mk ml mn mr ms mt my ne nl nn no oc pa pl ps pt ro ru sa sd si sk sl sn "
  + "so sq sr su sv sw ta te tg th tk tl tr tt uk ur uz vi yi yo zh"
).split(" ");
const REMEMBERED = "af3stream.options";

/** The name of a language as this browser's person calls it. */
export function languageName(code) {
  try {
    return new Intl.DisplayNames(undefined, { type: "language" }).of(code === "jw" ? "jv" : code);
  } catch { // no code that the browser knows
    return code;
  }
}

/** The choices: `language` is a select, `translate` and `speakers` are checkboxes. The browser remembers them. */
export class Options {
  constructor(elements) {
    Object.assign(this, elements);
    const named = CODES.map((code) => [languageName(code), code]).sort(([a], [b]) => a.localeCompare(b));
    this.language.append(new Option("Detect the language", AUTO), ...named.map(([name, code]) => new Option(name, code)));
    const before = JSON.parse(localStorage.getItem(REMEMBERED) ?? "{}");
    this.language.value = CODES.includes(before.language) ? before.language : AUTO;
    this.translate.checked = Boolean(before.translate);
    this.speakers.checked = Boolean(before.speakers);
    for (const element of [this.language, this.translate, this.speakers]) {
      element.addEventListener("change", () => this.remember());
    }
  }

  remember() {
    const { language, translate, speakers } = this;
    localStorage.setItem(REMEMBERED, JSON.stringify({
      language: language.value, translate: translate.checked, speakers: speakers.checked,
    }));
  }

  /** The fields of `start` that they make; what is left as it is, is as the service is configured. */
  get start() {
    return {
      ...(this.language.value !== AUTO && { language: this.language.value }),
      ...(this.translate.checked && { task: "translate" }),
      ...(this.speakers.checked && { speakers: true }),
    };
  }
}
