/** All images as a map, alike ones near each other, and the themes on it. */

import { get } from "./api.js";
import { element, iconButton } from "./dom.js";
import { isAbort, problem } from "./notice.js";
import { current, go, here, rememberNow } from "./state.js";
import { Viewer } from "./viewer.js";
import { count } from "./words.js";

/** @typedef {{ids: number[], x: number[], y: number[], themes_of: number[], themes: {name: string, id: number, images: number}[]}} Layout */

const AGAIN = 700;
const LARGEST = 200;
const STEP = 1.5;
/** So many images are drawn as images, if that many are in view; others are dots. */
const MOST_DRAWN = 250;
const KEPT_IMAGES = 1500;

/** @param {import("./address.js").Address} address @param {AbortSignal} signal */
export function show(address, signal) {
  const view = new GalleryMap(address, signal);
  return { title: "Map", element: view.element, ready: view.load(), follow: (next) => view.follow(next) };
}

class GalleryMap {
  /** @param {import("./address.js").Address} address @param {AbortSignal} signal */
  constructor(address, signal) {
    this.address = address;
    this.signal = signal;
    this.summary = element("p", { class: "hint" }, "Laying out the images, those alike near each other…");
    this.canvas = element("canvas", { class: "map", tabindex: "0", role: "img", "aria-label": "Map of all images. The themes below lead to the same images." });
    this.themes = element("ul", { class: "themes", "aria-label": "Themes" });
    this.failure = element("div", {});
    /** Middle of what is seen, and how much larger than the whole. */
    this.at = current().values.at ?? { x: 0.5, y: 0.5, scale: 1 };
    /** @type {Map<number, HTMLImageElement>} */
    this.images = new Map();
    this.viewer = new Viewer({ items: () => [], more: () => Promise.resolve() });
    this.element = element(
      "section",
      { class: "mapped" },
      element(
        "div",
        { class: "head" },
        element("div", {}, element("h1", { tabindex: "-1" }, "Map"), this.summary),
        element(
          "div",
          { class: "steps" },
          iconButton("minus", "Smaller", { onclick: () => this.by(1 / STEP) }),
          iconButton("plus", "Larger", { onclick: () => this.by(STEP) }),
          element("button", { type: "button", onclick: () => this.look(0.5, 0.5, 1) }, "All"),
        ),
      ),
      this.failure,
      this.canvas,
      this.themes,
    );
    this.listen();
    const observer = new ResizeObserver(() => this.draw());
    observer.observe(this.canvas);
    signal.addEventListener("abort", () => {
      observer.disconnect();
      this.viewer.hide();
    });
  }

  async load() {
    try {
      let layout = await get("/api/map", this.signal);
      while (!layout.ready) {
        await new Promise((resolve) => setTimeout(resolve, AGAIN));
        layout = await get("/api/map", this.signal);
      }
      /** @type {Layout | undefined} */
      this.layout = layout;
    } catch (error) {
      if (!isAbort(error)) this.failure.replaceChildren(problem(error, () => go(here(), { replace: true })));
      return;
    }
    const { ids, themes } = this.layout;
    this.summary.textContent = `${count(ids.length, "image")}, those alike near each other; ${count(themes.length, "theme")}.`;
    this.themes.replaceChildren(...themes.map((theme, number) => this.theme(theme, number)));
    this.draw();
    await this.follow(here());
  }

  /** @param {import("./address.js").Address} address */
  follow(address) {
    return address.path === "/map" ? this.viewer.follow(address) : null;
  }

  /** @param {{name: string, id: number, images: number}} theme @param {number} number */
  theme({ name, id, images }, number) {
    return element(
      "li",
      {},
      element(
        "button",
        { type: "button", onclick: () => this.lookAt(number), "aria-label": `${name}, ${count(images, "image")}: show on the map` },
        element("img", { src: `/api/images/${id}/thumbnail?size=128`, alt: "", loading: "lazy" }),
        element("span", {}, element("strong", {}, name), element("small", {}, count(images, "image"))),
      ),
    );
  }

  /** @param {number} number of a theme */
  lookAt(number) {
    const { x, y, themes_of: of } = /** @type {Layout} */ (this.layout);
    const places = of.flatMap((theme, at) => (theme === number ? [at] : []));
    const [xs, ys] = [places.map((at) => x[at]), places.map((at) => y[at])];
    const [left, right, top, bottom] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
    this.look((left + right) / 2, (top + bottom) / 2, 0.8 / Math.max(right - left, bottom - top, 0.01));
    this.canvas.scrollIntoView({ block: "nearest" });
  }

  /** @param {number} x @param {number} y @param {number} scale */
  look(x, y, scale) {
    this.at = { x: Math.min(1, Math.max(0, x)), y: Math.min(1, Math.max(0, y)), scale: Math.min(LARGEST, Math.max(1, scale)) };
    rememberNow({ at: this.at });
    this.draw();
  }

  /** Pixels of the whole map at this scale, and where (0, 0) is. */
  frame() {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    const size = 0.92 * Math.min(width, height) * this.at.scale;
    return { width, height, size, left: width / 2 - this.at.x * size, top: height / 2 - this.at.y * size };
  }

  /** The point under a pixel of the canvas stays there. @param {number} factor @param {number} [px] @param {number} [py] */
  by(factor, px = this.canvas.clientWidth / 2, py = this.canvas.clientHeight / 2) {
    const { size, left, top, width, height } = this.frame();
    const [x, y] = [(px - left) / size, (py - top) / size];
    const scale = Math.min(LARGEST, Math.max(1, this.at.scale * factor));
    const next = (size * scale) / this.at.scale;
    this.look(x + (width / 2 - px) / next, y + (height / 2 - py) / next, scale);
  }

  draw() {
    if (!this.layout || this.drawing) return;
    this.drawing = requestAnimationFrame(() => {
      this.drawing = 0;
      if (this.canvas.isConnected) this.paint();
    });
  }

  paint() {
    const { ids, x, y, themes_of: of } = /** @type {Layout} */ (this.layout);
    const { width, height, size, left, top } = this.frame();
    const ratio = devicePixelRatio;
    this.canvas.width = Math.round(width * ratio);
    this.canvas.height = Math.round(height * ratio);
    const context = this.canvas.getContext("2d");
    context.scale(ratio, ratio);
    const seen = [];
    for (let at = 0; at < ids.length; at += 1) {
      const [px, py] = [left + x[at] * size, top + y[at] * size];
      if (px > -60 && py > -60 && px < width + 60 && py < height + 60) seen.push({ at, px, py });
    }
    const side = Math.min(120, Math.max(22, Math.sqrt((width * height) / (3 * seen.length + 1))));
    for (const { at, px, py } of seen) {
      context.fillStyle = of[at] < 0 ? "#8a93a3" : `hsl(${(of[at] * 137.5) % 360} 62% 52%)`;
      context.beginPath();
      context.arc(px, py, 4, 0, 7);
      context.fill();
    }
    for (const { at, px, py } of seen.length <= MOST_DRAWN ? seen : seen.filter((_, place) => place % Math.ceil(seen.length / MOST_DRAWN) === 0)) {
      const image = this.image(ids[at]);
      if (!image.complete || !image.naturalWidth) continue;
      const shrink = side / Math.max(image.naturalWidth, image.naturalHeight);
      const [w, h] = [image.naturalWidth * shrink, image.naturalHeight * shrink];
      context.drawImage(image, px - w / 2, py - h / 2, w, h);
    }
  }

  /** @param {number} id */
  image(id) {
    let image = this.images.get(id);
    if (!image) {
      image = new Image();
      image.src = `/api/images/${id}/thumbnail?size=128`;
      image.onload = () => this.draw();
      this.images.set(id, image);
      if (this.images.size > KEPT_IMAGES) this.images.delete(this.images.keys().next().value);
    }
    return image;
  }

  listen() {
    const { canvas } = this;
    /** @type {Map<number, {x: number, y: number}>} */
    const down = new Map();
    let moved = 0;
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.by(event.deltaY < 0 ? 1.2 : 1 / 1.2, event.offsetX, event.offsetY);
    });
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      down.set(event.pointerId, { x: event.offsetX, y: event.offsetY });
      moved = 0;
    });
    canvas.addEventListener("pointermove", (event) => {
      const before = down.get(event.pointerId);
      if (!before) return;
      const now = { x: event.offsetX, y: event.offsetY };
      const other = [...down].find(([id]) => id !== event.pointerId)?.[1];
      down.set(event.pointerId, now);
      moved += Math.hypot(now.x - before.x, now.y - before.y);
      if (other) {
        const apart = (point) => Math.hypot(point.x - other.x, point.y - other.y) || 1;
        this.by(apart(now) / apart(before), (now.x + other.x) / 2, (now.y + other.y) / 2);
      } else {
        const { size } = this.frame();
        this.look(this.at.x - (now.x - before.x) / size, this.at.y - (now.y - before.y) / size, this.at.scale);
      }
    });
    canvas.addEventListener("pointerup", (event) => {
      down.delete(event.pointerId);
      if (moved < 5) this.open(event.offsetX, event.offsetY);
    });
    canvas.addEventListener("pointercancel", (event) => down.delete(event.pointerId));
    canvas.addEventListener("keydown", (event) => {
      const { x, y, scale } = this.at;
      const step = 0.1 / scale;
      const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
      if (event.key in moves) this.look(x + moves[event.key][0], y + moves[event.key][1], scale);
      else if (event.key === "+") this.by(STEP);
      else if (event.key === "-") this.by(1 / STEP);
      else if (event.key === "0") this.look(0.5, 0.5, 1);
      else return;
      event.preventDefault();
    });
  }

  /** The image nearest to a pixel. @param {number} px @param {number} py */
  open(px, py) {
    if (!this.layout) return;
    const { ids, x, y } = this.layout;
    const { size, left, top } = this.frame();
    let [best, least] = [-1, 40];
    for (let at = 0; at < ids.length; at += 1) {
      const away = Math.hypot(left + x[at] * size - px, top + y[at] * size - py);
      if (away < least) [best, least] = [at, away];
    }
    if (best >= 0) go({ ...here(), open: ids[best] }, { stay: true });
  }
}
