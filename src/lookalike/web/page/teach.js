/** Which hits are right and which are not; what to do with that. */

import { post } from "./api.js";
import { source } from "./address.js";
import { element, iconButton, idle } from "./dom.js";
import { announce, isAbort, problem, say, whileWorking } from "./notice.js";
import { current, go, here, rememberNow } from "./state.js";
import { count } from "./words.js";

/** @typedef {import("./api.js").Hit} Hit */

const ASKED = 10;

export class Teach {
  /** @param {(hits: Hit[]) => void} onask shows the images that the server asks about */
  constructor(onask) {
    /** @type {Map<number, boolean>} */
    this.marks = new Map();
    this.onask = onask;
    this.counted = element("p", { class: "counted" });
    this.failure = element("div", {});
    this.refineButton = element("button", { type: "button", class: "main", onclick: () => this.refine() }, "Refine");
    this.resetButton = element("button", { type: "button", onclick: () => this.reset() }, "Reset");
    this.element = element(
      "section",
      { class: "teach", "aria-labelledby": "teach-title" },
      element("h2", { id: "teach-title" }, "Teach it"),
      this.counted,
      element("p", { class: "counted more" }, "Or be asked about the images that teach most."),
      element(
        "div",
        { class: "buttons" },
        this.refineButton,
        element("button", { type: "button", onclick: () => this.ask() }, "Ask me"),
        this.resetButton,
      ),
      this.failure,
    );
  }

  /** Takes over what the address and the history entry say. */
  follow() {
    const { yes, no } = here();
    const stored = current().values.marks;
    this.marks = new Map(stored ?? [...yes.map((id) => [id, true]), ...no.map((id) => [id, false])]);
    this.failure.replaceChildren();
    this.show();
    for (const pair of document.querySelectorAll(".judge")) this.showOn(pair);
  }

  /** The two thumbs of a hit. @param {Hit} hit */
  buttons(hit) {
    const pair = element(
      "span",
      { class: "judge", "data-judged": hit.id },
      iconButton("up", `Alike: ${hit.path}`, { title: "Alike", onclick: () => this.mark(hit.id, true) }),
      iconButton("down", `Not alike: ${hit.path}`, { title: "Not alike", onclick: () => this.mark(hit.id, false) }),
    );
    this.showOn(pair);
    return pair;
  }

  /** Marks a hit, or takes the same mark back. @param {number} id @param {boolean} alike */
  mark(id, alike) {
    if (this.marks.get(id) === alike) this.marks.delete(id);
    else this.marks.set(id, alike);
    this.store();
    for (const pair of document.querySelectorAll(`[data-judged="${id}"]`)) this.showOn(pair);
    this.show();
    announce(this.inWords());
  }

  /** Marks are the same in every history entry of a search: with a hit open, and without. */
  store() {
    rememberNow({ marks: [...this.marks] });
  }

  /** @param {any} pair */
  showOn(pair) {
    const mark = this.marks.get(Number(pair.dataset.judged));
    const [up, down] = pair.children;
    up.setAttribute("aria-pressed", String(mark === true));
    down.setAttribute("aria-pressed", String(mark === false));
  }

  ids(alike) {
    return [...this.marks].filter(([, mark]) => mark === alike).map(([id]) => id);
  }

  inWords() {
    const { round } = here();
    if (!this.marks.size && !round) return "Mark hits with the thumbs, then refine.";
    const marked = `${this.ids(true).length} alike, ${this.ids(false).length} not`;
    return `${round ? `Round ${round}` : "Not refined yet"}: ${marked}.`;
  }

  show() {
    this.counted.textContent = this.inWords();
    idle(this.refineButton, !this.marks.size);
    idle(this.resetButton, !this.marks.size && !here().round);
  }

  refine() {
    const { round } = here();
    go({ ...here(), yes: this.ids(true), no: this.ids(false), round: round + 1, compare: undefined });
  }

  reset() {
    if (here().round) {
      go({ ...here(), yes: [], no: [], round: 0, compare: undefined });
    } else {
      const marked = [...this.marks.keys()];
      this.marks.clear();
      this.store();
      for (const id of marked) {
        for (const pair of document.querySelectorAll(`[data-judged="${id}"]`)) this.showOn(pair);
      }
      this.show();
    }
    this.onask([]);
  }

  async ask() {
    this.failure.replaceChildren();
    const judged = { relevant: [...here().like, ...this.ids(true)], irrelevant: this.ids(false) };
    try {
      const { ask } = await whileWorking(post("/api/feedback", { ...source(here()), ...judged, k: 1, ask: ASKED }));
      this.onask(ask);
      say(ask.length ? `${count(ask.length, "image")} to judge. Then refine.` : "There is nothing left to ask about.");
    } catch (error) {
      if (!isAbort(error)) this.failure.replaceChildren(problem(error));
    }
  }
}
