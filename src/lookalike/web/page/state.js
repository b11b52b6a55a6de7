/** The browser's history: where one is, what was there, and how to go elsewhere. */

import { below, format, parse } from "./address.js";

/**
 * What is kept of a history entry. `kept` outlives the page only in memory, the rest also a reload.
 * @typedef {Object} Entry
 * @property {string} key
 * @property {number} scroll
 * @property {number} shown how many images were loaded
 * @property {boolean} [opened] whether going back closes what this entry opened
 * @property {Object<string, any>} values of the view: marks
 */

const KEPT_ENTRIES = 30;
/** @type {Map<string, Object<string, any>>} */
const memory = new Map();
/** @type {Entry} */
let entry;
let timer = 0;
let frozen = false;
/** @type {(restored: boolean) => void} */
let changed = () => {};

function fresh() {
  return { key: Math.random().toString(36).slice(2), scroll: 0, shown: 0, values: {} };
}

export function here() {
  return parse(location);
}

export function current() {
  return entry;
}

/** What the view left in memory for the current entry. */
export function kept() {
  return memory.get(entry.key) ?? {};
}

/** @param {Object<string, any>} values */
export function keep(values) {
  const all = { ...memory.get(entry.key), ...values };
  memory.delete(entry.key);
  memory.set(entry.key, all);
  for (const key of memory.keys()) {
    if (memory.size <= KEPT_ENTRIES) break;
    memory.delete(key);
  }
}

function write() {
  clearTimeout(timer);
  timer = 0;
  history.replaceState(entry, "");
}

/** Browsers allow some hundred writes in half a minute, so they are gathered. */
function writeSoon() {
  timer ||= setTimeout(write, 250);
}

/** @param {Partial<Entry>} values */
export function remember(values) {
  Object.assign(entry, values);
  writeSoon();
}

/** What a user did by hand, which must outlive a reload right after. @param {Object<string, any>} values */
export function rememberNow(values) {
  entry.values = { ...entry.values, ...values };
  write();
}

/** While a view is built the page is short and its scroll position means nothing. */
export function freezeScroll(value) {
  frozen = value;
}

/**
 * @param {Partial<import("./address.js").Address>} address
 * @param {{replace?: boolean, stay?: boolean, values?: Object<string, any>}} [how] stay: the same
 *   images at the same place, with something opened above them
 */
export function go(address, { replace = false, stay = false, values } = {}) {
  const next = stay ? { ...entry, opened: !replace || entry.opened } : fresh();
  if (stay && !replace) next.key = fresh().key;
  if (values) next.values = values;
  const before = stay ? kept() : {};
  write();
  entry = next;
  if (stay) keep(before);
  history[replace ? "replaceState" : "pushState"](entry, "", format(address));
  changed(false);
}

/** @param {(restored: boolean) => void} onchange after going anywhere; restored: back or forward */
export function start(onchange) {
  changed = onchange;
  history.scrollRestoration = "manual";
  const restored = Boolean(history.state?.key);
  entry = restored ? history.state : fresh();
  write();
  addEventListener("popstate", (event) => {
    clearTimeout(timer);
    timer = 0;
    // A fragment or an address typed by hand makes an entry that is not ours.
    entry = event.state?.key ? event.state : fresh();
    if (!event.state?.key) write();
    changed(true);
  });
  addEventListener("pagehide", write);
  addEventListener(
    "scroll",
    () => {
      if (!frozen) remember({ scroll: Math.round(scrollY) });
    },
    { passive: true },
  );
  document.addEventListener("click", follow);
  changed(restored);
}

/** Links between views change the address without reloading the page. @param {MouseEvent} event */
function follow(event) {
  const link = /** @type {Element} */ (event.target).closest?.("a[href]");
  if (!link || event.defaultPrevented || event.button || link.target || link.hasAttribute("download")) return;
  if (event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  const url = new URL(link.href);
  const views = ["/", "/search", "/map", "/duplicates", "/gallery"];
  if (url.origin !== location.origin || !views.includes(url.pathname) || url.hash) return;
  event.preventDefault();
  const address = parse(url);
  const opens = address.compare !== undefined || address.open !== undefined;
  const stay = opens && below(address) === below(here());
  go(address, { stay });
}
