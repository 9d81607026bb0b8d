/**
 * States of a runner before some frames of a video, so that a video is not run again from its start
 * after a correction. Where they take more than `budget` bytes every second one goes.
 */
export class History {
  constructor(budget = 192 * 2 ** 20) {
    this._budget = budget;
    this._states = new Map(); // frame number -> {state, bytes}
    this._apart = 1; // frames between states
  }

  /** Forget every state. */
  clear() {
    this._states.clear();
    this._apart = 1;
  }

  /** Say whether the state before frame `number` is to be kept. */
  wants(number) {
    return number % this._apart === 0 && !this._states.has(number);
  }

  /** Keep the state before frame `number`. */
  add(number, state, bytes) {
    this._states.set(number, { state, bytes });
    while (this.bytes > this._budget && this._states.size > 1) {
      this._apart *= 2;
      for (const key of [...this._states.keys()]) {
        if (key % this._apart) this._states.delete(key);
      }
      if (this._states.size === 1) break;
    }
  }

  /** Return [number, state] of the latest state before frame `number` or earlier, or null. */
  before(number) {
    const numbers = [...this._states.keys()].filter((n) => n <= number);
    if (!numbers.length) return null;
    const latest = Math.max(...numbers);
    return [latest, this._states.get(latest).state];
  }

  /** Forget the states that depend on frame `number`. */
  cut(number) {
    for (const key of [...this._states.keys()]) if (key > number) this._states.delete(key);
  }

  /** Count the bytes of all states. */
  get bytes() {
    return [...this._states.values()].reduce((sum, { bytes }) => sum + bytes, 0);
  }
}
