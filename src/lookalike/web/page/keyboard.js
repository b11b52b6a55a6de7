/** Arrow keys in a grid of tiles: one stop for Tab, then by columns and rows. */

const CONTROLS = "a, button, input";

/** @param {Element} tile @param {number} value */
function setTabbable(tile, value) {
  for (const control of tile.querySelectorAll(CONTROLS)) control.tabIndex = value;
}

/**
 * The tile above or below that lies closest, whatever the widths in its row.
 * @param {HTMLElement} tile
 * @param {1 | -1} direction
 */
function inNextRow(tile, direction) {
  const step = direction > 0 ? "nextElementSibling" : "previousElementSibling";
  const centre = tile.offsetLeft + tile.offsetWidth / 2;
  let row = null;
  let best = null;
  let distance = Infinity;
  for (let other = tile[step]; other; other = other[step]) {
    if (other.offsetTop === tile.offsetTop) continue;
    row ??= other.offsetTop;
    if (other.offsetTop !== row) break;
    const away = Math.abs(other.offsetLeft + other.offsetWidth / 2 - centre);
    if (away < distance) [best, distance] = [other, away];
  }
  return best;
}

/**
 * @param {HTMLElement} list whose children are tiles, each with a link first
 * @param {(key: string, tile: HTMLElement, shift: boolean) => boolean} [onkey] other keys on a tile, and
 *   arrows with Shift that led to it; true if used
 */
export function moveByArrows(list, onkey = () => false) {
  /** @type {Element | null} */
  let active = null;

  list.addEventListener("focusin", (event) => {
    const tile = /** @type {Element} */ (event.target).closest("li");
    if (!tile || tile === active) return;
    if (active) setTabbable(active, -1);
    setTabbable(tile, 0);
    active = tile;
  });

  list.addEventListener("keydown", (event) => {
    const tile = /** @type {HTMLElement} */ (event.target).closest("li");
    if (!tile || event.ctrlKey || event.metaKey || event.altKey) return;
    const goals = {
      ArrowRight: () => tile.nextElementSibling,
      ArrowLeft: () => tile.previousElementSibling,
      ArrowDown: () => inNextRow(tile, 1),
      ArrowUp: () => inNextRow(tile, -1),
      Home: () => list.firstElementChild,
      End: () => list.lastElementChild,
    };
    if (event.key in goals) {
      event.preventDefault();
      if (event.shiftKey) onkey(event.key, tile, true);
      const goal = /** @type {HTMLElement | null} */ (goals[event.key]());
      goal?.querySelector("a")?.focus();
      if (goal && event.shiftKey) onkey(event.key, goal, true);
    } else if (onkey(event.key, tile, event.shiftKey)) {
      event.preventDefault();
    }
  });

  return {
    /** Announces tiles that came to the list, or got other controls. @param {Iterable<Element>} tiles */
    added(tiles) {
      if (!active?.isConnected) active = list.firstElementChild;
      for (const tile of tiles) setTabbable(tile, tile === active ? 0 : -1);
    },
    /** Takes a tile out of the list. @param {Element} tile */
    remove(tile) {
      if (tile === active) {
        active = tile.nextElementSibling ?? tile.previousElementSibling;
        if (active) setTabbable(active, 0);
      }
      tile.remove();
    },
    /** To the tile where the keyboard was last. */
    focus() {
      active?.querySelector("a")?.focus({ preventScroll: true });
    },
  };
}
