import { pack, unpack } from "./runs.js";

/**
 * A video's given masks and the masks that follow from them.
 *
 * given: by frame number the pixels of the objects that a person painted there, and the ids that
 * end there. Masks are kept for frames 0, 1, ... without a gap; a change of what is given in a
 * frame takes away those of this frame and of all later ones.
 */
export class Project {
  constructor(pixels) {
    this.pixels = pixels;
    this.version = 0; // rises with every change of what is given
    this._given = new Map(); // number -> {runs, gone}
    this._masks = [];
  }

  /** Give masks in a frame: ids, and those that end there; nothing of both takes it back. */
  give(number, ids, gone = []) {
    if (ids.some((id) => id) || gone.length) {
      this._given.set(number, { runs: pack(ids), gone: [...gone] });
    } else {
      this._given.delete(number);
    }
    this.version += 1;
    this._masks.length = Math.min(this._masks.length, number);
  }

  /** Return {ids, gone} as given in a frame, or null. */
  given(number) {
    const found = this._given.get(number);
    return found ? { ids: unpack(found.runs, this.pixels), gone: found.gone } : null;
  }

  /** The frames in which something is given, in their order. */
  get numbers() {
    return [...this._given.keys()].sort((a, b) => a - b);
  }

  /** Say whether an object is given, or ends, in a frame. */
  names(number, id) {
    const { runs, gone } = this._given.get(number);
    return gone.includes(id) || runs.some((value, k) => k % 2 === 0 && value === id);
  }

  /** Return the first frame in which an object is painted, or null. */
  get first() {
    const painted = [...this._given].filter(([, { runs }]) => runs.length > 2 || runs[0]);
    return painted.length ? Math.min(...painted.map(([number]) => number)) : null;
  }

  /** Return the ids that are followed after frame `number`, in rising order. */
  alive(number) {
    const ids = new Set();
    for (const n of this.numbers.filter((other) => other <= number)) {
      const { runs, gone } = this._given.get(n);
      for (let k = 0; k < runs.length; k += 2) if (runs[k]) ids.add(runs[k]);
      for (const id of gone) ids.delete(id);
    }
    return [...ids].sort((a, b) => a - b);
  }

  /** How many frames have masks. */
  get length() {
    return this._masks.length;
  }

  /** Keep the mask of the next frame. */
  push(ids) {
    this._masks.push(pack(ids));
  }

  /** Return the mask of a frame, or null. */
  mask(number) {
    return number < this._masks.length ? unpack(this._masks[number], this.pixels) : null;
  }

  /** Count the bytes that masks take here. */
  get bytes() {
    return this._masks.reduce((sum, runs) => sum + runs.byteLength, 0);
  }
}
