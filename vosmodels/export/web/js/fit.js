import { best } from "./tracker.js";

/**
 * Say where a picture lies in a frame of another size: as large as fits, in the middle.
 *
 * own: {width, height} of the picture, frame: {width, height} of the graphs' frame.
 */
export function fit(own, frame) {
  const scale = Math.min(frame.width / own.width, frame.height / own.height);
  const width = Math.max(1, Math.min(frame.width, Math.round(own.width * scale)));
  const height = Math.max(1, Math.min(frame.height, Math.round(own.height * scale)));
  return {
    own: { width: own.width, height: own.height },
    frame: { width: frame.width, height: frame.height },
    left: Math.floor((frame.width - width) / 2),
    top: Math.floor((frame.height - height) / 2),
    width,
    height,
  };
}

/** Turn pixels of a canvas, RGBA bytes, into a frame (3, H, W) in [0, 1]. */
export function frameOf(rgba) {
  const pixels = rgba.length / 4;
  const frame = new Float32Array(3 * pixels);
  for (let p = 0; p < pixels; p += 1) {
    for (let c = 0; c < 3; c += 1) frame[c * pixels + p] = rgba[4 * p + c] / 255;
  }
  return frame;
}

/** Scale a mask of the picture's own size to the frame's; every object keeps a pixel. */
export function shrink(ids, place) {
  const { own, frame, left, top, width, height } = place;
  const small = new Uint8Array(frame.width * frame.height);
  for (let y = 0; y < height; y += 1) {
    const row = Math.min(own.height - 1, Math.floor(((y + 0.5) * own.height) / height));
    for (let x = 0; x < width; x += 1) {
      const column = Math.min(own.width - 1, Math.floor(((x + 0.5) * own.width) / width));
      small[(y + top) * frame.width + x + left] = ids[row * own.width + column];
    }
  }
  const kept = new Set(small);
  for (const id of new Set(ids)) {
    if (kept.has(id)) continue;
    const at = ids.indexOf(id);
    const y = Math.min(height - 1, Math.floor((Math.floor(at / own.width) * height) / own.height));
    const x = Math.min(width - 1, Math.floor(((at % own.width) * width) / own.width));
    small[(y + top) * frame.width + x + left] = id;
  }
  return small;
}

/**
 * Scale probabilities (K, H, W) of a frame to the picture's own size, bilinearly, and return the
 * channel of the largest of each pixel.
 */
export function enlarge(probabilities, channels, place) {
  const { own, frame, left, top, width, height } = place;
  if (width === own.width && height === own.height && width === frame.width
    && height === frame.height) {
    return best(probabilities, width * height);
  }
  const columns = steps(own.width, width, left);
  const rows = steps(own.height, height, top);
  const found = new Uint8Array(own.width * own.height);
  const plane = frame.width * frame.height;
  for (let y = 0; y < own.height; y += 1) {
    const { low, high, share: down } = rows[y];
    for (let x = 0; x < own.width; x += 1) {
      const column = columns[x];
      const right = column.share;
      let highest = -1;
      for (let c = 0; c < channels; c += 1) {
        const upper = c * plane + low * frame.width;
        const lower = c * plane + high * frame.width;
        const above = probabilities[upper + column.low] * (1 - right)
          + probabilities[upper + column.high] * right;
        const below = probabilities[lower + column.low] * (1 - right)
          + probabilities[lower + column.high] * right;
        const value = above * (1 - down) + below * down;
        if (value > highest) {
          highest = value;
          found[y * own.width + x] = c;
        }
      }
    }
  }
  return found;
}

/** Give each of `many` places its two neighbours among `few`, and the share of the second. */
function steps(many, few, offset) {
  return Array.from({ length: many }, (_, place) => {
    const at = Math.min(few - 1, Math.max(0, ((place + 0.5) * few) / many - 0.5));
    const low = Math.floor(at);
    const high = Math.min(few - 1, low + 1);
    return { low: low + offset, high: high + offset, share: at - low };
  });
}

/** Give the objects of a mask exactly its pixels in `ids`, both of the picture's own size. */
export function impose(ids, mask) {
  const given = new Set(mask);
  return ids.map((id, p) => mask[p] || (given.has(id) ? 0 : id));
}
