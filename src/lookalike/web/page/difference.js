/** Two images at one place: one over the other up to a line, or in turn. */

import { element, iconButton } from "./dom.js";
import { showPhoto } from "./photo.js";

/** @typedef {import("./api.js").GalleryImage} GalleryImage */

const BLINK = 600;

/** @param {GalleryImage} kept @param {GalleryImage} other @param {string} how they are alike */
export function showDifference(kept, other, how) {
  const [below, above] = [element("img", { draggable: "false" }), element("img", { draggable: "false" })];
  showPhoto(below, kept);
  showPhoto(above, other);
  const field = element("input", { type: "range", min: 0, max: 100, value: 50, "aria-label": "Where the second image begins", oninput: () => reveal() });
  const reveal = () => {
    above.style.clipPath = `inset(0 0 0 ${field.value}%)`;
  };
  const blink = element("button", { type: "button", "aria-pressed": "false", onclick: () => (timer ? still() : start()) }, "Blink");
  let timer = 0;
  const start = () => {
    above.style.clipPath = "none";
    timer = setInterval(() => above.classList.toggle("unshown"), BLINK);
    blink.setAttribute("aria-pressed", "true");
  };
  const still = () => {
    clearInterval(timer);
    timer = 0;
    above.classList.remove("unshown");
    blink.setAttribute("aria-pressed", "false");
    reveal();
  };
  const dialog = element(
    "dialog",
    { class: "viewer difference", "aria-labelledby": "difference-title" },
    element("div", { class: "row" }, element("h2", { id: "difference-title", tabindex: "-1", autofocus: true }, `Difference: ${how}`), iconButton("close", "Close", { onclick: () => dialog.close() })),
    element("div", { class: "overlaid" }, below, above),
    element("div", { class: "row" }, element("span", {}, kept.path), field, element("span", {}, other.path), blink),
  );
  dialog.addEventListener("close", () => {
    clearInterval(timer);
    dialog.remove();
  });
  document.body.append(dialog);
  reveal();
  dialog.showModal();
}
