import { crc32 } from "./crc.js";
import { joined } from "./png.js";

const DATE = 0x21; // 1980-01-01, the first that a zip file can say
const UTF8 = 0x800;
const MOST = 65535; // files; more would take another format

/** Write a zip file that stores its files as they are: files is a list of [name, bytes]. */
export function zip(files) {
  if (files.length > MOST) throw new RangeError(`${files.length} files: a zip holds ${MOST}`);
  const parts = [];
  const entries = [];
  let offset = 0;
  for (const [name, bytes] of files) {
    const label = new TextEncoder().encode(name);
    const crc = crc32(bytes);
    const facts = [20, UTF8, 0, 0, DATE]; // version, flags, stored, time, date
    const sizes = [crc, bytes.length, bytes.length];
    const local = record([0x04034b50], facts, sizes, [label.length, 0]);
    entries.push(
      record([0x02014b50], [20, ...facts], sizes, [label.length, 0, 0, 0, 0], [0, offset]),
      label,
    );
    parts.push(local, label, bytes);
    offset += local.length + label.length + bytes.length;
  }
  const directory = joined(entries);
  const count = files.length;
  const end = record([0x06054b50], [0, 0, count, count], [directory.length, offset], [0]);
  return joined([...parts, directory, end]);
}

/** Write groups of numbers, little end first: of four bytes, of two, of four, and so on. */
function record(...groups) {
  const bytes = [];
  groups.forEach((numbers, place) => {
    for (const number of numbers) {
      for (let k = 0; k < (place % 2 ? 2 : 4); k += 1) bytes.push((number >>> (8 * k)) & 255);
    }
  });
  return Uint8Array.from(bytes);
}
