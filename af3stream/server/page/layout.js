// Where the parts of the page stand.

const PHONE = "(max-width: 36rem), (max-width: 60rem) and (max-height: 30rem)";

/** On a phone the timeline follows captions and questions: for the eye, for Tab and for screen readers alike. */
export function arrange(timeline, main) {
  const phone = matchMedia(PHONE);
  const place = () => (phone.matches ? main.after(timeline) : main.before(timeline));
  phone.addEventListener("change", place);
  place();
}
