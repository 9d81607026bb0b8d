import { Told } from "./told.js";

/** Return the element of an id. */
export function at(id) {
  return document.getElementById(id);
}

/** Say below the video what is being done. */
export function say(text) {
  at("status").textContent = text;
}

/** Take back what was said, unless something else has been said since. */
export function unsay(text) {
  if (at("status").textContent === text) say("");
}

/** Tell a person what went wrong. */
export function failed(error) {
  if (!(error instanceof Told)) console.error(error);
  at("alert").firstElementChild.textContent = error instanceof Told
    ? error.message
    : `Something went wrong (${error?.message ?? error}). Reload the page and try again.`;
  at("alert").hidden = false;
  at("loading").textContent = "The network could not be loaded."; // hidden where it was
}

/** Take the message of an error away. */
export function quiet() {
  at("alert").hidden = true;
}
