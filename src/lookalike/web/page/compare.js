/** A hit beside the query, large. */

import { source } from "./address.js";
import { get } from "./api.js";
import { element, icon, iconButton, place } from "./dom.js";
import { Why } from "./explain.js";
import { isAbort, problem } from "./notice.js";
import { current, go, here } from "./state.js";
import { copyPath, score, similarTo } from "./tiles.js";
import { number } from "./words.js";

/** @typedef {import("./address.js").Address} Address */
/** @typedef {import("./api.js").GalleryImage} GalleryImage */
/** @typedef {import("./api.js").Hit} Hit */

const SHOWN_BY_BROWSERS = ["JPEG", "PNG", "WEBP", "GIF", "AVIF"];
const MOST_PIXELS = 16e6;

/** An image, what is drawn on it, and its words. @param {string} name */
function side(name) {
  const image = element("img", { alt: "", draggable: "false" });
  const layer = element("div", { class: "layer" });
  const frame = element("div", { class: "frame" }, image, layer);
  const summary = element("figcaption", {});
  return { image, layer, frame, summary, element: element("figure", { "aria-label": name }, element("div", { class: "room" }, frame), summary) };
}

export class Compare {
  /**
   * @param {import("./teach.js").Teach} teach
   * @param {{hits: () => Hit[], more: () => Promise<void>}} list what one steps through
   */
  constructor(teach, list) {
    this.teach = teach;
    this.list = list;
    this.query = side("Query");
    this.hit = side("Hit");
    this.lines = element("div", { class: "lines" });
    this.stage = element("div", { class: "stage" }, this.query.element, this.hit.element, this.lines);
    this.why = new Why(this.lines, this.query.layer, this.hit.layer);
    this.title = element("h2", { id: "compare-title" });
    this.before = iconButton("left", "Previous hit", { onclick: () => this.step(-1) });
    this.after = iconButton("right", "Next hit", { onclick: () => this.step(1) });
    this.acts = element("div", { class: "acts" });
    this.whyButton = element(
      "button",
      { type: "button", "aria-pressed": "false", onclick: () => go({ ...here(), why: !here().why }, { replace: true, stay: true }) },
      icon("why"),
      "Why it matched",
    );
    this.dialog = element(
      "dialog",
      { class: "compare", "aria-labelledby": "compare-title" },
      element(
        "div",
        { class: "row" },
        this.title,
        element("div", { class: "steps" }, this.before, this.after, iconButton("close", "Close", { onclick: () => this.leave() })),
      ),
      this.stage,
      this.why.element,
      element("div", { class: "row" }, this.whyButton, this.acts),
    );
    this.dialog.addEventListener("cancel", (event) => {
      event.preventDefault();
      this.leave();
    });
    // Browsers close a dialog at the second Escape whatever the page says.
    this.dialog.addEventListener("close", () => {
      if (here().compare !== undefined && this.dialog.isConnected) this.leave();
    });
    this.dialog.addEventListener("keydown", (event) => this.key(event));
  }

  /** Opens, changes or closes, as the address says. @param {Address} address */
  async follow(address) {
    if (address.compare === undefined) {
      this.hide();
      return;
    }
    const { compare } = address;
    try {
      const hit = this.list.hits().find(({ id }) => id === compare) ?? (await get(`/api/images/${compare}/info`));
      if (here().compare !== compare) return;
      if (this.shown?.id !== compare) this.show(hit, address);
      this.whyButton.setAttribute("aria-pressed", String(address.why));
      if (address.why) await this.why.open({ ...source(address), hit: compare });
      else this.why.close();
    } catch (error) {
      if (isAbort(error)) return;
      this.open();
      this.title.textContent = "This hit cannot be shown";
      this.acts.replaceChildren(problem(error));
    }
  }

  open() {
    if (this.dialog.open) return;
    document.body.append(this.dialog);
    this.dialog.showModal();
  }

  hide() {
    this.shown = undefined;
    this.why.close();
    if (!this.dialog.isConnected) return;
    this.dialog.close();
    this.dialog.remove();
  }

  /** To where it was opened from. */
  leave() {
    if (current().opened) history.back();
    else go({ ...here(), compare: undefined, why: false }, { replace: true, stay: true });
  }

  /** @param {Hit} hit @param {Address} address */
  show(hit, address) {
    this.shown = hit;
    this.open();
    this.why.clear();
    this.title.textContent = hit.path;
    this.showQuery(address);
    showImage(this.hit, hit);
    this.hit.summary.replaceChildren(hit.words ? score(hit) : "", element("p", { class: "hint" }, size(hit)));
    this.acts.replaceChildren(
      this.teach.buttons(hit),
      element("a", { class: "button", href: similarTo(hit) }, icon("similar"), "Find similar"),
      element("button", { type: "button", onclick: () => copyPath(hit) }, icon("copy"), "Copy path"),
      element("a", { class: "button", href: hit.original, target: "_blank", rel: "noopener" }, icon("open"), "Open original"),
    );
    const hits = this.list.hits();
    const at = hits.findIndex(({ id }) => id === hit.id);
    this.before.disabled = at <= 0;
    this.after.disabled = at < 0;
    this.stage.scrollTop = 0;
  }

  /** @param {Address} address */
  showQuery({ id, query, crop }) {
    const { image, frame, layer, summary } = this.query;
    place(crop ?? [0, 0, 1, 1], layer);
    layer.classList.toggle("outlined", Boolean(crop));
    const url = id === undefined ? `/api/queries/${query}/image` : `/api/images/${id}/thumbnail?size=512`;
    if (image.getAttribute("src") === url) return;
    image.onload = () => frame.style.setProperty("--ratio", String(image.naturalWidth / image.naturalHeight));
    image.src = url;
    image.alt = "Query";
    summary.replaceChildren(element("p", { class: "hint" }, "Query"));
  }

  /** @param {number} direction */
  async step(direction) {
    let hits = this.list.hits();
    const at = hits.findIndex(({ id }) => id === here().compare);
    if (at < 0) return;
    if (at + direction >= hits.length) {
      await this.list.more().catch(() => {});
      hits = this.list.hits();
    }
    const next = hits[at + direction];
    if (next) go({ ...here(), compare: next.id }, { replace: true, stay: true });
    else if (direction > 0) this.after.disabled = true;
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    const { tagName } = /** @type {Element} */ (event.target);
    if (tagName === "INPUT" || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "ArrowLeft") this.step(-1);
    else if (event.key === "ArrowRight") this.step(1);
    else if (event.key === "+" && this.shown) this.teach.mark(this.shown.id, true);
    else if (event.key === "-" && this.shown) this.teach.mark(this.shown.id, false);
    else if (event.key === "c" && this.shown) copyPath(this.shown);
    else return;
    event.preventDefault();
  }
}

/** The thumbnail at once, the file itself as soon as it is there. @param {GalleryImage} hit */
function showImage({ image, frame }, hit) {
  frame.style.setProperty("--ratio", String(hit.width / hit.height));
  image.src = `/api/images/${hit.id}/thumbnail?size=512`;
  image.alt = hit.path;
  const large = hit.width * hit.height > MOST_PIXELS;
  if (large || !SHOWN_BY_BROWSERS.includes(hit.format.toUpperCase())) return;
  const original = new Image();
  original.src = hit.original;
  const replace = () => {
    if (image.alt === hit.path) image.src = original.src;
  };
  original.decode().then(replace, () => {});
}

/** @param {GalleryImage} image */
function size({ width, height, format: kind }) {
  return `${number(width)} × ${number(height)} pixels, ${kind}`;
}
