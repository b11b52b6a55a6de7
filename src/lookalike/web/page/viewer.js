/** One image of a list, large, with what is known of its file. */

import { format } from "./address.js";
import { get } from "./api.js";
import { element, facts, icon, iconButton } from "./dom.js";
import { isAbort, problem } from "./notice.js";
import { showPhoto } from "./photo.js";
import { go, here } from "./state.js";
import { Stepped } from "./stepped.js";
import { copyPath, similarTo } from "./tiles.js";
import { bytes, day, moment, number } from "./words.js";
import { Zoom } from "./zoom.js";

/** @typedef {import("./api.js").GalleryImage} GalleryImage */

export class Viewer extends Stepped {
  /** @param {{items: () => GalleryImage[], more: () => Promise<void>}} list what one steps through */
  constructor(list) {
    super("open", "image", list);
    this.image = element("img", { alt: "", draggable: "false" });
    this.stage = element("div", { class: "zoomed" }, this.image);
    this.facts = element("div", { class: "about" });
    this.acts = element("div", { class: "acts" });
    this.dialog.classList.add("viewer");
    this.dialog.append(
      element(
        "div",
        { class: "row" },
        this.title,
        element(
          "div",
          { class: "steps" },
          iconButton("minus", "Smaller", { onclick: () => this.zoom.step(-1) }),
          iconButton("plus", "Larger", { onclick: () => this.zoom.step(1) }),
          this.before,
          this.after,
          this.closeButton,
        ),
      ),
      this.stage,
      element("aside", { "aria-label": "About this image" }, this.acts, this.facts),
    );
    this.zoom = new Zoom(this.stage, this.image, (direction) => this.step(direction));
  }

  /** Opens, changes or closes, as the address says. @param {import("./address.js").Address} address */
  async follow({ open }) {
    if (open === undefined) {
      this.hide();
      return;
    }
    try {
      const image = this.list.items().find(({ id }) => id === open) ?? (await get(`/api/images/${open}/info`));
      if (here().open === open) await this.show(image);
    } catch (error) {
      if (isAbort(error)) return;
      this.appear();
      this.title.textContent = "This image cannot be shown";
      this.facts.replaceChildren(problem(error));
    }
  }

  /** @param {GalleryImage} image */
  async show(image) {
    this.shown = image;
    this.appear();
    this.title.textContent = image.path.slice(image.path.lastIndexOf("/") + 1);
    showPhoto(this.image, image);
    this.zoom.reset();
    const folder = image.path.slice(0, Math.max(0, image.path.lastIndexOf("/")));
    this.acts.replaceChildren(
      element("a", { class: "button main", href: similarTo(image) }, icon("similar"), "Find similar"),
      element("a", { class: "button", href: format({ path: "/", folder: folder || undefined }) }, icon("folder"), "Open folder"),
      element("button", { type: "button", onclick: () => copyPath(image) }, icon("copy"), "Copy path"),
      element("a", { class: "button", href: image.original, download: this.title.textContent }, icon("save"), "Download"),
    );
    this.placed(image);
    this.facts.replaceChildren(aboutFile(image, {}, {}));
    const info = await get(`/api/images/${image.id}/info`);
    // A file that has gone meanwhile has still been indexed.
    const exif = await get(`/api/images/${image.id}/exif`).catch(() => ({}));
    if (this.shown === image) this.facts.replaceChildren(aboutFile(image, info, exif));
  }

  /** @param {string} key */
  used(key) {
    if (key === "+") this.zoom.step(1);
    else if (key === "-") this.zoom.step(-1);
    else if (key === "0") this.zoom.reset();
    else if (key === "s" && this.shown) go({ path: "/search", id: this.shown.id });
    else if (key === "c" && this.shown) copyPath(this.shown);
    else return false;
    return true;
  }
}

/** @param {GalleryImage} image @param {any} info @param {any} exif */
function aboutFile(image, info, exif) {
  const { seconds, f_number: stop, iso, focal_length: length, latitude, longitude } = exif;
  const exposure = [
    seconds && (seconds < 0.4 ? `1/${Math.round(1 / seconds)} s` : `${seconds} s`),
    stop && `f/${Number(stop.toFixed(1))}`,
    length && `${Number(length.toFixed(1))} mm`,
    iso && `ISO ${iso}`,
  ].filter(Boolean);
  const place = latitude === null || latitude === undefined ? null : `${Math.abs(latitude).toFixed(4)}° ${latitude < 0 ? "S" : "N"}, ${Math.abs(longitude).toFixed(4)}° ${longitude < 0 ? "W" : "E"}`;
  return facts([
    ["Path", image.path],
    ["Size", `${number(image.width)} × ${number(image.height)}`],
    ["File", info.bytes === undefined ? image.format : `${image.format}, ${bytes(info.bytes)}`],
    ["Taken", exif.taken && moment(exif.taken)],
    ["Changed", info.changed && day(info.changed)],
    ["Camera", exif.camera],
    ["Lens", exif.lens],
    ["Exposure", exposure.join(", ")],
    ["Place", place && element("a", { href: `https://www.openstreetmap.org/?mlat=${latitude}&mlon=${longitude}#map=15/${latitude}/${longitude}`, target: "_blank", rel: "noopener noreferrer", title: "Show it on OpenStreetMap" }, place)],
    ["Note", info.note],
  ]);
}
