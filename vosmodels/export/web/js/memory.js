/**
 * The frames that each slot remembers, as the step graph takes them: `Memory` of runner.py.
 *
 * key (N, T, P, C_k), value (N, T, P, C_v), bias (N, T): 0 for a frame that the slot remembers,
 * `hidden` for a place without one. The first frame of a slot stays. Every `every`-th later frame
 * stays too, the oldest of them making room; with `last` the latest frame stands beside them until
 * the next.
 */
export class Memory {
  /** key, value: shapes of four numbers. */
  constructor(key, value, { every, last, hidden }) {
    const [slots, most, positions] = key;
    this.slots = slots;
    this.most = most;
    this.keyRow = positions * key[3];
    this.valueRow = positions * value[3];
    this.key = new Float32Array(slots * most * this.keyRow);
    this.value = new Float32Array(slots * most * this.valueRow);
    this.bias = new Float32Array(slots * most).fill(hidden);
    this._every = every;
    this._last = last;
    this._hidden = hidden;
    this._places = Array.from({ length: slots }, () => []); // of a slot, oldest first
    this._age = 0; // frames since the last that stays
    this._passing = false; // the newest frame of every slot goes when the next comes
  }

  /** Empty a slot. */
  forget(slot) {
    this._places[slot] = [];
    this.bias.fill(this._hidden, slot * this.most, (slot + 1) * this.most);
  }

  /** Keep a frame whose masks were given: key (P, C_k), value (N, P, C_v). */
  given(key, value, slots) {
    this._put(key, value, slots);
    this._age = 0;
    this._passing = false;
  }

  /** Keep a frame whose masks were predicted, if it is due. */
  predicted(key, value, slots) {
    const passing = this._age + 1 < this._every;
    if ((passing && !this._last) || this.most === 1) {
      this._age += 1;
      return;
    }
    this._put(key, value, slots);
    this._age = passing ? this._age + 1 : 0;
    this._passing = passing;
  }

  _put(key, value, slots) {
    for (const slot of slots) {
      let staying = this._passing ? this._places[slot].slice(0, -1) : this._places[slot];
      if (staying.length === this.most) {
        // the first stays, the second makes room
        staying = [...(this.most > 1 ? staying.slice(0, 1) : []), ...staying.slice(2)];
      }
      let place = 0;
      while (staying.includes(place)) place += 1;
      this._places[slot] = [...staying, place];
      const at = slot * this.most + place;
      this.key.set(key, at * this.keyRow);
      const own = value.subarray(slot * this.valueRow, (slot + 1) * this.valueRow);
      this.value.set(own, at * this.valueRow);
      this.bias.fill(this._hidden, slot * this.most, (slot + 1) * this.most);
      for (const p of this._places[slot]) this.bias[slot * this.most + p] = 0;
    }
  }

  /** Count the frames of the slot that remembers most. */
  get frames() {
    return Math.max(...this._places.map((places) => places.length));
  }

  /** Count the bytes of keys and values, whether they are filled or not. */
  get bytes() {
    return this.key.byteLength + this.value.byteLength;
  }

  /** Copy what is remembered, for `restore`. */
  snapshot() {
    return {
      key: this.key.slice(),
      value: this.value.slice(),
      bias: this.bias.slice(),
      places: this._places.map((places) => [...places]),
      age: this._age,
      passing: this._passing,
    };
  }

  /** Remember again what `snapshot` copied. */
  restore(state) {
    this.key.set(state.key);
    this.value.set(state.value);
    this.bias.set(state.bias);
    this._places = state.places.map((places) => [...places]);
    this._age = state.age;
    this._passing = state.passing;
  }
}
