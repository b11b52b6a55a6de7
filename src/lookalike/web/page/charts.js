/** Drawings of numbers, each with a table that says the same. */

import { element, svg } from "./dom.js";

const MARGIN = { top: 14, right: 14, bottom: 44, left: 56 };
const HEIGHT = 240;

const TICKS = 4;

/**
 * Round numbers from at most `low` to at least `high`.
 * @param {number} low @param {number} high @param {number} [finest] smallest step
 */
function ticks(low, high, finest = 0) {
  const rough = Math.max(finest, (high - low || Math.abs(high) || 1) / TICKS);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((size) => size >= rough * 0.999) ?? rough;
  const first = Math.floor(low / step + 1e-9);
  const last = Math.ceil(high / step - 1e-9);
  return Array.from({ length: Math.max(2, last - first + 1) }, (_, at) => Number(((first + at) * step).toPrecision(12)));
}

/** Kept short, with the digits that neighbours differ in. @param {number} value @param {number} [step] between two */
function label(value, step = 1) {
  const digits = Math.max(0, Math.ceil(1 - Math.log10(step)));
  return new Intl.NumberFormat("en", { notation: value >= 10000 ? "compact" : "standard", maximumFractionDigits: Math.min(6, digits) }).format(value);
}

/** @param {number[]} values in even steps @param {(value: number) => number} place */
function marks(values, place) {
  return values.map((value) => ({ at: place(value), text: label(value, values[1] - values[0]) }));
}

/** @param {string} text @param {Object<string, any>} attributes */
function words(text, attributes) {
  return svg("text", attributes, text);
}

/**
 * Redraws whenever the width changes, so that letters keep their size.
 * @param {string} title
 * @param {(width: number) => Element[]} draw
 * @param {{head: string[], rows: string[][]}} table
 */
function figure(title, draw, table) {
  const holder = element("div", { class: "drawing" });
  const observer = new ResizeObserver(([{ contentRect }]) => {
    const width = Math.round(contentRect.width);
    if (width < 120) return;
    const chart = svg("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, width, height: HEIGHT, role: "img", "aria-label": `${title}. The table below says the same.` });
    chart.append(...draw(width));
    holder.replaceChildren(chart);
  });
  observer.observe(holder);
  return element(
    "figure",
    { class: "chart" },
    element("figcaption", {}, title),
    holder,
    element(
      "details",
      {},
      element("summary", {}, "As a table"),
      element(
        "table",
        {},
        element("thead", {}, element("tr", {}, table.head.map((name) => element("th", { scope: "col" }, name)))),
        element("tbody", {}, table.rows.map((row) => element("tr", {}, row.map((value) => element("td", {}, value))))),
      ),
    ),
  );
}

/**
 * Gridlines, numbers and names of two axes.
 * @param {number} width
 * @param {{at: number, text: string}[]} xs positions in pixels
 * @param {{at: number, text: string}[]} ys
 * @param {string} xName @param {string} yName
 */
function axes(width, xs, ys, xName, yName) {
  const bottom = HEIGHT - MARGIN.bottom;
  return [
    ...ys.map(({ at }) => svg("line", { class: "rule", x1: MARGIN.left, x2: width - MARGIN.right, y1: at, y2: at })),
    ...ys.map(({ at, text }) => words(text, { x: MARGIN.left - 8, y: at + 4, "text-anchor": "end" })),
    // In the middle the last one would be cut off at the edge.
    ...xs.map(({ at, text }) => words(text, { x: at, y: bottom + 18, "text-anchor": at > width - 2 * MARGIN.right ? "end" : "middle" })),
    words(xName, { x: (MARGIN.left + width - MARGIN.right) / 2, y: HEIGHT - 6, "text-anchor": "middle" }),
    words(yName, { transform: `rotate(-90) translate(${-(MARGIN.top + bottom) / 2} 12)`, "text-anchor": "middle" }),
  ];
}

/**
 * @param {{recall: number, microseconds: number}[]} curve
 * @param {{recall: number, microseconds: number} | null} chosen
 */
export function speedCurve(curve, chosen) {
  const points = [...curve].sort((a, b) => a.recall - b.recall);
  const all = chosen ? [...points, chosen] : points;
  const xTicks = ticks(Math.min(...all.map((point) => point.recall)), Math.max(...all.map((point) => point.recall)));
  const yTicks = ticks(0, Math.max(...all.map((point) => point.microseconds)));
  const draw = (width) => {
    const scale = (values, from, to) => (value) => from + ((value - values[0]) / (values.at(-1) - values[0])) * (to - from);
    const x = scale(xTicks, MARGIN.left, width - MARGIN.right);
    const y = scale(yTicks, HEIGHT - MARGIN.bottom, MARGIN.top);
    const dot = (point, name, radius) => svg("circle", { class: name, cx: x(point.recall), cy: y(point.microseconds), r: radius });
    return [
      ...axes(
        width,
        marks(xTicks, x),
        marks(yTicks, y),
        "recall",
        "µs a query",
      ),
      svg("polyline", { class: "curve", points: points.map((point) => `${x(point.recall)},${y(point.microseconds)}`).join(" ") }),
      ...points.map((point) => dot(point, "dot", 3)),
      ...(chosen ? [dot(chosen, "chosen", 6)] : []),
    ];
  };
  const rows = points.map((point) => [point.recall.toFixed(4), point.microseconds.toFixed(1)]);
  return figure("Time of a query against recall; the large dot is in use", draw, { head: ["Recall", "µs a query"], rows });
}

/** @param {{size_from: number, size_to: number, count: number}[]} buckets */
export function bucketHistogram(buckets) {
  const name = ({ size_from: from, size_to: to }) => (from === to ? label(from) : `${label(from)}–${label(to)}`);
  const most = Math.max(1, ...buckets.map(({ count }) => count));
  const yTicks = ticks(0, most, 1);
  const draw = (width) => {
    const room = width - MARGIN.left - MARGIN.right;
    const column = room / buckets.length;
    const bottom = HEIGHT - MARGIN.bottom;
    const y = (value) => bottom - (value / yTicks.at(-1)) * (bottom - MARGIN.top);
    const centre = (at) => MARGIN.left + (at + 0.5) * column;
    // Names that would touch are left out.
    const every = Math.ceil(46 / column);
    return [
      ...axes(
        width,
        buckets.map((bucket, at) => ({ at: centre(at), text: at % every ? "" : `${label(bucket.size_from)}${bucket.size_to > bucket.size_from ? "+" : ""}` })),
        marks(yTicks, y),
        "images in a bucket",
        "buckets",
      ),
      ...buckets.map(({ count }, at) => {
        const bar = Math.min(56, column * 0.72);
        return svg("rect", { class: "bar", x: centre(at) - bar / 2, y: y(count), width: bar, height: bottom - y(count), rx: 2 });
      }),
    ];
  };
  const rows = buckets.map((bucket) => [name(bucket), label(bucket.count)]);
  return figure("Buckets by the number of images in them", draw, { head: ["Images in a bucket", "Buckets"], rows });
}
