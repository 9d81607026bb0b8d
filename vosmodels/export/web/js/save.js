import { palettePng } from "./png.js";
import { Told } from "./told.js";
import { overlay } from "./view.js";
import { zip } from "./zip.js";

const KINDS = [
  "video/mp4;codecs=avc1", "video/webm;codecs=vp9", "video/webm;codecs=vp8", "video/webm",
];

/** Return the kind of film that this browser records, or null. */
export function filmKind() {
  if (typeof MediaRecorder === "undefined") return null;
  if (!HTMLCanvasElement.prototype.captureStream) return null;
  return KINDS.find((kind) => MediaRecorder.isTypeSupported(kind)) ?? null;
}

/** Pack the masks of a project as DAVIS lays them out: NAME/00000.png and so on. */
export async function masksZip(project, source) {
  const files = [];
  for (let number = 0; number < project.length; number += 1) {
    const png = await palettePng(project.mask(number), source.width, source.height);
    files.push([`${source.title}/${String(number).padStart(5, "0")}.png`, png]);
  }
  return new Blob([zip(files)], { type: "application/zip" });
}

/** Record frames with their masks, which takes as long as the video plays. */
export async function overlayFilm(project, source, kind, told) {
  const canvas = document.createElement("canvas");
  canvas.width = source.width + (source.width % 2); // H.264 wants even sizes
  canvas.height = source.height + (source.height % 2);
  const context = canvas.getContext("2d");
  const layer = Object.assign(document.createElement("canvas"), {
    width: source.width, height: source.height,
  });
  const recorder = new MediaRecorder(canvas.captureStream(source.rate), {
    mimeType: kind, videoBitsPerSecond: 8e6,
  });
  const parts = [];
  recorder.ondataavailable = ({ data }) => parts.push(data);
  const ended = new Promise((resolve, reject) => {
    recorder.onstop = resolve;
    recorder.onerror = () => reject(new Told("The browser could not record the film."));
  });
  for (let number = 0; number < project.length; number += 1) {
    const due = performance.now() + 1000 / source.rate;
    const picture = await source.frame(number);
    const mask = project.mask(number);
    if (!mask) break; // painted meanwhile
    context.drawImage(picture, 0, 0, source.width, source.height);
    picture.close?.();
    const image = overlay(mask, source.width, source.height);
    layer.getContext("2d").putImageData(image, 0, 0);
    context.drawImage(layer, 0, 0);
    if (!number) recorder.start();
    told(number + 1);
    await new Promise((done) => setTimeout(done, Math.max(0, due - performance.now())));
  }
  if (recorder.state === "inactive") return null;
  recorder.stop();
  await ended;
  return new Blob(parts, { type: kind.split(";")[0] });
}

/** Hand a file to the person. */
export function download(blob, name) {
  const link = Object.assign(document.createElement("a"), {
    href: URL.createObjectURL(blob), download: name,
  });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
