/** The query's image, and the part of it that is searched by. */

import { element, place } from "./dom.js";
import { announce } from "./notice.js";
import { percent } from "./words.js";

/** @typedef {[number, number, number, number]} Part x, y, width, height as shares */

const SMALLEST = 0.04;
const STEP = 0.02;
const FIRST = /** @type {Part} */ ([0.2, 0.2, 0.6, 0.6]);
const PAUSE_AFTER_KEYS = 700;
const WHOLE = /** @type {Part} */ ([0, 0, 1, 1]);

/** @param {number} value @param {number} low @param {number} high */
function clamp(value, low, high) {
  return Math.min(high, Math.max(low, value));
}

/** The rectangle between two points. @returns {Part} */
function between([ax, ay], [bx, by]) {
  return [Math.min(ax, bx), Math.min(ay, by), Math.abs(ax - bx), Math.abs(ay - by)];
}

/** @param {Part} part */
export function partInWords([x, y, width, height]) {
  return `${percent(width)} by ${percent(height)}, from ${percent(x)} left and ${percent(y)} down`;
}

export class Crop {
  /** @param {(part: Part | undefined) => void} onchange when a part has been settled on */
  constructor(onchange) {
    this.onchange = onchange;
    /** @type {Part | undefined} */
    this.part = undefined;
    /** @type {Part | undefined} */
    this.settled = undefined;
    this.timer = 0;
    this.image = element("img", { alt: "The image searched by", draggable: "false" });
    const corners = ["0,0", "1,0", "0,1", "1,1"].map((corner) => element("i", { "data-corner": corner }));
    this.rectangle = element("div", { class: "part", hidden: true }, corners);
    this.surface = element(
      "div",
      {
        class: "surface",
        tabindex: "0",
        role: "application",
        "aria-label": "Part to search by",
        "aria-describedby": "crop-help",
        onpointerdown: (event) => this.press(event),
        onkeydown: (event) => this.key(event),
      },
      this.image,
      this.rectangle,
    );
    this.summary = element("p", { class: "hint", id: "crop-help" });
    this.partButton = element("button", { type: "button", class: "part-button", "aria-pressed": "false", onclick: () => this.enlarge() }, "Choose a part");
    this.wholeButton = element("button", { type: "button", onclick: () => this.whole() }, "Whole image");
    this.element = element(
      "div",
      { class: "crop" },
      element("div", { class: "box" }, this.surface),
      element("div", { class: "line" }, this.summary, this.partButton, this.wholeButton),
    );
    this.set(undefined);
  }

  /** Shows a part without telling of it. @param {number[] | undefined} part */
  set(part) {
    clearTimeout(this.timer);
    this.settled = /** @type {Part | undefined} */ (part);
    this.draw(this.settled);
  }

  /** On a phone the image is small until it is drawn on. */
  enlarge() {
    const large = this.element.classList.toggle("large");
    this.partButton.setAttribute("aria-pressed", String(large));
  }

  /** @param {Part | undefined} part */
  draw(part) {
    this.part = part;
    this.rectangle.hidden = !part;
    if (part) place(part, this.rectangle);
    this.wholeButton.hidden = !part;
    this.summary.replaceChildren(
      part ? `Searching by a part: ${partInWords(part)}.` : "Drag a rectangle to search by a part.",
      element("span", { class: "keys" }, " Arrows move it, Shift and arrows size it."),
    );
  }

  whole() {
    this.settle(undefined);
    this.surface.focus({ preventScroll: true }); // The button is gone now.
  }

  /** @param {Part | undefined} part */
  settle(part) {
    clearTimeout(this.timer);
    const same = String(part) === String(this.settled);
    this.settled = part;
    this.draw(part);
    if (same) return;
    announce(part ? `Part: ${partInWords(part)}.` : "The whole image.");
    this.onchange(part);
  }

  /** @param {PointerEvent} event */
  press(event) {
    if (event.button) return;
    const box = this.surface.getBoundingClientRect();
    const at = (e) => [clamp((e.clientX - box.left) / box.width, 0, 1), clamp((e.clientY - box.top) / box.height, 0, 1)];
    const from = at(event);
    const follow = this.dragged(/** @type {HTMLElement} */ (event.target), from);
    const stop = new AbortController();
    const finish = (commit) => {
      stop.abort();
      const large = this.part && this.part[2] >= SMALLEST && this.part[3] >= SMALLEST;
      if (commit && large) this.settle(this.part);
      else this.draw(this.settled);
    };
    const options = { signal: stop.signal };
    this.surface.setPointerCapture(event.pointerId);
    this.surface.addEventListener("pointermove", (e) => this.draw(follow(at(e))), options);
    this.surface.addEventListener("pointerup", () => finish(true), options);
    this.surface.addEventListener("pointercancel", () => finish(false), options);
  }

  /**
   * What a drag that begins on `target` makes of the part: moves it, pulls a corner, or a new one.
   * @param {HTMLElement} target
   * @param {number[]} from
   * @returns {(to: number[]) => Part}
   */
  dragged(target, from) {
    const part = this.part;
    if (part && target.dataset.corner) {
      const [right, bottom] = target.dataset.corner.split(",").map(Number);
      const fixed = [part[0] + (1 - right) * part[2], part[1] + (1 - bottom) * part[3]];
      return (to) => between(fixed, to);
    }
    if (part && target === this.rectangle) {
      return ([x, y]) => [
        clamp(part[0] + x - from[0], 0, 1 - part[2]),
        clamp(part[1] + y - from[1], 0, 1 - part[3]),
        part[2],
        part[3],
      ];
    }
    return (to) => between(from, to);
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    const moves = { ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP] };
    if (event.key in moves) {
      const [dx, dy] = moves[event.key];
      this.draw(this.part ? this.shifted(dx, dy, event.shiftKey) : FIRST);
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.settle(this.part), PAUSE_AFTER_KEYS);
    } else if (event.key === "Enter" && this.part) {
      this.settle(this.part);
    } else if (event.key === "Escape" && this.part) {
      this.settle(undefined);
    } else {
      return;
    }
    event.preventDefault();
  }

  /** @param {number} dx @param {number} dy @param {boolean} size @returns {Part} */
  shifted(dx, dy, size) {
    const [x, y, width, height] = this.part ?? WHOLE;
    return size
      ? [x, y, clamp(width + dx, SMALLEST, 1 - x), clamp(height + dy, SMALLEST, 1 - y)]
      : [clamp(x + dx, 0, 1 - width), clamp(y + dy, 0, 1 - height), width, height];
  }
}
