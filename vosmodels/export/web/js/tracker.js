import { Memory } from "./memory.js";
import { Told } from "./told.js";

/**
 * Follow the objects of one video at a time: `Runner` of runner.py, with the same names.
 *
 * sidecar: student.json, read. begin, step: functions from named arrays to named arrays, by
 * promise. Frames are Float32Array (3, H, W) in [0, 1], masks Uint8Array (H, W) of ids 1..255.
 * A step that throws changes nothing.
 */
export class Runner {
  constructor(sidecar, begin, step) {
    const { frame, memory, graphs } = sidecar;
    this.size = [frame.height, frame.width];
    this.pixels = frame.height * frame.width;
    this.objects = sidecar.objects;
    this._memoryShapes = ["memory_key", "memory_value"].map((name) => graphs.step.inputs[name]);
    this._rule = { every: memory.every, last: memory.last, hidden: memory.hidden };
    this._begin = begin;
    this._step = step;
    this.reset();
  }

  /** Forget the video: the next frame is the first of another video. */
  reset() {
    this.memory = new Memory(...this._memoryShapes, this._rule);
    this._slots = new Map(); // id -> slot from 0
    this._used = []; // slots that the network follows, those of removed objects too
    this.probabilities = null; // (1 + ids.length, H, W) of the latest frame, background first
  }

  /** The ids of the objects, in the order of the channels of `probabilities`. */
  get ids() {
    return [...this._slots.keys()];
  }

  /** Remove an object: its pixels are background from the next frame on. */
  remove(id) {
    if (!this._slots.has(id)) throw new Told(`Object ${id} is not followed.`);
    this._slots.delete(id);
  }

  /** Segment a frame and return its ids (H, W); a mask: as `Runner.step` of runner.py takes it. */
  async step(frame, mask = null) {
    if (frame.length !== 3 * this.pixels) {
      throw new Told(`A frame of ${frame.length} numbers: this takes ${3 * this.pixels}.`);
    }
    if (mask) return this._given(frame, mask);
    if (!this._used.length) throw new Told("No object is painted: paint one on the first frame.");
    const { probabilities, key, value } = await this._predicted(frame);
    this.memory.predicted(key, value, this._used);
    return this._accept(probabilities);
  }

  async _given(frame, mask) {
    const ids = [...new Set(mask)].filter((id) => id).sort((a, b) => a - b);
    if (!ids.length) throw new Told("No object is painted in this frame.");
    const slots = new Map(this._slots);
    const used = [...this._used];
    for (const id of ids) {
      if (slots.has(id)) continue;
      const slot = this._freeSlot(slots, used);
      slots.set(id, slot);
      if (!used.includes(slot)) used.push(slot);
    }
    const { pixels, objects } = this;
    let maps = new Float32Array((objects + 1) * pixels);
    if (this._used.length) {
      const { probabilities } = await this._predicted(frame);
      const others = this.ids.filter((id) => !ids.includes(id)).map((id) => this._slots.get(id));
      maps = only(probabilities, others, pixels);
    } else {
      maps.fill(1, 0, pixels);
    }
    for (let p = 0; p < pixels; p += 1) {
      if (!mask[p]) continue;
      for (let c = 0; c <= objects; c += 1) maps[c * pixels + p] = 0;
      maps[(slots.get(mask[p]) + 1) * pixels + p] = 1;
    }
    const masks = new Float32Array(objects * pixels);
    best(maps, pixels).forEach((channel, p) => {
      if (channel) masks[(channel - 1) * pixels + p] = 1;
    });
    const { key, value } = await this._begin({ frame, masks });
    const before = new Set(this._slots.values());
    for (const slot of slots.values()) if (!before.has(slot)) this.memory.forget(slot);
    this._slots = slots;
    this._used = used;
    this.memory.given(key, value, used);
    return this._accept(maps);
  }

  /** Return a slot for a new object: a fresh one, else that of a removed object. */
  _freeSlot(slots, used) {
    const taken = new Set(slots.values());
    for (let slot = 0; slot < this.objects; slot += 1) {
      if (!used.includes(slot) && !taken.has(slot)) return slot;
    }
    const freed = used.find((slot) => !taken.has(slot));
    if (freed !== undefined) return freed;
    throw new Told(tooMany(this.objects));
  }

  _predicted(frame) {
    const present = new Float32Array(this.objects);
    for (const slot of this._used) present[slot] = 1;
    const { key, value, bias } = this.memory;
    return this._step({
      frame,
      memory_key: key,
      memory_value: value,
      memory_bias: bias,
      present,
    });
  }

  /** Keep the followed objects' probabilities; return the ids of the likeliest. */
  _accept(probabilities) {
    const { pixels } = this;
    const all = only(probabilities, [...this._slots.values()], pixels);
    const kept = new Float32Array((this._slots.size + 1) * pixels);
    [0, ...[...this._slots.values()].map((slot) => slot + 1)].forEach((channel, place) => {
      kept.set(all.subarray(channel * pixels, (channel + 1) * pixels), place * pixels);
    });
    this.probabilities = kept;
    const ids = [0, ...this.ids];
    return best(kept, pixels).map((channel) => ids[channel]);
  }

  /** Copy the state between two frames, for `restore`. */
  snapshot() {
    return { memory: this.memory.snapshot(), slots: [...this._slots], used: [...this._used] };
  }

  /** Return to a state that `snapshot` copied. */
  restore(state) {
    this.memory.restore(state.memory);
    this._slots = new Map(state.slots);
    this._used = [...state.used];
    this.probabilities = null;
  }
}

/** Say that there is no slot for another object. */
export function tooMany(objects) {
  const most = objects === 1 ? "1 object" : `${objects} objects`;
  return `This page follows at most ${most}. Remove one, or export again with more --objects.`;
}

/** Keep the probabilities of `slots`; those of other slots go to the background. */
function only(probabilities, slots, pixels) {
  const rest = new Float32Array(probabilities.length);
  const ground = rest.subarray(0, pixels).fill(1);
  for (const slot of slots) {
    const channel = probabilities.subarray((slot + 1) * pixels, (slot + 2) * pixels);
    rest.set(channel, (slot + 1) * pixels);
    for (let p = 0; p < pixels; p += 1) ground[p] -= channel[p];
  }
  return rest;
}

/** Return the channel of the largest number of each pixel, the first of equal ones. */
export function best(maps, pixels) {
  const channels = new Uint8Array(pixels);
  const highest = maps.slice(0, pixels);
  for (let c = 1; c * pixels < maps.length; c += 1) {
    const base = c * pixels;
    for (let p = 0; p < pixels; p += 1) {
      if (maps[base + p] > highest[p]) {
        highest[p] = maps[base + p];
        channels[p] = c;
      }
    }
  }
  return channels;
}
