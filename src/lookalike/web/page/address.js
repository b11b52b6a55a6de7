/** What the address bar says, as values; and back. */

/**
 * @typedef {Object} Address
 * @property {string} path "/", "/search", "/map", "/duplicates" or "/gallery"
 * @property {number} [id] the gallery's image that is searched by
 * @property {string} [query] or the image that was sent
 * @property {string} [text] or the words, alone or with the image
 * @property {number[]} [crop] x, y, width, height as shares of the image
 * @property {number} [threshold]
 * @property {string} [filter]
 * @property {number[]} like further images of the gallery that are searched by
 * @property {string} [folder] only images below it
 * @property {string} [month] only images taken then, 2022-05
 * @property {string} [sort] "newest", "oldest" or "largest"
 * @property {number} [open] the image that is shown large
 * @property {number[]} yes judged alike
 * @property {number[]} no judged not alike
 * @property {number} round of teaching
 * @property {number} [compare] the hit that is open
 * @property {boolean} why whether its explanation is
 */

const LONGEST_TEXT = 1000;

/** @param {string | null} text */
function whole(text) {
  return text !== null && /^\d{1,15}$/.test(text) ? Number(text) : undefined;
}

/** @param {string | null} text @param {number} low @param {number} high */
function within(text, low, high) {
  const value = text === null || text === "" ? NaN : Number(text);
  return value >= low && value <= high ? value : undefined;
}

/** @param {string | null} text */
function list(text) {
  return (text ?? "").split(",").map(whole).filter((id) => id !== undefined);
}

/** @param {string | null} text */
function part(text) {
  const values = (text ?? "").split(",").map((share) => within(share, 0, 1));
  const [x, y, width, height] = values;
  const fits = values.length === 4 && values.every((value) => value !== undefined);
  return fits && width > 0 && height > 0 && x + width < 1.0001 && y + height < 1.0001 ? values : undefined;
}

/** @param {URL | Location} url @returns {Address} */
export function parse(url) {
  const given = new URLSearchParams(url.search);
  const query = given.get("query");
  return {
    path: url.pathname,
    id: whole(given.get("id")),
    query: query && /^q_[0-9a-f]{32}$/.test(query) ? query : undefined,
    text: given.get("text")?.trim().slice(0, LONGEST_TEXT) || undefined,
    crop: part(given.get("crop")),
    threshold: within(given.get("threshold"), -1, 1),
    filter: given.get("filter") || undefined,
    like: list(given.get("like")),
    folder: given.get("folder") || undefined,
    month: /^\d{4}-\d\d$/.test(given.get("month") ?? "") ? given.get("month") ?? undefined : undefined,
    sort: ["newest", "oldest", "largest"].find((name) => name === given.get("sort")),
    open: whole(given.get("open")),
    yes: list(given.get("yes")),
    no: list(given.get("no")),
    round: whole(given.get("round")) ?? 0,
    compare: whole(given.get("compare")),
    why: given.get("why") === "1",
  };
}

/** @param {Partial<Address>} address */
export function format(address) {
  const shown = [
    ["id", address.id],
    ["query", address.query],
    ["text", address.text],
    ["crop", address.crop?.map((share) => Number(share.toFixed(4))).join(",")],
    ["threshold", address.threshold],
    ["filter", address.filter],
    ["like", address.like?.join(",")],
    ["folder", address.folder],
    ["month", address.month],
    ["sort", address.sort],
    ["yes", address.yes?.join(",")],
    ["no", address.no?.join(",")],
    ["round", address.round || undefined],
    ["compare", address.compare],
    ["open", address.open],
    ["why", address.compare !== undefined && address.why ? 1 : undefined],
  ].filter(([, value]) => value !== undefined && value !== "");
  const text = shown.map(([name, value]) => `${name}=${encodeURIComponent(String(value).toWellFormed()).replaceAll("%2C", ",")}`);
  return address.path + (text.length ? `?${text.join("&")}` : "");
}

/** The address of what lies below a dialog. @param {Address} address */
export function below(address) {
  return format({ ...address, compare: undefined, why: false, open: undefined });
}

/**
 * Folder, month and words as one filter of the server. What a pattern cannot hold stands for anything.
 * @param {Address} address
 */
export function wanted({ folder, month, filter }) {
  const inside = folder && `"${folder.replaceAll("[", "[[]").replaceAll(/["*?\ufffd]/g, "?")}/*"`;
  return [inside, month && `date:${month}`, filter].filter(Boolean).join(" ");
}

/** What names the query to the API. @param {Address} address */
export function source(address) {
  const { id, query, text, crop } = address;
  return { id, query, text, crop };
}
