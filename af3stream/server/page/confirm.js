// A question to the person that waits for yes or no.

/** Shows a dialog whose buttons have values; resolves to whether the one with `value` was pressed. */
export function confirmed(dialog, value) {
  if (dialog.open) return Promise.resolve(false);
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === value), { once: true });
  });
}
