/** Elements made of plain values: text stays text, whatever it holds. */

const SVG = "http://www.w3.org/2000/svg";

/** @typedef {Node | string | null | undefined | false} Child */

/**
 * @param {Element} node
 * @param {Object<string, any>} attributes null, undefined and false leave one out, true gives an
 *   empty one, `onname` is a listener
 * @param {(Child | Child[])[]} children
 */
function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children.flat().filter((child) => child instanceof Node || child));
  return node;
}

/**
 * @param {string} tag
 * @param {Object<string, any>} [attributes]
 * @param {...(Child | Child[])} children
 * @returns {any}
 */
export function element(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/**
 * @param {string} tag
 * @param {Object<string, any>} [attributes]
 * @param {...(Child | Child[])} children
 * @returns {any}
 */
export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

/** @param {string} name of a symbol in index.html */
export function icon(name) {
  return svg("svg", { class: "icon", "aria-hidden": "true" }, svg("use", { href: `#${name}` }));
}

/** @param {string} label @param {Object<string, any>} attributes */
export function iconButton(name, label, attributes) {
  return element(
    "button",
    { type: "button", class: "plain", "aria-label": label, title: label, ...attributes },
    icon(name),
  );
}

/**
 * A button that can do nothing for now. It keeps the keyboard's focus, which `disabled` would take away.
 * @param {HTMLElement} button
 * @param {boolean} isIdle
 */
export function idle(button, isIdle) {
  if (isIdle) button.setAttribute("aria-disabled", "true");
  else button.removeAttribute("aria-disabled");
}

/** Terms and what they are. @param {[string, Child][]} pairs */
export function facts(pairs) {
  return element(
    "dl",
    { class: "facts" },
    pairs
      .filter(([, value]) => value !== null && value !== undefined && value !== "")
      .map(([term, value]) => element("div", {}, element("dt", {}, term), element("dd", {}, value))),
  );
}

/** @param {number[]} crop @param {HTMLElement} node laid over the image */
export function place([x, y, width, height], node) {
  node.style.left = `${100 * x}%`;
  node.style.top = `${100 * y}%`;
  node.style.width = `${100 * width}%`;
  node.style.height = `${100 * height}%`;
}
