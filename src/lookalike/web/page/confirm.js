/** A question before something is done. */

import { element } from "./dom.js";

/**
 * @param {string} title
 * @param {string} text
 * @param {string} act what the button says
 * @returns {Promise<boolean>}
 */
export function confirmed(title, text, act) {
  return new Promise((resolve) => {
    const dialog = element(
      "dialog",
      { class: "token", "aria-labelledby": "confirm-title" },
      element(
        "form",
        { method: "dialog" },
        element("h2", { id: "confirm-title" }, title),
        element("p", {}, text),
        element("div", { class: "buttons" }, element("button", { class: "main", value: "yes" }, act), element("button", { value: "no" }, "Cancel")),
      ),
    );
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes");
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}
