/** An update of the gallery: start it, watch it. */

import { get, post } from "./api.js";
import { element, idle } from "./dom.js";
import { announce, isAbort, problem } from "./notice.js";
import { count, duration, explained, number } from "./words.js";

/** @typedef {import("./api.js").Progress} Progress */

const POLL = 1000;
const NOTED_EVERY = 2000;

/** @param {AbortSignal} signal */
function wait(signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, POLL);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });
}

/** @param {(progress: Progress) => void} onprogress @param {AbortSignal} signal */
async function poll(onprogress, signal) {
  for (;;) {
    const progress = await get("/api/update", signal);
    onprogress(progress);
    if (!progress.updating) return;
    await wait(signal);
  }
}

/**
 * Until the update is done: by events of the server, or by polling where they do not come through.
 * @param {(progress: Progress) => void} onprogress
 * @param {AbortSignal} signal
 */
function watch(onprogress, signal) {
  return new Promise((resolve, reject) => {
    const events = new EventSource("/api/update/events");
    signal.addEventListener("abort", () => events.close());
    events.onmessage = (event) => {
      const progress = JSON.parse(event.data);
      onprogress(progress);
      if (progress.updating) return;
      events.close();
      resolve(undefined);
    };
    events.onerror = () => {
      events.close();
      poll(onprogress, signal).then(resolve, reject);
    };
  });
}

/** Brings the gallery up to date and waits for that. */
export async function updated() {
  const { signal } = new AbortController();
  await post("/api/update").catch((error) => {
    if (error.status !== 409) throw error;
  });
  await watch(() => {}, signal);
}

/** @param {Object<string, any>} report */
function inWords(report) {
  const parts = ["added", "changed", "moved", "dropped"]
    .filter((name) => report[name])
    .map((name) => `${number(report[name])} ${name}`);
  const took = ` It took ${duration(report.seconds)}.`;
  const images = ` ${count(report.images, "image")} in the gallery, ${count(report.skipped, "file")} skipped.`;
  const unlisted = report.unlisted ? ` ${count(report.unlisted, "path")} could not be read; what was known there is kept.` : "";
  const missing = report.missing
    ? ` ${count(report.missing, "file")} missing, but kept (${report.missing_why}). Mount their disk and update again, or, if they are gone for good, run: lookalike index --accept-missing.`
    : "";
  return `${report.missing ? "Updated" : "Up to date"}: ${parts.join(", ") || "nothing had changed"}.${images}${unlisted}${missing}${took}`;
}

export const USUAL = {
  title: "Update",
  button: "Update now",
  text: "Takes in new and changed files, and drops what is gone. Searches go on meanwhile.",
  onprogress: () => {},
};

/**
 * @param {AbortSignal} signal
 * @param {() => void} ondone
 * @param {{title: string, button: string, text: string, onprogress: () => void}} [words] onprogress: now
 *   and then, while it goes on
 */
export function updater(signal, ondone, words = USUAL) {
  const summary = element("p", { class: "hint", role: "status" }, words.text);
  const bar = element("progress", { "aria-label": "Progress of the update", hidden: true });
  const failure = element("div", {});
  let noted = 0;
  const button = element("button", { type: "button", class: "main", onclick: start }, words.button);

  /** @param {Progress} progress */
  function show({ updating, done, total, report, error }) {
    idle(button, updating);
    bar.hidden = !updating;
    if (updating) {
      if (Date.now() - noted > NOTED_EVERY) {
        noted = Date.now();
        words.onprogress();
      }
      if (total) {
        bar.max = total;
        bar.value = done;
      } else {
        bar.removeAttribute("value");
      }
      summary.textContent = total ? `${number(done)} of ${number(total)} files read.` : "Looking for changed files…";
    } else if (error) {
      summary.textContent = `The update failed. ${explained(error)}`;
    } else if (report) {
      summary.textContent = inWords(report);
    }
  }

  async function follow() {
    await watch(show, signal);
    announce(summary.textContent ?? "");
    ondone();
  }

  async function start() {
    failure.replaceChildren();
    idle(button, true);
    try {
      await post("/api/update", {}, signal).catch((error) => {
        // Another client has started one: follow that.
        if (error.status !== 409) throw error;
      });
      await follow();
    } catch (error) {
      if (isAbort(error)) return;
      idle(button, false);
      bar.hidden = true;
      failure.replaceChildren(problem(error));
    }
  }

  get("/api/update", signal)
    .then((progress) => {
      show(progress);
      return progress.updating ? follow() : undefined;
    })
    .catch((error) => {
      if (!isAbort(error)) failure.replaceChildren(problem(error));
    });

  return element(
    "section",
    { class: "card update", "aria-labelledby": "update-title" },
    element("div", { class: "line" }, element("h2", { id: "update-title" }, words.title), button),
    bar,
    summary,
    failure,
  );
}
