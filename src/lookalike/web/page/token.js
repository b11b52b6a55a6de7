/** The form that asks for the token of `lookalike serve --token`. */

import { element } from "./dom.js";
import { explained } from "./words.js";

/** @type {Promise<void> | null} */
let asking = null;

/**
 * Resolves when the server has taken a token; many requests may wait for the same form.
 * @param {(token: string) => Promise<void>} send
 */
export function askForToken(send) {
  asking ??= ask(send).finally(() => {
    asking = null;
  });
  return asking;
}

/** @param {(token: string) => Promise<void>} send @returns {Promise<void>} */
function ask(send) {
  return new Promise((resolve) => {
    const field = element("input", { id: "token", type: "password", required: true, autocomplete: "current-password" });
    const failure = element("p", { class: "failure", role: "alert" });
    const dialog = element(
      "dialog",
      { class: "token", "aria-labelledby": "token-title" },
      element(
        "form",
        {
          async onsubmit(event) {
            event.preventDefault();
            try {
              await send(field.value);
            } catch (error) {
              failure.textContent = explained(error);
              field.select();
              return;
            }
            dialog.remove();
            resolve();
          },
        },
        element("h2", { id: "token-title" }, "This gallery is locked"),
        element("p", {}, "Enter the token that lookalike serve was started with."),
        element("label", { for: "token" }, "Token"),
        field,
        failure,
        element("button", { class: "main" }, "Unlock"),
      ),
    );
    // Without a token there is nothing behind the form.
    dialog.addEventListener("cancel", (event) => event.preventDefault());
    document.body.append(dialog);
    dialog.showModal();
    field.focus();
  });
}
