/** Groups of duplicates: what to keep is proposed by kind, changed by hand, and done or exported. */

import { post } from "./api.js";
import { confirmed } from "./confirm.js";
import { showDifference } from "./difference.js";
import { element, icon, idle } from "./dom.js";
import { announce, isAbort, problem, say, whileWorking } from "./notice.js";
import { current, go, here, keep, kept, remember, rememberNow } from "./state.js";
import { namesShown, similarTo, thumbnail } from "./tiles.js";
import { updated } from "./update.js";
import { bytes, count, number } from "./words.js";

/** @typedef {import("./api.js").Duplicate} Duplicate */
/** @typedef {{keep: Duplicate, others: Duplicate[]}} Group */

const AT_ONCE = 12;
/** Below, the server says, nearly everything pairs with everything. */
const LOWEST = 0.8;
const SHOT = "another shot";
/** What the server calls a kind, and what people do. @type {Object<string, string>} */
const KINDS = {
  "same bytes": "identical",
  "same pixels": "same pixels",
  "same image": "same image",
  "same picture": "same image",
  "mirrored or rotated": "mirrored or rotated",
  cropped: "cropped",
  [SHOT]: SHOT,
};

/** @param {import("./address.js").Address} address @param {AbortSignal} signal */
export function show(address, signal) {
  const view = new Duplicates(address, signal);
  return { title: "Duplicates", element: view.element, ready: view.load() };
}

/** Whether to keep a file is proposed: another shot of a scene is not a copy. @param {Duplicate} item */
const isProposed = (item) => item.kind === null || item.kind === SHOT;

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
    this.summary = element("p", { class: "hint" }, "Looking for duplicates…");
    this.field = element("input", { id: "closeness", type: "number", min: LOWEST, max: 1, step: "any", value: address.threshold, placeholder: "0.95" });
    /** The one kind that is shown; null: all. @type {string | null} */
    this.kind = current().values.kind ?? null;
    this.exportButton = element("button", { type: "button", "aria-disabled": "true", onclick: () => this.export() }, icon("save"), "Export marks as JSON");
    this.trashButton = element("button", { type: "button", class: "main", "aria-disabled": "true", onclick: () => this.act() }, "Move to trash");
    this.kinds = element("div", { class: "kinds", role: "group", "aria-label": "Kinds" });
    this.failure = element("div", {});
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
          this.exportButton,
          this.trashButton,
          element(
            "details",
            {},
            element("summary", {}, "Other shots"),
            element("label", { for: "closeness" }, "Cosine at least"),
            this.field,
            element("button", {}, "Find"),
          ),
        ),
      ),
      element("p", { class: "safe" }, "Nothing happens to a file until you confirm it, and what goes to the trash can be put back. A file goes only if it and the one that is kept still hold what was indexed."),
      this.failure,
      this.kinds,
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
      this.gallery = found.gallery;
      this.threshold = found.threshold;
      this.left = found.changed.length;
    } catch (error) {
      if (isAbort(error)) return;
      this.summary.textContent = "";
      this.list.replaceChildren(problem(error, () => go(this.address, { replace: true })));
      return;
    }
    this.field.value = String(this.threshold);
    if (!this.of(this.kind).length) this.kind = null;
    idle(this.exportButton, !this.groups.length);
    this.sum();
    announce(this.summary.textContent);
    this.showKinds();
    this.showMore(Math.max(AT_ONCE, current().shown));
    this.watcher.observe(this.end);
  }

  /** @param {string | null} kind */
  of(kind) {
    return this.groups.flatMap(({ others }) => others.filter((item) => kind === null || KINDS[item.kind ?? ""] === kind));
  }

  showKinds() {
    const button = (kind, text) =>
      element(
        "button",
        {
          type: "button",
          class: "chip",
          "aria-pressed": String(this.kind === kind),
          onclick: () => this.choose(kind),
        },
        text,
        element("small", {}, number(this.of(kind).length)),
      );
    const kinds = [...new Set(Object.values(KINDS))].filter((kind) => this.of(kind).length);
    const act = (kept, text) => element("button", { type: "button", onclick: () => this.markAll(kept) }, text);
    const all = this.kind === null ? "" : [act(false, `Let all ${this.kind} go`), act(true, `Keep all ${this.kind}`)];
    this.kinds.replaceChildren(...(this.groups.length ? [button(null, "All"), ...kinds.map((kind) => button(kind, kind)), ...all] : []));
  }

  /** @param {string | null} kind */
  choose(kind) {
    this.kind = kind;
    rememberNow({ kind });
    this.list.replaceChildren();
    this.sum();
    this.showKinds();
    this.kinds.querySelector('[aria-pressed="true"]')?.focus();
    this.showMore(AT_ONCE);
  }

  /** All of the kind that is shown. @param {boolean} kept */
  markAll(kept) {
    const items = this.of(this.kind);
    for (const item of items) this.mark(item, kept);
    const shown = this.list.children.length;
    this.list.replaceChildren();
    this.showMore(Math.max(AT_ONCE, shown));
    say(`${count(items.length, "image")} marked.`);
  }

  /** Of one kind, without the others of their groups: what is not shown is not touched. */
  shownGroups() {
    const shown = new Set(this.of(this.kind));
    return this.groups.map(({ keep: proposed, others }) => ({ keep: proposed, others: others.filter((item) => shown.has(item)) })).filter(({ others }) => others.length);
  }

  /** @param {number} more */
  showMore(more) {
    const from = this.list.children.length;
    const groups = this.shownGroups();
    const next = groups.slice(from, from + more);
    this.list.append(...next.map((group, at) => this.group(group, from + at + 1)));
    if (next.length) remember({ shown: this.list.children.length });
    this.watcher.unobserve(this.end);
    if (this.list.children.length < groups.length) this.watcher.observe(this.end);
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
    const kind = KINDS[item.kind ?? ""] ?? item.kind;
    const label = first ? `Find similar to ${item.path}` : `Difference of ${item.path} to the one proposed to keep`;
    const image = thumbnail(item, { src: `${item.thumbnail}?size=512`, "data-thumbnail": null });
    const large = first
      ? element("a", { class: "mat", href: similarTo(item), "aria-label": label, title: label, draggable: "false" }, image)
      : element("button", { type: "button", class: "mat", "aria-label": label, title: label, onclick: () => showDifference(proposed, item, kind) }, image);
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
      large,
      element("label", { class: "keep" }, box, element("span", {}, "Keep"), first ? element("span", { class: "badge" }, "proposed") : element("span", { class: "badge", title: `cosine ${item.cosine.toFixed(3)}` }, kind)),
      element("p", {}, facts.join(", ")),
      namesShown(item.path),
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
    return this.shownGroups().map(({ keep: proposed, others }) => {
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
    idle(this.trashButton, !going.length || emptied > 0);
    this.trashButton.textContent = going.length ? `Move ${count(going.length, "image")} to the trash` : "Move to trash";
    this.summary.textContent = this.groups.length
      ? `${count(marked.length, "group")}; ${count(going.length, "image")} of ${size} could go.${warning}`
      : "No two files show the same image.";
    if (this.left) this.summary.textContent += ` ${count(this.left, "file")} left out: changed or gone since the last update.`;
  }

  async act() {
    const marked = this.marked().filter(({ couldGo }) => couldGo.length);
    const going = marked.flatMap(({ couldGo }) => couldGo);
    const size = bytes(going.reduce((sum, item) => sum + item.bytes, 0));
    const text = `${count(going.length, "file")} of ${size} go to the trash of this computer. One file of each group stays. You can undo it here, or with: lookalike duplicates --undo.`;
    if (!(await confirmed(`Move ${count(going.length, "image")} to the trash?`, text, "Move to trash"))) return;
    const ids = (items) => items.map(({ id }) => id);
    const groups = marked.map(({ keep: stay, couldGo }) => ({ keep: ids(stay), could_go: ids(couldGo) }));
    await this.done(post("/api/duplicates/apply", { action: "trash", groups, gallery: this.gallery }), "in the trash", {
      text: "Undo",
      act: () => this.done(post("/api/duplicates/undo"), "back where they were"),
    });
  }

  /** @param {Promise<any>} work @param {string} where @param {{text: string, act: () => any}} [offer] */
  async done(work, where, offer) {
    idle(this.trashButton, true);
    try {
      const { files } = await whileWorking(work);
      await whileWorking(updated());
      const left = files.filter((file) => file.problem);
      const gone = files.length - left.length;
      say(`${count(gone, "file")} ${where}.`, gone ? offer : undefined);
      keep({ found: undefined });
      if (here().path !== "/duplicates") return;
      if (left.length) {
        const lines = left.map(({ path, problem: why }) => element("li", {}, `${path}: ${why}`));
        this.failure.replaceChildren(element("div", { class: "problem", role: "alert" }, element("p", {}, `${count(left.length, "file")} left as it was:`), element("ul", {}, lines)));
      }
      this.list.replaceChildren();
      await this.load();
      this.element.querySelector("h1")?.focus({ preventScroll: true });
    } catch (error) {
      if (!isAbort(error)) this.failure.replaceChildren(problem(error));
      this.sum();
    }
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
