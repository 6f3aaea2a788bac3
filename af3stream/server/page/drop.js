// Files that are dropped anywhere on the page.

/** Calls `act(file)` with a file that was dropped, and shows where it may be. */
export function onDrop(act) {
  const dragging = (on) => document.body.classList.toggle("dragging", on);
  addEventListener("dragover", (event) => { event.preventDefault(); dragging(true); });
  addEventListener("dragleave", (event) => { if (!event.relatedTarget) dragging(false); });
  addEventListener("drop", (event) => {
    event.preventDefault();
    dragging(false);
    act(event.dataTransfer.files[0]);
  });
}
