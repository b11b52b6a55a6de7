/** All images: by folder, by date, in an order; looked at one by one, chosen together. */

import { format, wanted } from "./address.js";
import { get } from "./api.js";
import { element } from "./dom.js";
import { Grid } from "./grid.js";
import { isAbort, problem } from "./notice.js";
import { sizeSlider } from "./size.js";
import { go, here, keep, kept } from "./state.js";
import { copyPath, imageTile } from "./tiles.js";
import { count, number } from "./words.js";

/** @typedef {import("./address.js").Address} Address */

const PAGE = 60;
/** Milliseconds until all else is loaded, though images in view are missing. */
const LONGEST_WAIT = 1000;
const ORDERS = { "": "By path", newest: "Newest first", oldest: "Oldest first", largest: "Largest files first" };

/** @param {Address} address @param {AbortSignal} signal */
export function show(address, signal) {
  return new Browse(address, signal);
}

class Browse {
  /** @param {Address} address @param {AbortSignal} signal */
  constructor(address, signal) {
    this.address = address;
    this.signal = signal;
    this.title = "Images";
    this.heading = element("h1", { tabindex: "-1" }, "Images");
    this.growing = element("div", {});
    this.places = element("div", { class: "places" });
    this.below = element("div", {});
    this.grid = new Grid({
      label: "Images",
      kind: "wall",
      tile: (image) => imageTile(image, this.selection?.box(image)),
      load: (offset, most) => this.load(offset, most),
      onkey: (key, tile, shift) => this.key(key, tile, shift),
      signal,
    });
    this.grid.list.addEventListener("click", (event) => this.click(event));
    this.below.append(this.grid.element);
    this.element = element(
      "section",
      { class: "browse" },
      element("div", { class: "head" }, this.heading, element("div", { class: "tools" }, filterForm(address), order(address), sizeSlider())),
      this.growing,
      this.places,
      this.below,
    );
    if (kept().total !== undefined) this.showTotal(kept().total);
    this.ready = this.start();
  }

  async start() {
    try {
      await this.grid.start();
    } catch (error) {
      if (!isAbort(error)) this.below.replaceChildren(problem(error, () => this.again()));
      return;
    }
    // What is not needed to see images comes after them.
    this.more().catch((error) => {
      if (!isAbort(error)) this.places.replaceChildren(problem(error));
    });
    if (this.address.open !== undefined) await this.view();
  }

  /** When the images in view are there, or LONGEST_WAIT is over. */
  async seen() {
    const images = this.grid.inView().map((image) => image.decode());
    await Promise.race([Promise.allSettled(images), new Promise((resolve) => setTimeout(resolve, LONGEST_WAIT))]);
    this.signal.throwIfAborted();
  }

  /** Boxes to choose by, and the folders and dates. */
  async more() {
    await this.seen();
    const { Selection } = await import("./select.js");
    this.signal.throwIfAborted();
    this.selection = new Selection(
      () => this.grid.items,
      { gallery: () => this.gallery, onremove: (ids) => this.removed(ids), onrestore: () => this.again(), onclear: () => this.grid.arrows.focus() },
    );
    this.element.append(this.selection.element);
    this.grid.addControls((image) => this.selection.box(image));
    const { folder } = this.address;
    const query = folder ? `?folder=${encodeURIComponent(folder)}` : "";
    this.places.replaceChildren(...placesShown(this.address, await get(`/api/folders${query}`, this.signal)));
    const { updating } = await get("/api/update", this.signal);
    if (updating && this.total) await this.showUpdate();
  }

  /** @param {Object<string, string>} words where nothing was indexed yet */
  async showUpdate(words = {}) {
    const { updater, USUAL } = await import("./update.js");
    this.growing.replaceChildren(updater(this.signal, () => this.again(), { ...USUAL, ...words, onprogress: () => this.grow() }));
  }

  /** Shows what an update has taken in, unless someone is at work on what is shown. */
  async grow() {
    const { images } = await get("/api/health", this.signal);
    if (wanted(this.address) || images === this.total) return;
    const busy = this.selection?.chosen.size || here().open !== undefined || scrollY > 200;
    if (busy) this.heading.textContent = count(images, "image");
    else this.again();
  }

  again() {
    this.stale = true;
    go(here(), { replace: true });
  }

  /** Another image is opened, or none, above the same grid. @param {Address} address */
  follow(address) {
    if (this.stale || address.path !== "/" || format({ ...address, open: undefined }) !== format({ ...this.address, open: undefined })) return null;
    this.address = address;
    return this.view();
  }

  async view() {
    if (!this.viewer) {
      if (this.address.open === undefined) return;
      const { Viewer } = await import("./viewer.js");
      this.viewer ??= new Viewer({ items: () => this.grid.items, more: () => this.grid.next() });
      this.signal.addEventListener("abort", () => this.viewer.hide());
    }
    await this.viewer.follow(here());
  }

  /** @param {number} offset @param {number} most */
  async load(offset, most) {
    const given = new URLSearchParams({ offset: String(offset), limit: String(Math.max(PAGE, most)) });
    const filter = wanted(this.address);
    if (filter) given.set("filter", filter);
    if (this.address.sort) given.set("sort", this.address.sort);
    const { images, total, gallery } = await get(`/api/images?${given}`, this.signal);
    this.gallery ||= gallery;
    this.showTotal(total);
    return { items: images, more: images.length > 0 && offset + images.length < total };
  }

  /** @param {number} total */
  showTotal(total) {
    this.total = total;
    this.heading.textContent = count(total, "image");
    keep({ total });
    if (total === 0) this.nothing();
  }

  nothing() {
    if (wanted(this.address)) {
      const text = "No file matches the filter. Words are looked for anywhere in the path; a star stands for anything: *.png, buses/*.";
      this.below.replaceChildren(element("p", { class: "empty" }, text));
      return;
    }
    const text = "This gallery holds no image yet. Indexing reads the images of its folder once; they appear here meanwhile, and no file is changed.";
    this.below.hidden = true;
    this.showUpdate({ title: "Index this folder", button: "Index now", text });
  }

  /** @param {number[]} ids */
  removed(ids) {
    this.grid.remove(ids);
    this.showTotal(this.total - ids.length);
  }

  /** While some are chosen, a click chooses. @param {MouseEvent} event */
  click(event) {
    const target = /** @type {Element} */ (event.target);
    const tile = /** @type {HTMLElement} */ (target.closest("li"));
    if (!target.closest("a") || !this.selection || !(this.selection.chosen.size || event.shiftKey)) return;
    event.preventDefault();
    if (event.shiftKey) this.selection.range(Number(tile.dataset.id));
    else this.selection.toggle(Number(tile.dataset.id));
  }

  /** @param {string} key @param {HTMLElement} tile @param {boolean} shift */
  key(key, tile, shift) {
    const image = this.grid.items.find(({ id }) => id === Number(tile.dataset.id));
    if (!image) return false;
    if (key === "s") go({ path: "/search", id: image.id });
    else if (key === "c") copyPath(image);
    else if (key === "x") this.selection?.toggle(image.id);
    else if (key === "Escape" && this.selection?.chosen.size) this.selection.clear();
    else if (shift && key.startsWith("Arrow")) this.selection?.range(image.id);
    else return false;
    return true;
  }
}

/** @param {Address} address */
function filterForm(address) {
  const field = element("input", {
    type: "search",
    name: "filter",
    "aria-label": "Only images that fit",
    placeholder: "Filter: horses, *.png, date:2022",
    value: address.filter,
    autocomplete: "off",
    spellcheck: "false",
  });
  const submit = (event) => {
    event.preventDefault();
    const filter = field.value.trim() || undefined;
    if (filter !== address.filter) go({ ...address, filter, open: undefined });
  };
  field.addEventListener("search", submit);
  return element("form", { class: "filter", role: "search", onsubmit: submit }, field);
}

/** @param {Address} address */
function order(address) {
  const options = Object.entries(ORDERS).map(([value, text]) => element("option", { value, selected: value === (address.sort ?? "") }, text));
  const field = element("select", { "aria-label": "Order", onchange: () => go({ ...address, sort: field.value || undefined, open: undefined }) }, options);
  return field;
}

/** Where one is, and the folders and months to go to. @param {Address} address @param {{folders: any[], months: any[]}} there */
function placesShown(address, { folders, months }) {
  const at = { path: "/", filter: address.filter, sort: address.sort, month: address.month };
  const parts = address.folder ? address.folder.split("/") : [];
  const trail = parts.map((name, depth) => ({ name, folder: parts.slice(0, depth + 1).join("/") }));
  const link = ({ name, folder }, images) =>
    element("a", { class: "chip", href: format({ ...at, folder }), "aria-current": folder === address.folder ? "true" : null }, name, images === undefined ? "" : element("small", {}, number(images)));
  const month = element(
    "select",
    { "aria-label": "Month", onchange: () => go({ ...address, month: month.value || undefined, open: undefined }) },
    element("option", { value: "" }, "Any date"),
    months.map(({ month: value, images }) => element("option", { value, selected: value === address.month }, `${value} (${number(images)})`)),
  );
  return [
    months.length > 1 || address.month ? month : "",
    parts.length ? element("div", { class: "chips", role: "group", "aria-label": "Folder" }, link({ name: "All", folder: undefined }), trail.map((step) => link(step))) : "",
    folders.length ? element("div", { class: "chips", role: "group", "aria-label": "Folders" }, folders.map((one) => link({ name: one.name, folder: one.path }, one.images))) : "",
  ];
}
