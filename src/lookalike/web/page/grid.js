/** A list of tiles that goes on as one scrolls. */

import { element } from "./dom.js";
import { moveByArrows } from "./keyboard.js";
import { isAbort, problem } from "./notice.js";
import { current, keep, kept, remember } from "./state.js";

const AHEAD = "900px";
const MOST_AT_ONCE = 200;
const MOST_RESTORED = 2000;
const PLACEHOLDERS = 24;

/**
 * @template T
 * @typedef {{items: T[], more: boolean}} Page
 */

/** @template {{id: number}} T */
export class Grid {
  /**
   * @param {Object} parts
   * @param {string} parts.label accessible name
   * @param {string} parts.kind class of the list
   * @param {(item: T, place: number) => HTMLElement} parts.tile
   * @param {(offset: number, count: number) => Promise<Page<T>>} parts.load at least
   *   `count`
   * @param {AbortSignal} parts.signal
   * @param {(key: string, tile: HTMLElement, shift: boolean) => boolean} [parts.onkey]
   */
  constructor({ label, kind, tile, load, signal, onkey }) {
    /** @type {T[]} */
    this.items = [];
    this.more = true;
    this.makeTile = tile;
    this.loadPage = load;
    this.signal = signal;
    const placeholders = Array.from({ length: PLACEHOLDERS }, () => element("li", { class: "placeholder", "aria-hidden": "true" }));
    this.list = element("ul", { class: `tiles ${kind}`, "aria-label": label }, placeholders);
    this.end = element("div", { class: "end" });
    this.element = element("div", {}, this.list, this.end);
    this.arrows = moveByArrows(this.list, onkey);
    /** @type {Promise<void> | null} */
    this.loading = null;
    this.watcher = new IntersectionObserver(
      (seen) => {
        if (seen.some((one) => one.isIntersecting)) this.next().catch(() => {});
      },
      { rootMargin: AHEAD },
    );
    signal.addEventListener("abort", () => this.watcher.disconnect());
  }

  /** What was there when one left, or the first page. */
  async start() {
    const wanted = Math.min(MOST_RESTORED, current().shown);
    const before = kept().page;
    if (before) this.add(before);
    else await this.next(wanted);
    while (this.more && this.items.length < wanted) await this.next(wanted - this.items.length);
    this.watcher.observe(this.end);
  }

  /** Loads one more page; calls meanwhile wait for the same. @param {number} count at least */
  next(count = 0) {
    if (!this.more) return Promise.resolve();
    this.loading ??= this.loadNext(count).finally(() => {
      this.loading = null;
    });
    return this.loading;
  }

  /** @param {number} count at least, as far as the server gives so many at once */
  async loadNext(count) {
    let page;
    try {
      page = await this.loadPage(this.items.length, Math.min(MOST_AT_ONCE, count));
    } catch (error) {
      if (!isAbort(error) && this.items.length) this.stopWith(error);
      throw error;
    }
    this.signal.throwIfAborted();
    this.add(page);
    // An observer reports changes only: if the end is still in view, it would be silent.
    this.watcher.unobserve(this.end);
    this.watcher.observe(this.end);
  }

  /** @param {Page<T>} page */
  add({ items, more }) {
    const tiles = items.map((item, at) => this.makeTile(item, this.items.length + at));
    for (const placeholder of this.list.querySelectorAll(".placeholder")) placeholder.remove();
    this.list.append(...tiles);
    this.arrows.added(tiles);
    this.items.push(...items);
    this.more = more;
    this.element.setAttribute("aria-busy", "false");
    keep({ page: { items: this.items.slice(), more } });
    remember({ shown: this.items.length });
  }

  /** @param {(item: T) => HTMLElement} control made for each tile */
  addControls(control) {
    for (const [tile, item] of this.tiles()) tile.append(control(item));
    this.arrows.added(this.list.children);
  }

  /** @returns {[HTMLElement, T][]} */
  tiles() {
    const byId = new Map(this.items.map((item) => [String(item.id), item]));
    return [...this.list.children].flatMap((tile) => {
      const item = byId.get(tile.dataset.id);
      return item ? [[tile, item]] : [];
    });
  }

  /** @returns {HTMLImageElement[]} */
  inView() {
    return [...this.list.querySelectorAll("img")].filter((image) => image.getBoundingClientRect().top < innerHeight);
  }

  /** @param {number[]} ids */
  remove(ids) {
    const gone = new Set(ids);
    for (const [tile, { id }] of this.tiles()) if (gone.has(id)) this.arrows.remove(tile);
    this.items = this.items.filter(({ id }) => !gone.has(id));
    keep({ page: { items: this.items.slice(), more: this.more } });
  }

  /** @param {any} error */
  stopWith(error) {
    this.watcher.disconnect();
    const again = () => {
      this.end.replaceChildren();
      this.next().catch(() => {});
    };
    this.end.replaceChildren(problem(error, again));
  }
}
