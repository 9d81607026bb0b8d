import { pack, unpack } from "./runs.js";

const MOST = 60; // steps back

/**
 * The masks of one frame while a person paints: ids of the video's own size.
 *
 * `touched` holds the objects that were painted or lost pixels to the eraser; these alone are given
 * to the network, the others stay predicted.
 */
export class Editor {
  constructor(width, height, ids = null, touched = []) {
    this.width = width;
    this.height = height;
    this.ids = ids ?? new Uint8Array(width * height);
    this.touched = new Set(touched);
    this._before = [];
  }

  /** Remember the masks before a change, for `undo`. */
  mark() {
    this._before.push([pack(this.ids), [...this.touched]]);
    if (this._before.length > MOST) this._before.shift();
  }

  /** Take the last change back; say whether there was one. */
  undo() {
    const before = this._before.pop();
    if (!before) return false;
    this.ids = unpack(before[0], this.ids.length);
    this.touched = new Set(before[1]);
    return true;
  }

  /** Paint `id` (0 erases) along a line, `radius` pixels to each side. */
  stroke(from, to, radius, id) {
    const r = Math.max(0.5, radius);
    const [left, right] = [Math.min(from.x, to.x) - r, Math.max(from.x, to.x) + r];
    const [top, bottom] = [Math.min(from.y, to.y) - r, Math.max(from.y, to.y) + r];
    const along = { x: to.x - from.x, y: to.y - from.y };
    const length = along.x ** 2 + along.y ** 2 || 1;
    this._fill(left, top, right, bottom, id, (x, y) => {
      const share = ((x - from.x) * along.x + (y - from.y) * along.y) / length;
      const t = Math.min(1, Math.max(0, share));
      return (x - from.x - t * along.x) ** 2 + (y - from.y - t * along.y) ** 2 <= r * r;
    });
  }

  /** Fill the box between two corners with `id`. */
  box(from, to, id) {
    const [left, right] = [Math.min(from.x, to.x), Math.max(from.x, to.x)];
    const [top, bottom] = [Math.min(from.y, to.y), Math.max(from.y, to.y)];
    this._fill(left, top, right, bottom, id, () => true);
  }

  /** Take every pixel of an object away; of all objects without an id. */
  clear(id = null) {
    for (let p = 0; p < this.ids.length; p += 1) {
      if (this.ids[p] && (id === null || this.ids[p] === id)) {
        this.touched.add(this.ids[p]);
        this.ids[p] = 0;
      }
    }
  }

  _fill(left, top, right, bottom, id, inside) {
    const x1 = Math.min(this.width, Math.ceil(right));
    const y1 = Math.min(this.height, Math.ceil(bottom));
    for (let y = Math.max(0, Math.floor(top)); y < y1; y += 1) {
      for (let x = Math.max(0, Math.floor(left)); x < x1; x += 1) {
        const p = y * this.width + x;
        if (this.ids[p] === id || !inside(x + 0.5, y + 0.5)) continue;
        if (!id) this.touched.add(this.ids[p]);
        else this.touched.add(id);
        this.ids[p] = id;
      }
    }
  }

  /** Return what is given to the network: the pixels of touched objects, and who has none left. */
  given() {
    const ids = this.ids.map((id) => (this.touched.has(id) ? id : 0));
    const there = new Set(ids);
    return { ids, gone: [...this.touched].filter((id) => !there.has(id)) };
  }
}
