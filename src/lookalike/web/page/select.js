/** Images that were chosen in a grid, and what is done with all of them. */

import { post } from "./api.js";
import { confirmed } from "./confirm.js";
import { element, idle } from "./dom.js";
import { announce, isAbort, problem, say } from "./notice.js";
import { go } from "./state.js";
import { updated } from "./update.js";
import { count } from "./words.js";

/** @typedef {import("./api.js").GalleryImage} GalleryImage */

const MOST_SEARCHED_BY = 50;

export class Selection {
  /**
   * @param {() => GalleryImage[]} items of the grid, in its order
   * @param {{gallery: () => string, onremove: (ids: number[]) => void, onrestore: () => void, onclear: () => void}} then
   *   whose items these are; after they left the gallery, after they came back, and when the bar hides
   *   that had the keyboard
   */
  constructor(items, then) {
    this.items = items;
    this.then = then;
    /** @type {Map<number, GalleryImage>} */
    this.chosen = new Map();
    /** Where a range begins. @type {number | undefined} */
    this.from = undefined;
    this.counted = element("strong", {});
    this.similar = element("button", { type: "button", class: "main", onclick: () => this.search() }, "Find similar");
    this.failure = element("div", {});
    this.element = element(
      "section",
      { class: "selection", "aria-label": "Selection", hidden: true },
      this.counted,
      this.similar,
      element("button", { type: "button", onclick: () => this.export() }, "Export list"),
      element("button", { type: "button", onclick: () => this.remove() }, "Remove"),
      element("button", { type: "button", onclick: () => this.clear() }, "Clear"),
      this.failure,
    );
  }

  /** The box on a tile. @param {GalleryImage} image */
  box(image) {
    const field = element("input", {
      type: "checkbox",
      "aria-label": `Select ${image.path}`,
      onclick: (event) => {
        if (event.shiftKey) this.range(image.id);
        else this.toggle(image.id);
      },
    });
    field.checked = this.chosen.has(image.id);
    return element("label", { class: "pick" }, field);
  }

  /** @param {number} id @param {boolean} [on] */
  toggle(id, on = !this.chosen.has(id)) {
    const image = this.items().find((item) => item.id === id);
    if (image && on) this.chosen.set(id, image);
    else this.chosen.delete(id);
    this.from = id;
    this.show();
  }

  /** All from where the last one was chosen. @param {number} id */
  range(id) {
    const items = this.items();
    const place = (wanted) => items.findIndex((item) => item.id === wanted);
    const [to, from] = [place(id), this.from === undefined ? place(id) : place(this.from)];
    for (const image of items.slice(Math.min(from, to), Math.max(from, to) + 1)) this.chosen.set(image.id, image);
    this.show();
  }

  clear() {
    this.chosen.clear();
    this.from = undefined;
    this.show();
  }

  show() {
    const { size } = this.chosen;
    if (!size && this.element.contains(document.activeElement)) this.then.onclear();
    this.element.hidden = size === 0;
    this.counted.textContent = `${count(size, "image")} selected`;
    idle(this.similar, size > MOST_SEARCHED_BY);
    this.similar.title = size > MOST_SEARCHED_BY ? `Up to ${MOST_SEARCHED_BY} at once` : "";
    this.failure.replaceChildren();
    for (const tile of document.querySelectorAll(".wall li[data-id]")) {
      const field = tile.querySelector(".pick input");
      if (field) field.checked = this.chosen.has(Number(tile.dataset.id));
    }
    announce(this.counted.textContent);
  }

  search() {
    const ids = [...this.chosen.keys()];
    go({ path: "/search", id: ids[0], like: ids.slice(1) });
  }

  export() {
    const text = [...this.chosen.values()].map(({ path }) => `${path}\n`).join("");
    // Bytes of names that are not UTF-8 came as lone surrogates, and leave as they were.
    const parts = text.split(/([\udc80-\udcff])/u).map((part, at) => (at % 2 ? Uint8Array.of(part.charCodeAt(0)) : part));
    const url = URL.createObjectURL(new Blob(parts, { type: "text/plain" }));
    element("a", { href: url, download: "images.txt" }).click();
    // The browser has to take the content up first.
    setTimeout(() => URL.revokeObjectURL(url), 10_000);
    say(`images.txt lists ${count(this.chosen.size, "path")}.`);
  }

  async remove() {
    const ids = [...this.chosen.keys()];
    const text = "Searches will not find them any more, and updates leave them out. The files stay where they are.";
    if (!(await confirmed(`Take ${count(ids.length, "image")} out of the gallery?`, text, "Take out"))) return;
    try {
      await post("/api/remove", { ids, gallery: this.then.gallery() });
      this.then.onremove(ids);
      this.clear();
      say(`${count(ids.length, "image")} taken out.`, { text: "Undo", act: () => this.restore(ids) });
    } catch (error) {
      if (!isAbort(error)) this.failure.replaceChildren(problem(error));
    }
  }

  /** @param {number[]} ids */
  async restore(ids) {
    await post("/api/restore", { ids, gallery: this.then.gallery() });
    await updated();
    say(`${count(ids.length, "image")} back in the gallery.`);
    this.then.onrestore();
  }
}
