/** The 256 colours of DAVIS' masks, as [red, green, blue] by id. */
export const PALETTE = Array.from({ length: 256 }, (_, id) => {
  const colour = [0, 0, 0];
  for (let bit = 0; bit < 8; bit += 1) {
    // bits 0, 1, 2 go to red, green, blue, the most significant bit of the colour first
    colour[bit % 3] |= ((id >> bit) & 1) << (7 - Math.floor(bit / 3));
  }
  return colour;
});

/** Colours that stand out on video, for the objects on the page. */
const SHOWN = [
  [240, 82, 82], [56, 168, 255], [250, 190, 50], [64, 200, 120], [200, 110, 240], [255, 130, 60],
  [40, 205, 205], [245, 120, 180],
];

/** Return the colour in which the page shows an object. */
export function shown(id) {
  return SHOWN[(id - 1) % SHOWN.length];
}

/** Turn pixels of a palette picture, RGBA bytes, back into ids. */
export function idsOf(rgba) {
  const ids = new Map(PALETTE.map(([r, g, b], id) => [(r << 16) | (g << 8) | b, id]));
  const found = new Uint8Array(rgba.length / 4);
  for (let p = 0; p < found.length; p += 1) {
    found[p] = ids.get((rgba[4 * p] << 16) | (rgba[4 * p + 1] << 8) | rgba[4 * p + 2]) ?? 0;
  }
  return found;
}
