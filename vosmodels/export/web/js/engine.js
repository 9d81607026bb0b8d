import { Told } from "./told.js";

/** A module of WebAssembly with one instruction of its SIMD part. */
const SIMD = Uint8Array.of(
  0, 97, 115, 109, 1, 0, 0, 0, // the head
  1, 5, 1, 96, 0, 1, 123, // a function without arguments that returns a vector
  3, 2, 1, 0, // the first function is of that kind
  10, 8, 1, 6, 0, 65, 0, 253, 15, 11, // and spreads 0 over a vector
);

/** Throw what a person is told where this browser cannot run the graphs. */
export function checkBrowser() {
  if (typeof WebAssembly !== "object" || !WebAssembly.validate(SIMD)) {
    throw new Told(
      "This browser has no WebAssembly with SIMD, which the network needs: use a recent Chrome, "
        + "Edge, Firefox or Safari.",
    );
  }
}

/** The worker's calls as promises; an error in it is a `Told` here. */
export class Engine {
  constructor() {
    this._waiting = new Map();
    this._count = 0;
    this._worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
    this._worker.onmessage = ({ data: { id, result, error } }) => {
      const { resolve, reject } = this._waiting.get(id);
      this._waiting.delete(id);
      if (error) reject(new Told(error));
      else resolve(result);
    };
    this._worker.onerror = (event) => {
      event.preventDefault();
      const told = new Told("A script of the page cannot be loaded: export the page again.");
      for (const { reject } of this._waiting.values()) reject(told);
      this._waiting.clear();
    };
  }

  /** Ask the worker for something; arrays in `moved` are handed over. */
  call(call, options = {}, moved = []) {
    this._count += 1;
    const id = this._count;
    return new Promise((resolve, reject) => {
      this._waiting.set(id, { resolve, reject });
      this._worker.postMessage({ id, call, ...options }, moved);
    });
  }
}
