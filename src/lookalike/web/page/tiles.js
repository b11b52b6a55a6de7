/** One image of a grid, with its caption and what can be done with it. */

import { format } from "./address.js";
import { element, icon, iconButton } from "./dom.js";
import { say } from "./notice.js";
import { here } from "./state.js";

/** @typedef {import("./api.js").GalleryImage} GalleryImage */
/** @typedef {import("./api.js").Hit} Hit */

const NARROWEST = 0.7;
const WIDEST = 2.2;

/** @param {GalleryImage} image */
export function thumbnail(image, attributes = {}) {
  return element("img", {
    src: image.thumbnail,
    width: image.width,
    height: image.height,
    alt: "",
    loading: "lazy",
    decoding: "async",
    draggable: "false",
    ...attributes,
  });
}

/** @param {GalleryImage} image */
export function similarTo(image) {
  return format({ path: "/search", id: image.id });
}

/** @param {string} path */
export function pathShown(path) {
  return element("span", { class: "path", title: path }, path);
}

/** An image that searches by itself. @param {GalleryImage} image */
export function imageTile(image) {
  const tile = element(
    "li",
    {},
    element(
      "a",
      { href: similarTo(image), "aria-label": `Find similar to ${image.path}`, title: image.path, draggable: "false" },
      thumbnail(image),
    ),
  );
  const ratio = Math.min(WIDEST, Math.max(NARROWEST, image.width / image.height));
  tile.style.setProperty("--ratio", ratio.toFixed(3));
  return tile;
}

/** The score as the server words it, its number first. @param {Hit} hit */
export function score(hit) {
  const [number, ...rest] = hit.words.split(", ");
  return element(
    "p",
    { class: "score" },
    element("strong", {}, number),
    rest.length ? `, ${rest.join(", ")}` : "",
  );
}

/**
 * @param {Hit} hit
 * @param {import("./teach.js").Teach | null} teach null: there is no image to compare it with
 */
export function hitTile(hit, teach) {
  return element(
    "li",
    { "data-id": hit.id },
    element(
      "a",
      {
        class: "mat",
        href: teach ? format({ ...here(), compare: hit.id, why: false }) : similarTo(hit),
        "aria-label": `${teach ? "Compare with" : "Find similar to"} ${hit.path}: ${hit.words}`,
        draggable: "false",
      },
      thumbnail(hit),
    ),
    element(
      "div",
      { class: "quick" },
      element(
        "a",
        { class: "plain", href: similarTo(hit), "aria-label": `Find similar to ${hit.path}`, title: "Find similar" },
        icon("similar"),
      ),
      iconButton("copy", `Copy the path ${hit.path}`, { title: "Copy path", onclick: () => copyPath(hit) }),
    ),
    element("div", { class: "caption" }, score(hit), element("div", { class: "line" }, pathShown(hit.path), teach?.buttons(hit) ?? "")),
  );
}

/** @param {GalleryImage} image */
export async function copyPath(image) {
  try {
    await navigator.clipboard.writeText(image.path);
    say(`Copied: ${image.path}`);
  } catch {
    // Browsers open the clipboard to pages from this computer or over TLS alone.
    say(`The browser does not let this page copy. The path is ${image.path}`);
  }
}
