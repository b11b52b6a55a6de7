/** A dialog above a list of images, for one of them at a time, which the address names. */

import { element, iconButton, idle } from "./dom.js";
import { current, go, here } from "./state.js";

/** @typedef {import("./api.js").GalleryImage} GalleryImage */

export class Stepped {
  /**
   * @param {"compare" | "open"} name of the image in the address
   * @param {string} noun what one steps through
   * @param {{items: () => GalleryImage[], more: () => Promise<void>}} list
   */
  constructor(name, noun, list) {
    this.name = name;
    this.list = list;
    this.title = element("h2", { id: `${name}-title`, tabindex: "-1", autofocus: true });
    this.before = iconButton("left", `Previous ${noun}`, { onclick: () => this.step(-1) });
    this.after = iconButton("right", `Next ${noun}`, { onclick: () => this.step(1) });
    this.closeButton = iconButton("close", "Close", { onclick: () => this.leave() });
    this.dialog = element("dialog", { "aria-labelledby": `${name}-title` });
    this.dialog.addEventListener("cancel", (event) => {
      event.preventDefault();
      this.leave();
    });
    // Browsers close a dialog at the second Escape whatever the page says.
    this.dialog.addEventListener("close", () => {
      if (here()[name] !== undefined && this.dialog.isConnected) this.leave();
    });
    this.dialog.addEventListener("keydown", (event) => this.key(event));
  }

  appear() {
    if (this.dialog.open) return;
    document.body.append(this.dialog);
    this.dialog.showModal();
  }

  hide() {
    if (!this.dialog.isConnected) return;
    this.dialog.close();
    this.dialog.remove();
  }

  /** To where it was opened from. */
  leave() {
    if (current().opened) history.back();
    else go({ ...here(), [this.name]: undefined, why: false }, { replace: true, stay: true });
  }

  /** Whether there are others before and after it. @param {GalleryImage} image */
  placed({ id }) {
    const at = this.list.items().findIndex((item) => item.id === id);
    idle(this.before, at <= 0);
    idle(this.after, at < 0);
    // The keys go to what has the focus, which may have been replaced.
    if (!this.dialog.contains(document.activeElement)) this.title.focus();
  }

  /** @param {number} direction */
  async step(direction) {
    let items = this.list.items();
    const at = items.findIndex(({ id }) => id === here()[this.name]);
    if (at < 0) return;
    if (at + direction >= items.length) {
      await this.list.more().catch(() => {});
      items = this.list.items();
    }
    const next = items[at + direction];
    if (next) go({ ...here(), [this.name]: next.id }, { replace: true, stay: true });
    else if (direction > 0) idle(this.after, true);
  }

  /** Arrows step; other keys are for `used`. @param {KeyboardEvent} event */
  key(event) {
    const { tagName } = /** @type {Element} */ (event.target);
    if (tagName === "INPUT" || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "ArrowLeft") this.step(-1);
    else if (event.key === "ArrowRight") this.step(1);
    else if (!this.used(event.key)) return;
    event.preventDefault();
  }

  /** Whether a key was used. @param {string} _ @returns {boolean} */
  used(_) {
    return false;
  }
}
