/**
 * Open the frames of a clip of this folder, of a video file, or of the camera.
 *
 * A source has title, width, height, rate (frames a second), count (frames, perhaps more to come),
 * frame(number) by promise, given (number -> ids), expected (number -> ids by promise, or null).
 */
import { idsOf } from "./colours.js";
import { bytesOf } from "./graphs.js";
import { Told } from "./told.js";

const RATE = 25; // where a video does not show its own
const MOST = 1800; // frames of the camera that are kept

/** Open a clip that lies beside the page; clip: its entry in page.json. */
export async function openClip(clip) {
  const picture = (folder, number, suffix) =>
    pictureOf(`${folder}/${String(number).padStart(5, "0")}.${suffix}`);
  const first = await picture(clip.frames, 0, clip.suffix);
  const ids = async (folder, number) => idsOf(pixelsOf(await picture(folder, number, "png")));
  const given = new Map();
  for (const number of clip.given_in) given.set(number, await ids(clip.given, number));
  const { width, height } = first;
  first.close();
  return {
    title: clip.name,
    width,
    height,
    rate: clip.rate,
    count: clip.count,
    given,
    frame: (number) => picture(clip.frames, number, clip.suffix),
    expected: clip.expected ? (number) => ids(clip.expected, number) : null,
    close() {},
  };
}

async function pictureOf(name) {
  const bytes = await bytesOf(new URL(name, document.baseURI), name);
  try {
    return await createImageBitmap(new Blob([bytes]), { colorSpaceConversion: "none" });
  } catch {
    throw new Told(`${name} is damaged: export the page again.`);
  }
}

function pixelsOf(picture) {
  const canvas = document.createElement("canvas");
  canvas.width = picture.width;
  canvas.height = picture.height;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(picture, 0, 0);
  return context.getImageData(0, 0, canvas.width, canvas.height).data;
}

/** Open a video file; its frames are found by seeking. */
export async function openFilm(file) {
  const video = Object.assign(document.createElement("video"), {
    muted: true, playsInline: true, preload: "auto", src: URL.createObjectURL(file),
  });
  const close = () => {
    URL.revokeObjectURL(video.src);
    video.removeAttribute("src");
    video.load();
  };
  try {
    await event(video, "loadeddata");
    if (!video.videoWidth) throw new Error("no pictures");
    if (!Number.isFinite(video.duration)) await seek(video, 1e7); // recorded: it says no length
    const length = Number.isFinite(video.duration) ? video.duration : video.currentTime;
    const rate = await rateOf(video);
    const count = Math.max(1, Math.round(length * rate));
    return {
      title: file.name.replace(/\.[^.]*$/, "") || "video",
      width: video.videoWidth,
      height: video.videoHeight,
      rate,
      count,
      given: new Map(),
      expected: null,
      async frame(number) {
        await seek(video, Math.min(length, (number + 0.5) / rate));
        return video;
      },
      close,
    };
  } catch {
    close();
    throw new Told(
      `This browser cannot decode ${file.name}. Videos as MP4 (H.264) or WebM work in most `
        + "browsers: convert it, or take another.",
    );
  }
}

function event(target, name) {
  return new Promise((resolve, reject) => {
    target.addEventListener(name, resolve, { once: true });
    target.addEventListener("error", () => reject(new Error("not decoded")), { once: true });
  });
}

async function seek(video, time) {
  const done = event(video, "seeked");
  video.currentTime = time;
  await done;
}

/** Play a moment of a video and measure the time between its frames. */
async function rateOf(video) {
  if (!video.requestVideoFrameCallback) return RATE;
  await seek(video, 0);
  const times = [];
  const watch = (_, { mediaTime }) => {
    times.push(mediaTime);
    if (times.length < 9) video.requestVideoFrameCallback(watch);
  };
  video.requestVideoFrameCallback(watch);
  try {
    await video.play();
    for (let waited = 0; times.length < 9 && waited < 1500 && !video.ended; waited += 50) {
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  } catch {
    return RATE; // the browser plays nothing that was not started by hand
  } finally {
    video.pause();
  }
  const steps = times.slice(1).map((time, k) => time - times[k]).filter((step) => step > 1e-3);
  if (!steps.length) return RATE;
  const rate = 1 / Math.min(...steps); // a busy browser skips frames: the least step is one frame
  return Math.abs(rate - Math.round(rate)) < 0.2 ? Math.round(rate) : rate;
}

/** Ask for the camera and show it in a video element. */
export async function openCamera(video) {
  if (!navigator.mediaDevices?.getUserMedia) {
    throw new Told(
      "The browser gives the camera to pages at https:// or on this machine (127.0.0.1) only. "
        + "Take a video file instead.",
    );
  }
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({
      video: { width: { ideal: 640 }, facingMode: "environment" },
    });
  } catch (error) {
    throw new Told(
      error.name === "NotAllowedError"
        ? "The camera was refused: allow it for this page in the browser, or take a video file."
        : "No camera was found: plug one in, or take a video file.",
    );
  }
  video.srcObject = stream;
  await video.play();
  return stream;
}

/** Make a source of a camera that is shown in `video`; its first frame is what it shows now. */
export async function fromCamera(video, stream) {
  const blobs = [];
  const canvas = document.createElement("canvas");
  canvas.width = video.videoWidth;
  canvas.height = video.videoHeight;
  const source = {
    title: "camera",
    width: canvas.width,
    height: canvas.height,
    rate: 15,
    live: true,
    count: MOST,
    given: new Map(),
    expected: null,
    get stored() {
      return blobs.length;
    },
    async frame(number) {
      while (blobs.length <= number) {
        canvas.getContext("2d").drawImage(video, 0, 0);
        blobs.push(await new Promise((done) => canvas.toBlob(done, "image/jpeg", 0.92)));
      }
      return createImageBitmap(blobs[number]);
    },
    close() {
      for (const track of stream.getTracks()) track.stop();
      if (video.srcObject === stream) video.srcObject = null;
    },
  };
  await source.frame(0);
  return source;
}
