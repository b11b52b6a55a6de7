/** What the page says: short notes, words for screen readers, and what went wrong. */

import { element } from "./dom.js";
import { explained } from "./words.js";

const SHOWN_FOR = 6000;
const notes = /** @type {HTMLElement} */ (document.getElementById("notes"));
let pending = 0;

/**
 * A note that is seen and read aloud, and goes by itself.
 * @param {string} text
 * @param {{text: string, act: () => any}} [offer] a button, for which the note stays longer
 */
export function say(text, offer) {
  const act = () => {
    note.remove();
    offer?.act()?.catch?.((error) => say(explained(error)));
  };
  const note = element("p", { class: "note" }, text, offer && element("button", { type: "button", onclick: act }, offer.text));
  // A modal dialog covers and mutes what is outside of it.
  const dialog = document.querySelector("dialog[open]");
  if (notes.parentNode !== (dialog ?? document.body)) (dialog ?? document.body).append(notes);
  notes.replaceChildren(note);
  const end = () => (note.matches(":hover, :focus-within") ? setTimeout(end, SHOWN_FOR) : note.remove());
  setTimeout(end, offer ? 5 * SHOWN_FOR : SHOWN_FOR);
}

/** Read aloud only. @param {string} text */
export function announce(text) {
  /** @type {HTMLElement} */ (document.getElementById("announcer")).textContent = text;
}

/** The bar at the top while something is on its way. @template T @param {Promise<T>} work */
export async function whileWorking(work) {
  const bar = /** @type {HTMLElement} */ (document.getElementById("working"));
  pending += 1;
  bar.hidden = false;
  try {
    return await work;
  } finally {
    pending -= 1;
    bar.hidden = pending === 0;
  }
}

/**
 * An error as sentences, with a way on.
 * @param {any} error
 * @param {(() => void) | null} [again]
 */
export function problem(error, again = null) {
  return element(
    "div",
    { class: "problem", role: "alert" },
    element("p", {}, explained(error)),
    again && element("button", { type: "button", onclick: again }, "Try again"),
  );
}

/** Whether the view changed meanwhile, which is not an error. @param {any} error */
export function isAbort(error) {
  return error?.name === "AbortError";
}
