import { Told } from "./told.js";

const VERSION = 1; // of student.json

/** Fetch a file of this page's folder as bytes. */
export async function bytesOf(address, name) {
  let answer;
  try {
    answer = await fetch(address);
  } catch {
    throw new Told(`${name} cannot be reached: is the server still running? Then reload the page.`);
  }
  if (!answer.ok) {
    throw new Told(
      `${name} is missing from this page's folder (${answer.status}): export the page again.`,
    );
  }
  return new Uint8Array(await answer.arrayBuffer());
}

/** Fetch a file of this page's folder as what its JSON says. */
export async function jsonOf(address, name) {
  const text = new TextDecoder().decode(await bytesOf(address, name));
  try {
    return JSON.parse(text);
  } catch {
    throw new Told(`${name} is damaged: export the page again.`);
  }
}

/** Read the description of the graphs. */
export async function readSidecar(base) {
  const sidecar = await jsonOf(new URL("student.json", base), "student.json");
  if (sidecar.version !== VERSION) {
    throw new Told(
      `student.json has format version ${sidecar.version}; this page reads ${VERSION}: `
        + "export the page again.",
    );
  }
  return sidecar;
}

/**
 * Load a graph and return a function from named arrays to named arrays.
 *
 * provider: "wasm" or "webgpu", which leaves to the former what it has no kernels for.
 * A file of another size or, where the browser can compute it, another sha256 is refused.
 */
export async function openGraph(base, sidecar, name, ort, provider) {
  const graph = sidecar.graphs[name];
  const bytes = await bytesOf(new URL(graph.file, base), graph.file);
  if (bytes.length !== graph.bytes || (await sha256(bytes)) !== graph.sha256) {
    throw new Told(
      `${graph.file} is not the file that student.json describes: export the page again.`,
    );
  }
  const session = await ort.InferenceSession.create(bytes, { executionProviders: [provider] });
  return async (inputs) => {
    const feeds = {};
    for (const [key, shape] of Object.entries(graph.inputs)) {
      feeds[key] = new ort.Tensor("float32", inputs[key], shape);
    }
    const outputs = await session.run(feeds);
    return Object.fromEntries(Object.keys(graph.outputs).map((key) => [key, outputs[key].data]));
  };

  /** Without https a browser has no digests but at 127.0.0.1: there the size alone is compared. */
  async function sha256(data) {
    if (!globalThis.crypto?.subtle) return graph.sha256;
    const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", data));
    return [...digest].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  }
}
