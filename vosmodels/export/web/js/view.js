import { shown } from "./colours.js";

const STRENGTH = 0.5; // of the colour over an object's pixels

/** Colour the pixels of objects for a picture of ids; contours are opaque. */
export function overlay(ids, width, height) {
  const image = new ImageData(width, height);
  const { data } = image;
  const seam = Math.max(1, Math.round(Math.min(width, height) / 240));
  for (let y = 0, p = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1, p += 1) {
      const id = ids[p];
      if (!id) continue;
      const edge = (x >= seam && ids[p - seam] !== id) || (x < width - seam && ids[p + seam] !== id)
        || (y >= seam && ids[p - seam * width] !== id)
        || (y < height - seam && ids[p + seam * width] !== id);
      data.set(shown(id), 4 * p);
      data[4 * p + 3] = edge ? 255 : 255 * STRENGTH;
    }
  }
  return image;
}

/** The two canvases of the stage, of the video's own size: the frame, and the masks over it. */
export class View {
  constructor(frame, masks) {
    this.frame = frame.getContext("2d");
    this.masks = masks.getContext("2d");
  }

  /** Take the size of a video. */
  size(width, height) {
    for (const { canvas } of [this.frame, this.masks]) Object.assign(canvas, { width, height });
  }

  /** Draw a frame. */
  picture(picture) {
    const { width, height } = this.frame.canvas;
    this.frame.drawImage(picture, 0, 0, width, height);
  }

  /** Draw masks over the frame; box: {from, to} that is being drawn. */
  ids(ids, box = null) {
    const { width, height } = this.masks.canvas;
    this.masks.clearRect(0, 0, width, height);
    if (ids) this.masks.putImageData(overlay(ids, width, height), 0, 0);
    if (!box) return;
    this.masks.lineWidth = Math.max(1, width / 300);
    this.masks.strokeStyle = "white";
    this.masks.setLineDash([6 * this.masks.lineWidth, 4 * this.masks.lineWidth]);
    const { from, to } = box;
    this.masks.strokeRect(from.x, from.y, to.x - from.x, to.y - from.y);
  }

  /** Return the pixel of the video under the pointer. */
  point({ clientX, clientY }) {
    const box = this.masks.canvas.getBoundingClientRect();
    return {
      x: ((clientX - box.left) * this.masks.canvas.width) / box.width,
      y: ((clientY - box.top) * this.masks.canvas.height) / box.height,
    };
  }
}
