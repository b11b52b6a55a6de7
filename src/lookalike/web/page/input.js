/** Images from outside: dropped, pasted, chosen, photographed. */

import { get, sendImage } from "./api.js";
import { problem, say, whileWorking } from "./notice.js";
import { go, here } from "./state.js";

/**
 * Names of the images sent from this page. The server still has those.
 * @type {Map<string, string>}
 */
const sent = new Map();

/** @param {string} query */
export function nameOfSent(query) {
  return sent.get(query);
}

/** @param {Blob & {name?: string}} image */
async function searchBy(image) {
  try {
    const answer = await whileWorking(sendImage(image));
    sent.set(answer.query, image.name ?? "");
    go({ path: "/search", query: answer.query });
  } catch (error) {
    showProblem(error);
  }
}

/** @param {any} error */
function showProblem(error) {
  const main = /** @type {HTMLElement} */ (document.getElementById("main"));
  main.querySelector(":scope > .problem")?.remove();
  const shown = problem(error);
  main.prepend(shown);
  scrollTo(0, 0);
}

/** The first image, or null. @param {DataTransfer | null} data */
function imageOf(data) {
  const files = [...(data?.files ?? [])];
  const images = files.filter((file) => file.type.startsWith("image/"));
  if (images.length > 1) say(`Searching by the first of ${images.length} images.`);
  // Systems do not know the type of every image; the server looks at the content.
  return images[0] ?? files.find((file) => !file.type) ?? null;
}

/** @param {string} button @param {string} input */
function connect(button, input) {
  const field = /** @type {HTMLInputElement} */ (document.getElementById(input));
  document.getElementById(button)?.addEventListener("click", () => field.click());
  field.addEventListener("change", () => {
    const [image] = field.files ?? [];
    field.value = "";
    if (image) searchBy(image);
  });
}

async function pasteByButton() {
  try {
    for (const item of await navigator.clipboard.read()) {
      const type = item.types.find((name) => name.startsWith("image/"));
      if (type) return searchBy(await item.getType(type));
    }
    say("There is no image in the clipboard. Copy one first.");
  } catch {
    say("The browser does not let this page read the clipboard. Press Ctrl+V instead.");
  }
}

/** The field for words, if the gallery's model knows them. */
export async function acceptWords() {
  const form = /** @type {HTMLFormElement} */ (document.getElementById("words-form"));
  const field = /** @type {HTMLInputElement} */ (document.getElementById("words"));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const text = field.value.trim() || undefined;
    const address = here();
    if (hasImage(address)) go({ ...address, text, compare: undefined, yes: [], no: [], round: 0 });
    else if (text) go({ path: "/search", text });
  });
  try {
    form.hidden = !(await get("/api/health")).words;
  } catch {
    // The view reports a server that does not answer.
  }
}

/** What is searched for, also after going back. */
export function showWords() {
  const field = /** @type {HTMLInputElement} */ (document.getElementById("words"));
  field.value = here().text ?? "";
  field.placeholder = hasImage(here()) ? "Add words: at night" : "Search by words: a red bus at night";
}

/** Whether an image is searched by, with which words go. @param {import("./address.js").Address} address */
function hasImage({ path, id, query }) {
  return path === "/search" && (id !== undefined || query !== undefined);
}

export function acceptImages() {
  connect("choose-button", "choose");
  connect("camera-button", "camera-input");
  const paste = /** @type {HTMLElement} */ (document.getElementById("paste-button"));
  paste.hidden = !navigator.clipboard?.read;
  paste.addEventListener("click", pasteByButton);

  addEventListener("paste", (event) => {
    const data = event.clipboardData;
    const image = imageOf(data);
    if (image) {
      event.preventDefault();
      searchBy(image);
    } else if (!(event.target instanceof HTMLInputElement)) {
      say("There is no image in the clipboard. Copy the image itself, not a link to it.");
    }
  });

  const overlay = /** @type {HTMLElement} */ (document.getElementById("drop"));
  const holdsFiles = (event) => event.dataTransfer?.types.includes("Files");
  addEventListener("dragover", (event) => {
    if (!holdsFiles(event)) return;
    event.preventDefault();
    overlay.hidden = false;
  });
  addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) overlay.hidden = true;
  });
  addEventListener("drop", (event) => {
    if (!holdsFiles(event)) return;
    event.preventDefault();
    overlay.hidden = true;
    const image = imageOf(event.dataTransfer);
    if (image) searchBy(image);
    else say("That is not an image. Drop an image file.");
  });
}
