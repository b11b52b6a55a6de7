/** All images, by path. */

import { get } from "./api.js";
import { element } from "./dom.js";
import { Grid } from "./grid.js";
import { isAbort, problem } from "./notice.js";
import { go, keep, kept } from "./state.js";
import { imageTile } from "./tiles.js";
import { count } from "./words.js";

const PAGE = 60;

/**
 * @param {import("./address.js").Address} address
 * @param {AbortSignal} signal
 */
export function show(address, signal) {
  const title = element("h1", { tabindex: "-1" }, "Images");
  const below = element("div", {});
  const showTotal = (total) => {
    title.textContent = count(total, "image");
    keep({ total });
    if (total === 0) below.replaceChildren(nothing(address.filter));
  };
  const grid = new Grid({
    label: "Images",
    kind: "wall",
    tile: imageTile,
    signal,
    async load(offset, wanted) {
      const given = new URLSearchParams({ offset: String(offset), limit: String(Math.max(PAGE, wanted)) });
      if (address.filter) given.set("filter", address.filter);
      const { images, total } = await get(`/api/images?${given}`, signal);
      showTotal(total);
      return { items: images, more: images.length > 0 && offset + images.length < total };
    },
  });
  below.append(grid.element);
  if (kept().total !== undefined) showTotal(kept().total);

  const load = async () => {
    try {
      await grid.start();
    } catch (error) {
      if (!isAbort(error)) below.replaceChildren(problem(error, () => go(address, { replace: true })));
    }
  };
  return {
    title: "Images",
    element: element("section", { class: "browse" }, element("div", { class: "head" }, title, filterForm(address)), below),
    ready: load(),
  };
}

/** @param {import("./address.js").Address} address */
function filterForm(address) {
  const field = element("input", {
    type: "search",
    name: "filter",
    "aria-label": "Only images whose path fits",
    placeholder: "Filter: buses/*, *.png",
    value: address.filter,
    autocomplete: "off",
    spellcheck: "false",
  });
  const submit = (event) => {
    event.preventDefault();
    const filter = field.value.trim() || undefined;
    if (filter !== address.filter) go({ path: "/", filter });
  };
  field.addEventListener("search", submit);
  return element("form", { class: "filter", role: "search", onsubmit: submit }, field);
}

/** @param {string | undefined} filter */
function nothing(filter) {
  return element(
    "p",
    { class: "empty" },
    filter
      ? `No file matches ${filter}. Words are looked for anywhere in the path; a star stands for anything: *.png, buses/*.`
      : "This gallery has no image yet. Put some into its folder, then start an update in the Gallery view.",
  );
}
