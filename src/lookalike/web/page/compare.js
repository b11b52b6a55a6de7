/** A hit beside the query, large. */

import { source } from "./address.js";
import { get } from "./api.js";
import { element, icon, place } from "./dom.js";
import { Why } from "./explain.js";
import { isAbort, problem } from "./notice.js";
import { showPhoto } from "./photo.js";
import { go, here } from "./state.js";
import { Stepped } from "./stepped.js";
import { copyPath, similarTo } from "./tiles.js";
import { number } from "./words.js";

/** @typedef {import("./address.js").Address} Address */
/** @typedef {import("./api.js").GalleryImage} GalleryImage */
/** @typedef {import("./api.js").Hit} Hit */

/** An image, what is drawn on it, and its words. @param {string} name */
function side(name) {
  const image = element("img", { alt: "", draggable: "false" });
  const layer = element("div", { class: "layer" });
  const frame = element("div", { class: "frame" }, image, layer);
  const summary = element("figcaption", {});
  return { image, layer, frame, summary, element: element("figure", { "aria-label": name }, element("div", { class: "room" }, frame), summary) };
}

export class Compare extends Stepped {
  /**
   * @param {import("./teach.js").Teach} teach
   * @param {{items: () => Hit[], more: () => Promise<void>}} list what one steps through
   */
  constructor(teach, list) {
    super("compare", "hit", list);
    this.teach = teach;
    this.query = side("Query");
    this.hit = side("Hit");
    this.lines = element("div", { class: "lines" });
    this.stage = element("div", { class: "stage" }, this.query.element, this.hit.element, this.lines);
    this.why = new Why(this.lines, this.query.layer, this.hit.layer);
    this.acts = element("div", { class: "acts" });
    this.whyButton = element(
      "button",
      { type: "button", "aria-pressed": "false", onclick: () => go({ ...here(), why: !here().why }, { replace: true, stay: true }) },
      icon("why"),
      "Why it matched",
    );
    this.dialog.classList.add("compare");
    this.dialog.append(
      element("div", { class: "row" }, this.title, element("div", { class: "steps" }, this.before, this.after, this.closeButton)),
      this.stage,
      this.why.element,
      element("div", { class: "row" }, this.whyButton, this.acts),
    );
  }

  /** Opens, changes or closes, as the address says. @param {Address} address */
  async follow(address) {
    if (address.compare === undefined) {
      this.hide();
      return;
    }
    const { compare } = address;
    try {
      const hit = this.list.items().find(({ id }) => id === compare) ?? (await get(`/api/images/${compare}/info`));
      if (here().compare !== compare) return;
      if (this.shown?.id !== compare) this.show(hit, address);
      this.whyButton.setAttribute("aria-pressed", String(address.why));
      if (address.why) await this.why.open({ ...source(address), text: undefined, hit: compare });
      else this.why.close();
    } catch (error) {
      if (isAbort(error)) return;
      this.appear();
      this.title.textContent = "This hit cannot be shown";
      this.acts.replaceChildren(problem(error));
    }
  }

  hide() {
    this.shown = undefined;
    this.why.close();
    super.hide();
  }

  /** @param {Hit} hit @param {Address} address */
  show(hit, address) {
    this.shown = hit;
    this.appear();
    this.why.clear();
    this.title.textContent = hit.path;
    this.showQuery(address);
    this.hit.frame.style.setProperty("--ratio", String(hit.width / hit.height));
    showPhoto(this.hit.image, hit);
    this.hit.summary.replaceChildren(hit.words ? element("p", {}, element("strong", { class: "score" }, hit.likeness), ` ${hit.words}`) : "", element("p", { class: "hint" }, size(hit)));
    this.acts.replaceChildren(
      this.teach.buttons(hit),
      element("a", { class: "button", href: similarTo(hit) }, icon("similar"), "Find similar"),
      element("button", { type: "button", onclick: () => copyPath(hit) }, icon("copy"), "Copy path"),
      element("a", { class: "button", href: hit.original, target: "_blank", rel: "noopener" }, icon("open"), "Open original"),
    );
    this.placed(hit);
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

  /** @param {string} key */
  used(key) {
    if (!this.shown) return false;
    if (key === "+") this.teach.mark(this.shown.id, true);
    else if (key === "-") this.teach.mark(this.shown.id, false);
    else if (key === "c") copyPath(this.shown);
    else return false;
    return true;
  }
}

/** @param {GalleryImage} image */
function size({ width, height, format: kind }) {
  return `${number(width)} × ${number(height)} pixels, ${kind}`;
}
