/** Which view the address asks for. */

import { below as underneath } from "./address.js";
import { element } from "./dom.js";
import { acceptImages, acceptWords, showWords } from "./input.js";
import { isAbort, problem } from "./notice.js";
import { show as browse } from "./browse.js";
import { applySize } from "./size.js";
import { current, freezeScroll, here, start } from "./state.js";

/**
 * What a view gives: `ready` when as much is there as was before; `follow` goes to another address
 * of the same view, or gives null.
 * @typedef {Object} View
 * @property {string} title
 * @property {HTMLElement} element
 * @property {Promise<any>} ready
 * @property {(address: import("./address.js").Address) => Promise<any> | null} [follow]
 */

/** @type {Object<string, (address: any, signal: AbortSignal) => View | Promise<View>>} */
const views = {
  "/": browse,
  "/search": async (address, signal) => (await import("./search.js")).show(address, signal),
  "/map": async (address, signal) => (await import("./map.js")).show(address, signal),
  "/duplicates": async (address, signal) => (await import("./duplicates.js")).show(address, signal),
  "/gallery": async (address, signal) => (await import("./gallery.js")).show(address, signal),
};
const main = /** @type {HTMLElement} */ (document.getElementById("main"));
let leaving = new AbortController();
/** @type {View | null} */
let view = null;
/** What is below the dialog, as an address. */
let below = "";

/** @param {boolean} restored */
async function render(restored) {
  const address = here();
  showWords();
  const under = underneath(address);
  const same = under === below;
  const first = below === "";
  below = under;
  const { scroll } = current();
  const following = view?.follow?.(address);
  if (same && following) {
    await following;
    return;
  }
  freezeScroll(true);
  try {
    if (following) {
      scrollTo(0, scroll);
      await following;
    } else {
      await replace(address, first, restored);
    }
    if (under === below) scrollTo(0, scroll);
  } finally {
    if (under === below) freezeScroll(false);
  }
}

/** @param {import("./address.js").Address} address @param {boolean} first @param {boolean} restored */
async function replace(address, first, restored) {
  leaving.abort(new DOMException("another view was opened", "AbortError"));
  leaving = new AbortController();
  const { signal } = leaving;
  for (const link of document.querySelectorAll("[data-view]")) {
    if (link.dataset.view === address.path) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const made = await views[address.path](address, signal);
  if (signal.aborted) return;
  view = made;
  main.replaceChildren(made.element);
  document.title = `${made.title} - lookalike`;
  if (!restored) scrollTo(0, 0);
  if (!first) made.element.querySelector("h1")?.focus({ preventScroll: true });
  await made.ready;
}

// A click on a button that can do nothing for now (`idle`) does nothing.
document.addEventListener(
  "click",
  (event) => {
    if (/** @type {Element} */ (event.target).closest('[aria-disabled="true"]')) event.stopPropagation();
  },
  { capture: true },
);
applySize();
acceptImages();
acceptWords();
start((restored) => {
  render(restored).catch((error) => {
    if (!isAbort(error)) main.replaceChildren(element("h1", {}, "This view failed"), problem(error, () => location.reload()));
  });
});
