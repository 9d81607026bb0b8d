import { PALETTE } from "./colours.js";
import { crc32 } from "./crc.js";

const SIGNATURE = Uint8Array.of(137, 80, 78, 71, 13, 10, 26, 10);

/** Write ids (Uint8Array, height x width) as a PNG with DAVIS' palette. */
export async function palettePng(ids, width, height) {
  const rows = new Uint8Array(height * (width + 1)); // each row begins with its filter, 0
  for (let y = 0; y < height; y += 1) {
    rows.set(ids.subarray(y * width, (y + 1) * width), y * (width + 1) + 1);
  }
  const head = new Uint8Array(13);
  const view = new DataView(head.buffer);
  view.setUint32(0, width);
  view.setUint32(4, height);
  head.set([8, 3, 0, 0, 0], 8); // 8 bits, palette, deflate, filters by row, not interlaced
  return joined([
    SIGNATURE,
    chunk("IHDR", head),
    chunk("PLTE", Uint8Array.from(PALETTE.flat())),
    chunk("IDAT", await deflate(rows)),
    chunk("IEND", new Uint8Array()),
  ]);
}

/** Put arrays of bytes one after another. */
export function joined(parts) {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let place = 0;
  for (const part of parts) {
    bytes.set(part, place);
    place += part.length;
  }
  return bytes;
}

function chunk(name, data) {
  const bytes = new Uint8Array(12 + data.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, data.length);
  bytes.set([...name].map((letter) => letter.charCodeAt(0)), 4);
  bytes.set(data, 8);
  view.setUint32(8 + data.length, crc32(bytes.subarray(4, 8 + data.length)));
  return bytes;
}

/** Pack bytes as a zlib stream, stored where the browser has no CompressionStream. */
async function deflate(bytes) {
  if (typeof CompressionStream === "undefined") return stored(bytes);
  const stream = new Blob([bytes]).stream().pipeThrough(new CompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** Wrap bytes as a zlib stream of blocks that are not compressed. */
export function stored(bytes) {
  const most = 65535;
  const parts = [Uint8Array.of(0x78, 0x01)];
  for (let start = 0; start < bytes.length || start === 0; start += most) {
    const block = bytes.subarray(start, start + most);
    const final = start + most >= bytes.length ? 1 : 0;
    const size = [block.length & 255, block.length >> 8];
    parts.push(Uint8Array.of(final, ...size, ...size.map((byte) => byte ^ 255)), block);
  }
  let a = 1;
  let b = 0;
  for (const byte of bytes) {
    a = (a + byte) % 65521;
    b = (b + a) % 65521;
  }
  parts.push(Uint8Array.of(b >> 8, b & 255, a >> 8, a & 255));
  return joined(parts);
}
