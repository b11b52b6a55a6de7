/** Why two images match: where the model looks, and which regions agree. */

import { post } from "./api.js";
import { element, svg } from "./dom.js";
import { isAbort, problem, whileWorking } from "./notice.js";
import { sentence } from "./words.js";

/** @typedef {import("./api.js").Cells} Cells */
/** @typedef {import("./api.js").Pair} Pair */
/** @typedef {"agree" | "attention" | "plain"} View */

const VEIL = 0.78;

/** @param {Cells} cells @param {(value: number) => [number, number, number, number]} colour */
function drawn(cells, colour) {
  const canvas = element("canvas", { class: "heat", width: cells.columns, height: cells.rows });
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(cells.columns, cells.rows);
  cells.values.flat().forEach((value, at) => {
    const [red, green, blue, alpha] = colour(value);
    pixels.data.set([red, green, blue, 255 * alpha], 4 * at);
  });
  context.putImageData(pixels, 0, 0);
  return canvas;
}

/** From clear through amber to red. @param {number} value 0 to 1 */
function heat(value) {
  return /** @type {[number, number, number, number]} */ ([255, 205 - 175 * value, 60 - 30 * value, 0.08 + 0.62 * value]);
}

/** Smallest and largest of all values. @param {...Cells} grids */
function range(...grids) {
  const all = grids.flatMap(({ values }) => values.flat());
  return [Math.min(...all), Math.max(...all)];
}

/** @param {number} value */
function shown(value) {
  return value.toFixed(2);
}

export class Why {
  /**
   * @param {HTMLElement} lines covers both images
   * @param {HTMLElement} queryLayer covers the part of the query that is searched by
   * @param {HTMLElement} hitLayer
   */
  constructor(lines, queryLayer, hitLayer) {
    this.lines = lines;
    this.layers = { query: queryLayer, hit: hitLayer };
    /** @type {View} */
    this.view = "agree";
    this.element = element("section", { class: "why", "aria-label": "Why it matched", hidden: true });
    /** @type {Element[][]} */
    this.boxes = [];
  }

  /** @param {Object} body what to explain */
  async open(body) {
    const key = JSON.stringify(body);
    if (this.key === key) return;
    this.stop?.abort();
    this.clear();
    this.key = key;
    this.stop = new AbortController();
    // From one hit to the next the images above keep their size.
    this.element.style.minHeight = `${this.element.offsetHeight}px`;
    this.element.hidden = false;
    this.element.replaceChildren(element("p", { class: "hint" }, "Comparing the regions…"));
    try {
      this.found = await whileWorking(post("/api/explain", body, this.stop.signal));
    } catch (error) {
      if (this.key === key) this.key = undefined;
      if (!isAbort(error)) this.element.replaceChildren(problem(error, () => this.open(body)));
      return;
    }
    this.draw();
  }

  close() {
    this.stop?.abort();
    this.key = undefined;
    this.element.hidden = true;
    this.clear();
  }

  clear() {
    this.lines.replaceChildren();
    for (const layer of Object.values(this.layers)) layer.replaceChildren();
  }

  draw() {
    const { attention, attention_note: note, regions } = this.found;
    const choices = [
      ["agree", "Regions that agree", true],
      ["attention", "Attention", Boolean(attention)],
      ["plain", "Images alone", true],
    ];
    if (this.view === "attention" && !attention) this.view = "agree";
    const radios = choices.map(([value, label, possible]) =>
      element(
        "label",
        {},
        element("input", {
          type: "radio",
          name: "layer",
          value,
          checked: this.view === value,
          disabled: !possible,
          onchange: () => {
            this.view = value;
            this.drawView();
          },
        }),
        element("span", {}, label),
      ),
    );
    this.summary = element("p", { class: "hint", role: "status" });
    this.pairs = element("ol", { class: "pairs", "aria-label": "Regions that agree most" });
    regions.pairs.forEach((pair, at) => {
      const light = () => this.connect(at);
      const dim = () => this.connect(null);
      const entry = element(
        "button",
        { type: "button", onmouseenter: light, onfocus: light, onclick: light, onmouseleave: dim, onblur: dim },
        element("b", {}, at + 1),
        ` ${shown(pair.cosine)}`,
      );
      entry.setAttribute("aria-label", `Pair ${at + 1}: cosine ${shown(pair.cosine)}, ${cell(pair.query)} of the query, ${cell(pair.hit)} of the hit`);
      this.pairs.append(element("li", {}, entry));
    });
    this.element.replaceChildren(
      element("fieldset", {}, element("legend", {}, "Show"), radios),
      ...(attention ? [] : [element("p", { class: "hint" }, sentence(note ?? "this model has no attention"))]),
      this.summary,
      this.pairs,
    );
    this.element.style.minHeight = "";
    this.drawView();
  }

  drawView() {
    this.clear();
    this.pairs.hidden = this.view !== "agree";
    if (this.view === "agree") this.drawAgreement();
    else if (this.view === "attention") this.drawAttention();
    else this.summary.textContent = "";
  }

  drawAgreement() {
    const { query, hit, pairs } = this.found.regions;
    const [low, high] = range(query, hit);
    const veil = (value) => [8, 10, 16, VEIL * (1 - (value - low) / (high - low || 1))];
    this.layers.query.append(drawn(query, veil));
    this.layers.hit.append(drawn(hit, veil));
    this.boxes = pairs.map((pair, at) => [
      this.box(this.layers.query, query, pair.query, at),
      this.box(this.layers.hit, hit, pair.hit, at),
    ]);
    this.summary.textContent = `Bright where a region finds its like in the other image: cosine ${shown(low)} to ${shown(high)}. The ${pairs.length} best pairs are numbered; point at one to connect it.`;
  }

  drawAttention() {
    const { query, hit } = this.found.attention;
    this.layers.query.append(drawn(query, heat));
    this.layers.hit.append(drawn(hit, heat));
    this.summary.textContent = `Red where the model looks most. Its gate goes from ${shown(query.low)} to ${shown(query.high)} on the query, from ${shown(hit.low)} to ${shown(hit.high)} on the hit.`;
  }

  /**
   * A numbered region on an image. Several pairs may share one: their numbers stand side by side.
   * @param {HTMLElement} layer
   * @param {Cells} cells
   * @param {[number, number]} at row, column
   * @param {number} index
   */
  box(layer, cells, [row, column], index) {
    const key = `${row},${column}`;
    let box = layer.querySelector(`[data-cell="${key}"]`);
    if (!box) {
      box = element("div", { class: "region", "data-cell": key, "aria-hidden": "true" });
      box.style.left = `${(100 * column) / cells.columns}%`;
      box.style.top = `${(100 * row) / cells.rows}%`;
      box.style.width = `${100 / cells.columns}%`;
      box.style.height = `${100 / cells.rows}%`;
      layer.append(box);
    }
    box.append(element("b", { onpointerenter: () => this.connect(index), onpointerleave: () => this.connect(null) }, index + 1));
    return box;
  }

  /** Draws the line between the regions of a pair; null takes it away. @param {number | null} at */
  connect(at) {
    this.lines.replaceChildren();
    for (const box of this.boxes.flat()) box.classList.remove("lit");
    [...this.pairs.children].forEach((entry, index) => entry.classList.toggle("lit", index === at));
    if (at === null || this.view !== "agree") return;
    const frame = this.lines.getBoundingClientRect();
    const [from, to] = this.boxes[at].map((box) => {
      box.classList.add("lit");
      const { left, top, width, height } = box.getBoundingClientRect();
      return [left + width / 2 - frame.left, top + height / 2 - frame.top];
    });
    const line = (name) => svg("line", { class: name, x1: from[0], y1: from[1], x2: to[0], y2: to[1] });
    this.lines.append(svg("svg", { width: frame.width, height: frame.height, "aria-hidden": "true" }, line("under"), line("over")));
  }
}

/** @param {[number, number]} at */
function cell([row, column]) {
  return `row ${row + 1}, column ${column + 1}`;
}
