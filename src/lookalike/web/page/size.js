/** How large the images of a grid are shown, remembered by the browser. */

import { element } from "./dom.js";

const KEY = "lookalike-size";
const SMALLEST = 0.6;
const LARGEST = 2.4;
/** From this factor on, thumbnails of the usual size would be blurred. */
const LARGE = 1.4;

let factor = stored();

function stored() {
  try {
    const value = Number(localStorage.getItem(KEY));
    return value >= SMALLEST && value <= LARGEST ? value : 1;
  } catch {
    return 1; // a browser that keeps nothing for this page
  }
}

export function applySize() {
  document.documentElement.style.setProperty("--size", String(factor));
  for (const image of document.querySelectorAll("img[data-thumbnail]")) {
    const wanted = thumbnailOf(image.dataset.thumbnail);
    if (image.getAttribute("src") !== wanted) image.setAttribute("src", wanted);
  }
}

/** @param {string} address of the thumbnail */
export function thumbnailOf(address) {
  return factor >= LARGE ? `${address}?size=512` : address;
}

export function sizeSlider() {
  const field = element("input", {
    type: "range",
    class: "size",
    min: SMALLEST,
    max: LARGEST,
    step: 0.1,
    value: factor,
    title: "Size of the images",
    "aria-label": "Size of the images",
    oninput: () => {
      factor = Number(field.value);
      applySize();
      try {
        localStorage.setItem(KEY, field.value);
      } catch {
        // it then lasts as long as the page
      }
    },
  });
  return field;
}
