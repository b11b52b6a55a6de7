/** Numbers and errors as people read them. */

const plain = new Intl.NumberFormat("en");

/** "1 image", "5,000 images". @param {number} count @param {string} noun */
export function count(count, noun) {
  return `${plain.format(count)} ${noun}${count === 1 ? "" : "s"}`;
}

/** @param {number} value */
export function number(value) {
  return plain.format(value);
}

/** @param {number} size */
export function bytes(size) {
  if (size < 1000) return `${size} bytes`;
  const power = Math.min(3, Math.floor(Math.log10(size) / 3));
  const value = size / 1000 ** power;
  return `${value.toFixed(value < 10 ? 1 : 0)} ${["", "kB", "MB", "GB"][power]}`;
}

/** A point in time. @param {string} iso */
export function day(iso) {
  return new Intl.DateTimeFormat("en", { dateStyle: "long", timeStyle: "short" }).format(new Date(iso));
}

/** By a camera's clock, whose time zone is not known. @param {string} iso */
export function moment(iso) {
  return new Intl.DateTimeFormat("en", { dateStyle: "long", timeStyle: "short", timeZone: "UTC" }).format(new Date(`${iso}Z`));
}

/** @param {number} seconds */
export function duration(seconds) {
  if (seconds < 0.001) return `${(1e6 * seconds).toFixed(0)} µs`;
  if (seconds < 0.01) return `${(1000 * seconds).toFixed(1)} ms`;
  if (seconds < 1) return `${(1000 * seconds).toFixed(0)} ms`;
  return `${seconds.toFixed(1)} s`;
}

/** @param {number} share 0 to 1 */
export function percent(share) {
  return `${Math.round(100 * share)}\u00a0%`;
}

/** With a capital, unless it begins with a command, and a full stop. @param {string} text */
export function sentence(text) {
  const trimmed = text.trim();
  const whole = /^(lookalike|pip) /.test(trimmed) ? trimmed : trimmed.charAt(0).toUpperCase() + trimmed.slice(1);
  return /[.!?]$/.test(whole) ? whole : `${whole}.`;
}

export const OFFLINE = {
  message: "the server does not answer",
  remedy: "see whether lookalike serve is still running, then try again",
};

/** What went wrong and what to do. @param {any} error */
export function explained(error) {
  // As browsers say it: a part of the page, which comes when it is first needed, did not come.
  const { message, remedy } = error instanceof TypeError && /\bimport/i.test(error.message) ? OFFLINE : error;
  const parts = [message || "something went wrong", remedy];
  return parts.filter(Boolean).map(sentence).join(" ");
}
