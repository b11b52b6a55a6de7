/** One image of a grid, with its caption and what can be done with it. */

import { format } from "./address.js";
import { element, icon, iconButton } from "./dom.js";
import { say } from "./notice.js";
import { thumbnailOf } from "./size.js";
import { here } from "./state.js";

/** @typedef {import("./api.js").GalleryImage} GalleryImage */
/** @typedef {import("./api.js").Hit} Hit */

const NARROWEST = 0.7;
const WIDEST = 2.2;
/** Below, a caption has no room. */
const NARROWEST_HIT = 0.9;

/** @param {GalleryImage} image */
export function thumbnail(image, attributes = {}) {
  return element("img", {
    src: thumbnailOf(image.thumbnail),
    "data-thumbnail": image.thumbnail,
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

/** The name of a file, then the folder that it is in. @param {string} path */
export function namesShown(path) {
  const cut = path.lastIndexOf("/");
  return [
    element("span", { class: "name", title: path }, path.slice(cut + 1)),
    element("span", { class: "folder", title: path }, path.slice(0, Math.max(0, cut))),
  ];
}

/** Rows are filled by widths in proportion to this. @param {HTMLElement} tile @param {GalleryImage} image @param {number} narrowest */
function shape(tile, image, narrowest) {
  const ratio = Math.min(WIDEST, Math.max(narrowest, image.width / image.height));
  tile.style.setProperty("--ratio", ratio.toFixed(3));
  return tile;
}

/** An image to look at. @param {GalleryImage} image @param {HTMLElement} [box] to choose it by */
export function imageTile(image, box) {
  const tile = element(
    "li",
    { "data-id": image.id },
    element(
      "a",
      { href: format({ ...here(), open: image.id }), "aria-label": `Open ${image.path}`, title: image.path, draggable: "false" },
      thumbnail(image),
    ),
    box,
  );
  return shape(tile, image, NARROWEST);
}

/** How alike in a word; the numbers are in its tooltip. @param {Hit} hit */
export function score(hit) {
  return element("p", { class: "score", title: hit.words }, hit.likeness);
}

/**
 * @param {Hit} hit
 * @param {import("./teach.js").Teach | null} teach null: there is no image to compare it with
 * @param {string} [change] what refining did to its place
 */
export function hitTile(hit, teach, change) {
  const tile = element(
    "li",
    { "data-id": hit.id },
    element(
      "a",
      {
        href: teach ? format({ ...here(), compare: hit.id, why: false }) : similarTo(hit),
        "aria-label": `${teach ? "Compare with" : "Find similar to"} ${hit.path}: ${hit.likeness} (${hit.words})`,
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
    change && element("span", { class: "badge change" }, change),
    element("div", { class: "caption" }, namesShown(hit.path), element("div", { class: "line" }, score(hit), teach?.buttons(hit) ?? "")),
  );
  return shape(tile, hit, NARROWEST_HIT);
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
