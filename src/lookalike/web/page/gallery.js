/** What the gallery holds, what made it, how good and fast its index is. */

import { get, post } from "./api.js";
import { bucketHistogram, speedCurve } from "./charts.js";
import { element, facts, idle } from "./dom.js";
import { isAbort, problem, whileWorking } from "./notice.js";
import { go, here } from "./state.js";
import { updater } from "./update.js";
import { bytes, count, day, number, percent, sentence } from "./words.js";

const SKIPPED_AT_ONCE = 50;

/** @param {import("./address.js").Address} address @param {AbortSignal} signal */
export function show(address, signal) {
  const summary = element("p", { class: "hint" });
  const contents = element("div", {}, card("Images", images()));
  const internals = element("div", {});
  const skipped = element("div", { class: "cards" });

  const showStats = (stats) => {
    const { gallery } = stats;
    summary.textContent = `${gallery.directory_name} holds ${count(gallery.images, "image")}, ${bytes(gallery.bytes)} in all.`;
    contents.replaceChildren(card("Images", images(gallery)));
    const hadFocus = internals.contains(document.activeElement);
    internals.replaceChildren(
      element("div", { class: "cards made" }, model(stats.model), index(stats)),
      element("div", { class: "cards" }, speed(stats, signal, showStats), buckets(stats)),
    );
    if (hadFocus) internals.querySelector("button")?.focus({ preventScroll: true });
  };

  const load = async () => {
    try {
      showStats(await whileWorking(get("/api/stats", signal)));
      skipped.replaceChildren(...(await Promise.all([unsearched(signal, false), unsearched(signal, true)])));
    } catch (error) {
      if (!isAbort(error)) contents.replaceChildren(problem(error, () => go(here(), { replace: true })));
    }
  };

  return {
    title: "Gallery",
    element: element(
      "section",
      { class: "gallery" },
      element("div", { class: "head" }, element("div", {}, element("h1", { tabindex: "-1" }, "Gallery"), summary)),
      element("div", { class: "cards" }, contents, updater(signal, load)),
      skipped,
      element("details", { class: "internals" }, element("summary", {}, "Internals: model, index, speed"), internals),
    ),
    ready: load(),
  };
}

/** @param {string} title @param {...any} content */
function card(title, ...content) {
  const id = `card-${title.toLowerCase().replaceAll(" ", "-")}`;
  return element("section", { class: "card", "aria-labelledby": id }, element("h2", { id }, title), content);
}

/** @param {any} [gallery] none: only the room that it takes */
function images(gallery) {
  return facts([
    ["Can be searched", gallery ? number(gallery.images) : "…"],
    ["Could not be read", gallery ? number(gallery.skipped) : "…"],
    ["Size of the files", gallery ? bytes(gallery.bytes) : "…"],
    ["Folder", gallery ? gallery.directory_name : "…"],
    ["Last update", gallery ? gallery.updated && day(gallery.updated) : "…"],
  ]);
}

/** @param {any} made */
function model(made) {
  return card(
    "Model",
    facts([
      ["Name", `${made.name} ${made.version}`],
      ["Looks at", `${made.input_size} × ${made.input_size} pixels`],
      ["Dimension of an embedding", number(made.dim)],
      ["Attention", made.attention ? "yes" : "none"],
      ["SHA-256", element("code", { title: made.sha256 }, made.sha256.slice(0, 12))],
    ]),
  );
}

/** @param {any} value */
function setting(value) {
  if (value === null) return "automatic";
  if (typeof value === "number") return number(value);
  if (typeof value === "boolean") return value ? "yes" : "no";
  return typeof value === "string" ? value : null;
}

/** @param {any} stats */
function index({ index: { search, ...made } }) {
  const rows = Object.entries({ ...made, ...search }).map(([name, value]) => {
    const words = name.charAt(0).toUpperCase() + name.slice(1).replaceAll("_", " ");
    return name === "bytes" ? ["Size", bytes(value)] : [words, setting(value)];
  });
  return card("Index", facts(/** @type {[string, any][]} */ (rows)));
}

/** @param {any} stats @param {AbortSignal} signal @param {(stats: any) => void} onmeasured */
function speed({ recall, curve }, signal, onmeasured) {
  const failure = element("div", {});
  const button = element("button", { type: "button", onclick: measure }, recall ? "Measure again" : "Measure");
  async function measure() {
    idle(button, true);
    button.textContent = "Measuring…";
    try {
      onmeasured(await whileWorking(post("/api/stats/measure", {}, signal)));
    } catch (error) {
      if (isAbort(error)) return;
      idle(button, false);
      button.textContent = "Measure";
      failure.replaceChildren(problem(error));
    }
  }
  const summary = recall
    ? facts([
        [`Recall of the best ${recall.k}`, percentExact(recall.recall)],
        ["A query takes", `${recall.microseconds.toFixed(1)} µs`],
      ])
    : element("p", { class: "hint" }, "How many of the true nearest images the index finds, against exact search, and how long a query takes. Measuring takes some seconds.");
  return card("Recall and speed", summary, curve.length > 0 && speedCurve(curve, recall), button, failure);
}

/** @param {number} share */
function percentExact(share) {
  return `${(100 * share).toFixed(1)} %`;
}

/** @param {any} stats */
function buckets({ buckets: sizes, largest_bucket: largest, empty_share: empty }) {
  return card(
    "Buckets",
    facts([
      ["Largest", count(largest, "image")],
      ["Empty", percent(empty)],
    ]),
    sizes.length > 0 && bucketHistogram(sizes),
  );
}

/**
 * What is not searched: files that could not be read, or those that were taken out.
 * @param {AbortSignal} signal
 * @param {boolean} removed
 * @returns {Promise<HTMLElement | "">}
 */
async function unsearched(signal, removed) {
  const id = removed ? "removed-title" : "skipped-title";
  const files = element("ul", { class: "files", "aria-labelledby": id });
  const more = element("button", { type: "button", onclick: next }, "More");
  const failure = element("div", {});
  const title = element("h2", { id, tabindex: "-1" }, removed ? "Taken out by you" : "Files that could not be read");
  const summary = element("p", { class: "hint" });
  let shown = 0;
  let total = 0;

  async function next() {
    failure.replaceChildren();
    const hadFocus = document.activeElement === more;
    try {
      const answer = await get(`/api/skipped?offset=${shown}&limit=${SKIPPED_AT_ONCE}&removed=${removed}`, signal);
      total = answer.total;
      shown += answer.skipped.length;
      files.append(...answer.skipped.map(removed ? removedFile : skippedFile));
      summary.textContent = removed ? "Left out of searches; the files themselves stay where they are." : why(answer);
      more.hidden = shown >= total || !answer.skipped.length;
      if (hadFocus && more.hidden) title.focus({ preventScroll: true });
    } catch (error) {
      if (!isAbort(error)) failure.replaceChildren(problem(error, next));
    }
  }

  /** @param {{id: number, path: string}} file */
  function removedFile({ id, path }) {
    const restore = async () => {
      idle(button, true);
      try {
        await post("/api/restore", { ids: [id] }, signal);
        button.textContent = "Comes back with the next update";
        button.setAttribute("aria-label", `${path} comes back with the next update`);
        shown -= 1;
      } catch (error) {
        idle(button, false);
        if (!isAbort(error)) failure.replaceChildren(problem(error));
      }
    };
    const button = element("button", { type: "button", onclick: restore, "aria-label": `Let ${path} back in` }, "Let back in");
    return element("li", { class: "line" }, element("strong", {}, path), button);
  }

  await next();
  if (removed && !total) return "";
  return element("section", { class: "card", "aria-labelledby": id }, title, summary, files, more, failure);
}

/** @param {{total: number, reasons: {reason: string, files: number}[]}} answer */
function why({ total, reasons }) {
  if (!total) return "None: every image file could be read.";
  return `${count(total, "file")} cannot be searched: ${reasons.map(({ reason, files }) => `${count(files, "file")} ${reason}`).join(", ")}.`;
}

/** @param {{path: string, reason: string, detail: string, remedy: string}} file */
function skippedFile({ path, reason, detail, remedy }) {
  return element(
    "li",
    {},
    element("strong", {}, path),
    element("p", {}, `${reason}: ${detail}`),
    remedy && element("p", { class: "hint" }, sentence(remedy)),
  );
}
