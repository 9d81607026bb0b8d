/** Choose what the graphs run on, WebGPU or WebAssembly, and load that part of ONNX Runtime Web. */
import { bytesOf } from "./graphs.js";
import { Told } from "./told.js";

const WEBASSEMBLY = {
  name: "wasm", title: "WebAssembly", module: "runtime/ort.js", binary: "runtime/ort.wasm",
};
const WEBGPU = {
  name: "webgpu", title: "WebGPU", module: "runtime/ort-gpu.js", binary: "runtime/ort-gpu.wasm",
};

/**
 * Return the runtimes to try, best first: WebGPU where the browser has a graphics chip for it.
 *
 * wanted: "wasm" or "webgpu", also one that is computed in software; else the browser decides.
 */
export async function runtimes(wanted, gpu = globalThis.navigator?.gpu) {
  if (wanted === WEBASSEMBLY.name || !gpu) return [WEBASSEMBLY];
  const adapter = await gpu.requestAdapter().catch(() => null);
  const software = adapter?.info?.isFallbackAdapter ?? adapter?.isFallbackAdapter;
  if (!adapter || (software && wanted !== WEBGPU.name)) return [WEBASSEMBLY];
  return [WEBGPU, WEBASSEMBLY];
}

/** Load a runtime of this page's folder. */
export async function load(base, { module, binary }) {
  const ort = await import(new URL(module, base)).catch(() => {
    throw new Told(`${module} cannot be loaded: export the page again.`);
  });
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmBinary = (await bytesOf(new URL(binary, base), binary)).buffer;
  return ort;
}

/** Call `open` with each runtime in turn until one works; return its result and the runtime. */
export async function firstThatOpens(candidates, open) {
  for (const [index, runtime] of candidates.entries()) {
    try {
      return [await open(runtime), runtime];
    } catch (error) {
      if (index === candidates.length - 1) throw error;
    }
  }
  throw new Error("no runtime to try");
}
