/** An image that is enlarged and moved, by wheel, fingers, mouse or keys. */

const LARGEST = 8;
const STEP = 1.4;
const SWIPE = 60;

export class Zoom {
  /**
   * @param {HTMLElement} stage around the image, which fits into it
   * @param {HTMLElement} image
   * @param {(direction: number) => void} onswipe sideways, while nothing is enlarged
   */
  constructor(stage, image, onswipe) {
    this.stage = stage;
    this.image = image;
    this.onswipe = onswipe;
    /** Pointers that are down, by their number. @type {Map<number, {x: number, y: number}>} */
    this.down = new Map();
    stage.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.by(event.deltaY < 0 ? 1.15 : 1 / 1.15, event.clientX, event.clientY);
    });
    stage.addEventListener("dblclick", (event) => {
      if (this.scale > 1) this.reset();
      else this.by(2.5, event.clientX, event.clientY);
    });
    stage.addEventListener("pointerdown", (event) => this.press(event));
    stage.addEventListener("pointermove", (event) => this.move(event));
    for (const name of ["pointerup", "pointercancel"]) {
      stage.addEventListener(name, (event) => this.lift(/** @type {PointerEvent} */ (event)));
    }
    this.reset();
  }

  reset() {
    this.scale = 1;
    this.x = 0;
    this.y = 0;
    this.show();
  }

  /** @param {number} direction */
  step(direction) {
    const box = this.stage.getBoundingClientRect();
    this.by(direction > 0 ? STEP : 1 / STEP, box.x + box.width / 2, box.y + box.height / 2);
  }

  /** The point of the image under (x, y) stays there. @param {number} factor @param {number} x @param {number} y */
  by(factor, x, y) {
    const box = this.stage.getBoundingClientRect();
    const scale = Math.min(LARGEST, Math.max(1, this.scale * factor));
    const change = scale / this.scale;
    const [fromX, fromY] = [x - box.x - box.width / 2, y - box.y - box.height / 2];
    this.x = fromX - change * (fromX - this.x);
    this.y = fromY - change * (fromY - this.y);
    this.scale = scale;
    this.show();
  }

  show() {
    const { clientWidth: width, clientHeight: height } = this.stage;
    const farX = Math.max(0, (this.image.clientWidth * this.scale - width) / 2);
    const farY = Math.max(0, (this.image.clientHeight * this.scale - height) / 2);
    this.x = Math.min(farX, Math.max(-farX, this.x));
    this.y = Math.min(farY, Math.max(-farY, this.y));
    this.image.style.transform = `translate(${this.x}px, ${this.y}px) scale(${this.scale})`;
    this.stage.classList.toggle("enlarged", this.scale > 1);
  }

  /** @param {PointerEvent} event */
  press(event) {
    if (event.button) return;
    this.stage.setPointerCapture(event.pointerId);
    this.down.set(event.pointerId, { x: event.clientX, y: event.clientY });
    this.start = { x: event.clientX, y: event.clientY };
  }

  /** @param {PointerEvent} event */
  move(event) {
    const before = this.down.get(event.pointerId);
    if (!before) return;
    const now = { x: event.clientX, y: event.clientY };
    const other = [...this.down].find(([id]) => id !== event.pointerId)?.[1];
    this.down.set(event.pointerId, now);
    if (other) {
      const apart = (point) => Math.hypot(point.x - other.x, point.y - other.y) || 1;
      this.by(apart(now) / apart(before), (now.x + other.x) / 2, (now.y + other.y) / 2);
      this.start = undefined;
    } else if (this.scale > 1) {
      this.x += now.x - before.x;
      this.y += now.y - before.y;
      this.show();
    }
  }

  /** @param {PointerEvent} event */
  lift(event) {
    const far = this.start && event.type === "pointerup" ? event.clientX - this.start.x : 0;
    this.down.delete(event.pointerId);
    if (this.scale === 1 && event.pointerType === "touch" && Math.abs(far) > SWIPE) this.onswipe(far < 0 ? 1 : -1);
    this.start = undefined;
  }
}
