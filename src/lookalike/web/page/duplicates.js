/** Groups of near duplicates: what to keep is proposed, changed by hand, and written to a file. */

import { format } from "./address.js";
import { post } from "./api.js";
import { element, icon } from "./dom.js";
import { announce, isAbort, problem, say, whileWorking } from "./notice.js";
import { current, go, keep, kept, remember, rememberNow } from "./state.js";
import { pathShown, similarTo, thumbnail } from "./tiles.js";
import { bytes, count, number } from "./words.js";

/** @typedef {import("./api.js").Duplicate} Duplicate */
/** @typedef {{keep: Duplicate, others: Duplicate[]}} Group */

const AT_ONCE = 12;
/** Below, the server says, nearly everything pairs with everything. */
const LOWEST = 0.8;

/** @param {import("./address.js").Address} address @param {AbortSignal} signal */
export function show(address, signal) {
  const view = new Duplicates(address, signal);
  return { title: "Duplicates", element: view.element, ready: view.load() };
}

/** Whether to keep a file is proposed: another shot of a scene is not a copy. @param {Duplicate} item */
const isProposed = (item) => item.kind === null || item.kind === "another shot";

class Duplicates {
  /** @param {import("./address.js").Address} address @param {AbortSignal} signal */
  constructor(address, signal) {
    this.address = address;
    this.signal = signal;
    /** @type {Group[]} */
    this.groups = [];
    /** Files that were left out since they are not what was indexed. */
    this.left = 0;
    /** Where the user differs from the proposal: id -> keep. @type {Map<number, boolean>} */
    this.changed = new Map(current().values.changed ?? []);
    this.summary = element("p", { class: "hint" }, "Looking for near duplicates…");
    this.field = element("input", { id: "closeness", type: "number", min: LOWEST, max: 1, step: "any", value: address.threshold, placeholder: "0.95" });
    this.exportButton = element("button", { type: "button", class: "main", disabled: true, onclick: () => this.export() }, icon("save"), "Export marks as JSON");
    this.list = element("div", { class: "groups" });
    this.end = element("div", { class: "end" });
    this.watcher = new IntersectionObserver(
      (seen) => {
        if (seen.some((one) => one.isIntersecting)) this.showMore(AT_ONCE);
      },
      { rootMargin: "900px" },
    );
    signal.addEventListener("abort", () => this.watcher.disconnect());
    this.element = element(
      "section",
      { class: "duplicates" },
      element(
        "div",
        { class: "head" },
        element("div", {}, element("h1", { tabindex: "-1" }, "Duplicates"), this.summary),
        element(
          "form",
          { class: "closeness", onsubmit: (event) => this.submit(event) },
          element("label", { for: "closeness" }, "Cosine at least"),
          this.field,
          element("button", {}, "Find"),
          this.exportButton,
        ),
      ),
      element("p", { class: "safe" }, "Nothing is deleted here. Change the marks, then export them: the file lists what to keep and what could go."),
      this.list,
      this.end,
    );
  }

  /** @param {SubmitEvent} event */
  submit(event) {
    event.preventDefault();
    go({ path: "/duplicates", threshold: this.field.value === "" ? undefined : Number(this.field.value) });
  }

  async load() {
    try {
      const found = kept().found ?? (await whileWorking(post("/api/duplicates", { threshold: this.address.threshold }, this.signal)));
      keep({ found });
      this.groups = found.groups;
      this.threshold = found.threshold;
      this.left = found.changed.length;
    } catch (error) {
      if (isAbort(error)) return;
      this.summary.textContent = "";
      this.list.replaceChildren(problem(error, () => go(this.address, { replace: true })));
      return;
    }
    this.field.value = String(this.threshold);
    this.exportButton.disabled = !this.groups.length;
    this.sum();
    announce(this.summary.textContent);
    this.showMore(Math.max(AT_ONCE, current().shown));
    this.watcher.observe(this.end);
  }

  /** @param {number} more */
  showMore(more) {
    const from = this.list.children.length;
    const next = this.groups.slice(from, from + more);
    this.list.append(...next.map((group, at) => this.group(group, from + at + 1)));
    if (next.length) remember({ shown: this.list.children.length });
    this.watcher.unobserve(this.end);
    if (this.list.children.length < this.groups.length) this.watcher.observe(this.end);
  }

  /** @param {Group} group @param {number} place */
  group({ keep: proposed, others }, place) {
    return element(
      "section",
      { class: "group", "aria-labelledby": `group-${place}` },
      element("h2", { id: `group-${place}` }, `Group ${place}: ${count(others.length + 1, "image")}`),
      element("ul", {}, this.item(proposed, proposed), others.map((item) => this.item(item, proposed))),
    );
  }

  /** @param {Duplicate} item @param {Duplicate} proposed */
  item(item, proposed) {
    const first = item.id === proposed.id;
    const address = first ? similarTo(item) : format({ path: "/search", id: proposed.id, compare: item.id });
    const label = first ? `Find similar to ${item.path}` : `Compare ${item.path} with the one proposed to keep`;
    const box = element("input", {
      type: "checkbox",
      checked: this.isKept(item),
      "aria-label": `Keep ${item.path}`,
      onchange: () => this.mark(item, box.checked),
    });
    const facts = [`${number(item.width)} × ${number(item.height)}`, bytes(item.bytes), item.format];
    return element(
      "li",
      {},
      element("a", { class: "mat", href: address, "aria-label": label, title: label, draggable: "false" }, thumbnail(item)),
      element("label", { class: "keep" }, box, element("span", {}, "Keep"), first && element("span", { class: "badge" }, "proposed")),
      element("p", {}, facts.join(", ")),
      element("p", {}, first ? "" : `${item.kind}, cosine ${item.cosine.toFixed(3)}`),
      pathShown(item.path),
    );
  }

  /** @param {Duplicate} item */
  isKept(item) {
    return this.changed.get(item.id) ?? isProposed(item);
  }

  /** @param {Duplicate} item @param {boolean} kept */
  mark(item, kept) {
    if (kept === isProposed(item)) this.changed.delete(item.id);
    else this.changed.set(item.id, kept);
    rememberNow({ changed: [...this.changed] });
    this.sum();
  }

  marked() {
    return this.groups.map(({ keep: proposed, others }) => {
      const all = [proposed, ...others];
      const kept = (item) => this.isKept(item);
      return { keep: all.filter(kept), couldGo: all.filter((item) => !kept(item)) };
    });
  }

  sum() {
    const marked = this.marked();
    const going = marked.flatMap(({ couldGo }) => couldGo);
    const emptied = marked.filter(({ keep: kept }) => !kept.length).length;
    const size = bytes(going.reduce((sum, item) => sum + item.bytes, 0));
    const warning = emptied ? ` In ${count(emptied, "group")} nothing would be kept.` : "";
    this.summary.textContent = this.groups.length
      ? `${count(this.groups.length, "group")}; ${count(going.length, "image")} of ${size} could go.${warning}`
      : `No two images reach a cosine of ${this.threshold}.${this.threshold > LOWEST ? " Lower it to see what is less alike." : ""}`;
    if (this.left) this.summary.textContent += ` ${count(this.left, "file")} left out: changed or gone since the last update.`;
  }

  export() {
    const listed = (items) => items.map(({ id, path, bytes: size }) => ({ id, path, bytes: size }));
    const groups = this.marked().map(({ keep: kept, couldGo }) => ({ keep: listed(kept), could_go: listed(couldGo) }));
    const content = { format: "lookalike duplicates", version: 1, threshold: this.threshold, groups };
    const url = URL.createObjectURL(new Blob([`${JSON.stringify(content, null, 2)}\n`], { type: "application/json" }));
    element("a", { href: url, download: "duplicates.json" }).click();
    // The browser has to take the content up first.
    setTimeout(() => URL.revokeObjectURL(url), 10_000);
    say("duplicates.json was exported. No image was touched.");
  }
}
