/** Run the graphs apart from the page: a message {id, call, ...} is answered by one of its id. */
import { openGraph, readSidecar } from "./graphs.js";
import { enlarge, fit, frameOf, impose, shrink } from "./fit.js";
import { History } from "./history.js";
import { firstThatOpens, load, runtimes } from "./runtime.js";
import { Runner } from "./tracker.js";
import { Told } from "./told.js";

const BASE = new URL("../", import.meta.url);

const history = new History();
let runner = null;
let place = null; // where the video lies in the graphs' frame

const CALLS = {
  /** Load a runtime and the graphs; return their description and what they run on. */
  async open({ wanted }) {
    const sidecar = await readSidecar(BASE);
    const [graphs, runtime] = await firstThatOpens(await runtimes(wanted), async (candidate) => {
      const ort = await load(BASE, candidate);
      const opened = (name) => openGraph(BASE, sidecar, name, ort, candidate.name);
      return [await opened("begin"), await opened("step")];
    });
    runner = new Runner(sidecar, ...graphs);
    return { sidecar, runtime: runtime.title };
  },

  /** Begin a video of a size of its own. */
  async video({ width, height }) {
    const [rows, columns] = runner.size;
    place = fit({ width, height }, { width: columns, height: rows });
    history.clear();
    runner.reset();
    return place;
  },

  /** Forget what depends on frame `number`, as another mask is given there. */
  async cut({ number }) {
    history.cut(number);
  },

  /** Return to the latest state before frame `number` that is known; return its number, or null. */
  async rewind({ number }) {
    const found = history.before(number);
    if (found) runner.restore(found[1]);
    else runner.reset();
    return found && found[0];
  },

  /** Segment frame `number`: rgba of the graphs' size; mask of the video's own, or null. */
  async step({ number, rgba, mask, gone }) {
    const start = performance.now();
    if (runner.ids.length && history.wants(number)) {
      const state = runner.snapshot();
      history.add(number, state, runner.memory.bytes);
    }
    for (const id of gone) if (runner.ids.includes(id)) runner.remove(id);
    await runner.step(frameOf(rgba), mask && shrink(mask, place));
    const names = [0, ...runner.ids];
    const channels = enlarge(runner.probabilities, names.length, place);
    let ids = channels.map((channel) => names[channel]);
    if (mask) ids = impose(ids, mask);
    const { memory } = runner;
    return {
      ids,
      ms: performance.now() - start,
      frames: memory.frames,
      most: memory.most,
      bytes: memory.bytes + history.bytes,
    };
  },
};

let last = Promise.resolve();
self.onmessage = ({ data }) => {
  last = last.then(() => answer(data)); // one after the other
};

async function answer({ id, call, ...options }) {
  try {
    const result = await CALLS[call](options);
    self.postMessage({ id, result });
  } catch (error) {
    const message = error instanceof Told
      ? error.message
      : `The runtime failed (${error?.message ?? error}). Reload the page and try again, with `
        + "?runtime=wasm behind its address if that does not help.";
    self.postMessage({ id, error: message });
  }
}
