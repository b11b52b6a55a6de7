/** What looks like an image, or like a part of it. */

import { format, source } from "./address.js";
import { get, post } from "./api.js";
import { Compare } from "./compare.js";
import { Crop } from "./crop.js";
import { element } from "./dom.js";
import { Grid } from "./grid.js";
import { nameOfSent } from "./input.js";
import { announce, isAbort, problem, whileWorking } from "./notice.js";
import { go, here, keep, kept } from "./state.js";
import { sizeSlider } from "./size.js";
import { copyPath, hitTile } from "./tiles.js";
import { Teach } from "./teach.js";
import { count, duration, number, sentence } from "./words.js";

/** @typedef {import("./address.js").Address} Address */
/** @typedef {import("./api.js").Hit} Hit */

const PAGE = 40;
const REFINED = 60;
const LAST_OFFSET = 1000;
const NEW = "new";
const UP = "up";

/** @param {Address} address @param {AbortSignal} signal */
export function show(address, signal) {
  if (address.id === undefined && address.query === undefined && address.text === undefined) {
    const text = "Search by an image: drop one here, paste one, or choose one above.";
    const title = element("h1", { tabindex: "-1" }, "Search");
    return { title: "Search", element: element("section", {}, title, element("p", { class: "empty" }, text)), ready: Promise.resolve() };
  }
  return new Search(address, signal);
}

/** Whether both ask for the same hits. @param {Address} a @param {Address} b */
function sameHits(a, b) {
  const hits = (address) => format({ ...address, compare: undefined });
  return hits(a) === hits(b);
}

class Search {
  /** @param {Address} address @param {AbortSignal} signal */
  constructor(address, signal) {
    this.address = address;
    this.signal = signal;
    this.title = "Search";
    /** Words have no parts, and cannot be laid beside an image. */
    this.isWords = address.text !== undefined && address.id === undefined && address.query === undefined;
    /** What is marked alike teaches about an image, not about words. */
    this.canTeach = address.text === undefined;
    /** @type {import("./api.js").GalleryImage | undefined} */
    this.image = undefined;
    this.heading = element("h1", { tabindex: "-1" }, "Looking…");
    this.summary = element("p", { class: "hint" });
    this.asked = element("div", {});
    this.nothing = element("div", {});
    this.found = element("div", { class: "found" });
    this.crop = new Crop((crop) => go({ ...this.address, crop, yes: [], no: [], round: 0, compare: undefined }));
    this.teach = new Teach((hits) => this.showAsked(hits));
    this.narrowed = element("div", {});
    this.compare = new Compare(this.teach, {
      items: () => [...this.askedHits, ...(this.grid?.items ?? [])],
      more: () => this.grid?.next() ?? Promise.resolve(),
    });
    /** @type {Hit[]} */
    this.askedHits = [];
    signal.addEventListener("abort", () => this.compare.hide());
    this.element = element(
      "section",
      { class: "search" },
      element("aside", { class: "query", "aria-label": "Query" }, this.asks()),
      element("div", { class: "results" }, element("div", { class: "head" }, element("div", {}, this.heading, this.summary), sizeSlider()), this.asked, this.nothing, this.found),
    );
    this.ready = Promise.all([this.describe(), this.load()]);
  }

  /** What is searched by, and how to change that. */
  asks() {
    if (this.isWords) return [this.narrowed];
    const { id, like } = this.address;
    return [like.length ? several([id, ...like]) : this.crop.element, !this.canTeach && withWords(this.address), this.narrowed, this.canTeach && this.teach.element];
  }

  /**
   * Goes to another address without rebuilding everything, if the image is the same.
   * @param {Address} address
   * @returns {Promise<any> | null}
   */
  follow(address) {
    const what = ({ id, query, text, like }) => String([id, query, text, like]);
    if (address.path !== "/search" || what(address) !== what(this.address)) return null;
    const same = sameHits(address, this.address);
    this.address = address;
    if (same) {
      this.teach.store();
      return this.compare.follow(address);
    }
    this.compare.hide();
    this.showAsked([]);
    return this.load();
  }

  /** Only now: an image that the server has forgotten would be asked for in vain. */
  showImage() {
    if (this.crop.image.src || this.isWords || this.address.like.length) return;
    const { id, query } = this.address;
    this.crop.image.src = id === undefined ? `/api/queries/${query}/image` : `/api/images/${id}/thumbnail?size=512`;
  }

  /** The name of what is searched by. */
  async describe() {
    const { id, query, text } = this.address;
    const words = `“${text}”`;
    if (this.isWords) {
      this.title = this.name = words;
      this.entitle();
      return;
    }
    const together = this.address.like.length;
    let name = together ? `these ${count(together + 1, "image")}` : nameOfSent(query ?? "") || "your image";
    try {
      if (id !== undefined && !together) {
        this.image = await get(`/api/images/${id}/info`, this.signal);
        name = this.image.path;
      }
    } catch {
      // The search itself reports an image that does not exist.
    }
    if (text !== undefined) name += ` and ${words}`;
    this.title = `Like ${name}`;
    this.name = name;
    this.entitle();
  }

  entitle() {
    if (!this.name || this.heading.dataset.failed) return;
    const part = this.address.crop ? "a part of " : "";
    if (this.isWords) this.heading.textContent = this.name;
    else this.heading.textContent = this.address.round ? `Refined: like ${part}${this.name}` : `Like ${part}${this.name}`;
    document.title = `${this.heading.textContent} - lookalike`;
  }

  async load() {
    this.stop?.abort();
    this.stop = new AbortController();
    const signal = AbortSignal.any([this.signal, this.stop.signal]);
    this.crop.set(this.address.crop);
    this.teach.follow();
    this.narrowed.replaceChildren(narrowForm(this.address));
    delete this.heading.dataset.failed;
    this.entitle();
    const refined = this.address.yes.length + this.address.no.length > 0;
    const before = refined || this.address.round ? this.grid?.items : undefined;
    const grid = new Grid({
      label: "Hits, best first",
      kind: "wall hits",
      tile: (hit, place) => hitTile(hit, this.canTeach ? this.teach : null, change(hit, place, before)),
      load: (offset, wanted) => whileWorking(refined ? this.refined(signal, before) : this.plain(offset, Math.max(PAGE, wanted), signal)),
      onkey: (key, tile) => this.key(key, tile),
      signal,
    });
    // What was there stays until there is something better.
    if (this.grid?.items.length) this.found.classList.add("stale");
    else this.found.replaceChildren(grid.element);
    if (kept().summary) this.summarise(kept().summary);
    try {
      await grid.start();
      this.grid = grid;
      this.found.replaceChildren(grid.element);
      this.showImage();
      await this.compare.follow(this.address);
    } catch (error) {
      if (!isAbort(error)) this.fail(error);
    } finally {
      if (!signal.aborted) this.found.classList.remove("stale");
    }
  }

  /** @param {number} offset @param {number} k @param {AbortSignal} signal */
  async plain(offset, k, signal) {
    const { threshold, filter } = this.address;
    const body = { ...source(this.address), like: this.address.like, k, offset, threshold, filter };
    const found = await post("/api/search", body, signal);
    if (offset === 0) this.summarise({ ...found, hits: undefined, some: found.hits.length > 0 });
    return { items: found.hits, more: found.more && offset + k <= LAST_OFFSET };
  }

  /** @param {AbortSignal} signal @param {Hit[]} [before] what was shown until now */
  async refined(signal, before) {
    const { yes, no } = this.address;
    const body = { ...source(this.address), relevant: [...this.address.like, ...yes], irrelevant: no, k: REFINED, ask: 0 };
    const { hits } = await post("/api/feedback", body, signal);
    const changes = hits.map((hit, place) => change(hit, place, before));
    const fresh = changes.filter((text) => text === NEW).length;
    const up = changes.filter((text) => text?.startsWith(UP)).length;
    this.summarise({ refined: hits.length, some: hits.length > 0, fresh, up });
    return { items: hits, more: false };
  }

  /** Words above the hits. @param {any} found the first answer, without its hits */
  summarise(found) {
    keep({ summary: found });
    const { threshold, filter } = this.address;
    let text = "";
    if (found.refined !== undefined) {
      text = `${count(found.refined, "image")}, ranked by your marks.`;
      if (found.fresh || found.up) text += ` ${count(found.fresh, "new image")} among the first, ${number(found.up)} moved up.`;
      if (threshold !== undefined || filter) text += " The limits on the left are for searches that were not refined.";
    } else if (found.seconds) {
      const { encode, search } = found.seconds;
      text = "Best first.";
      this.summary.title = `${encode ? `Looked at in ${duration(encode)}, found` : "Found"} in ${duration(search)}`;
    }
    this.summary.textContent = text;
    this.nothing.replaceChildren();
    if (found.nothing_similar || !found.some) {
      const shown = nothing(this.address, found);
      this.nothing.replaceChildren(shown);
      announce(shown.textContent);
    } else {
      announce(text);
    }
    this.found.classList.toggle("doubtful", Boolean(found.nothing_similar));
  }

  /** @param {any} error */
  fail(error) {
    this.grid = undefined;
    this.nothing.replaceChildren();
    this.heading.dataset.failed = "yes";
    const gone = error.status === 404;
    this.heading.textContent = gone ? "This image is gone" : "The search failed";
    this.summary.textContent = "";
    const forgotten = "The server keeps an image that was sent for some minutes only, and has forgotten this one. Drop, paste or choose it again.";
    const removed = "The gallery no longer has this image.";
    const text = this.address.query ? forgotten : removed;
    this.found.replaceChildren(
      gone ? element("p", { class: "empty", role: "alert" }, text) : problem(error, () => this.load()),
    );
    this.element.classList.toggle("gone", gone);
  }

  putAway() {
    this.showAsked([]);
    this.heading.focus({ preventScroll: true });
  }

  /** @param {Hit[]} hits */
  showAsked(hits) {
    this.askedHits = hits;
    if (!hits.length) {
      this.asked.replaceChildren();
      return;
    }
    const list = element("ul", { class: "tiles wall hits", "aria-label": "Images to judge" }, hits.map((hit) => hitTile(hit, this.teach)));
    const title = element("h2", { id: "asked-title", tabindex: "-1" }, "Are these alike?");
    this.asked.replaceChildren(
      element(
        "section",
        { class: "asked", "aria-labelledby": "asked-title" },
        element("div", { class: "line" }, title, element("button", { type: "button", onclick: () => this.putAway() }, "Put away")),
        element("p", { class: "hint" }, "Your answers to these teach it most. Leave out what you are unsure of, then refine."),
        list,
      ),
    );
    title.focus({ preventScroll: true });
    title.scrollIntoView({ block: "center" });
  }

  /** @param {string} key @param {HTMLElement} tile */
  key(key, tile) {
    const hit = this.grid.items.find(({ id }) => id === Number(tile.dataset.id));
    if (!hit || (!this.canTeach && (key === "+" || key === "-"))) return false;
    if (key === "+") this.teach.mark(hit.id, true);
    else if (key === "-") this.teach.mark(hit.id, false);
    else if (key === "s") go({ path: "/search", id: hit.id });
    else if (key === "c") copyPath(hit);
    else return false;
    return true;
  }
}

/** The words that go with an image. @param {Address} address */
function withWords(address) {
  const link = (text, to) => element("a", { class: "chip", href: format({ ...to, compare: undefined }) }, text);
  return element(
    "div",
    { class: "together" },
    element("p", {}, "and ", element("strong", {}, `“${address.text}”`)),
    element("div", { class: "chips" }, link("Without the words", { ...address, text: undefined }), link("The words alone", { path: "/search", text: address.text })),
  );
}

/** The images that are searched by together. @param {number[]} ids */
function several(ids) {
  const link = (id) => element("a", { href: format({ path: "/search", id }), "aria-label": `Find similar to image ${id} alone` }, element("img", { src: `/api/images/${id}/thumbnail`, alt: "", loading: "lazy" }));
  return element("ul", { class: "several", "aria-label": "Searched by" }, ids.map((id) => element("li", {}, link(id))));
}

/**
 * How the place of a hit differs from before; undefined if it did not get better.
 * @param {Hit} hit @param {number} place @param {Hit[]} [before]
 */
function change(hit, place, before) {
  if (!before || place >= before.length) return undefined;
  const last = before.findIndex(({ id }) => id === hit.id);
  if (last < 0) return NEW;
  return last > place ? `${UP} ${last - place}` : undefined;
}

/** @param {Address} address @param {any} found */
function nothing(address, found) {
  let text = "Nothing similar is in this gallery.";
  if (!found.some && address.threshold !== undefined) text = `No image reaches a cosine of ${address.threshold}. Lower the limit to see what comes closest.`;
  else if (!found.some && address.filter) text = found.note ? "" : `Nothing was found among the images that fit ${address.filter}.`;
  const why = found.note ? sentence(found.note) : "";
  return element("p", { class: "empty nothing" }, `${text} ${why}`.trim());
}

/** @param {Address} address */
function narrowForm(address) {
  const filter = element("input", { id: "filter", type: "text", value: address.filter, placeholder: "buses, *.png, date:2022", autocomplete: "off", spellcheck: "false" });
  const threshold = element("input", { id: "threshold", type: "number", min: -1, max: 1, step: "any", value: address.threshold, placeholder: "any" });
  return element(
    "details",
    { class: "narrow", open: Boolean(address.filter || address.threshold !== undefined) },
    element("summary", {}, "Limits"),
    element(
      "form",
      {
        onsubmit(event) {
          event.preventDefault();
          const least = threshold.value === "" ? undefined : Number(threshold.value);
          go({ ...here(), filter: filter.value.trim() || undefined, threshold: least, compare: undefined, yes: [], no: [], round: 0 });
        },
      },
      element("label", { for: "filter" }, "Filter"),
      filter,
      element("label", { for: "threshold" }, "Cosine at least"),
      threshold,
      element("button", {}, "Apply"),
    ),
  );
}
