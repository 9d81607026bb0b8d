/** Pack ids as pairs of an id and how often it follows itself; masks take some kilobytes so. */
export function pack(ids) {
  const runs = [];
  for (let start = 0; start < ids.length; ) {
    let end = start + 1;
    while (end < ids.length && ids[end] === ids[start]) end += 1;
    runs.push(ids[start], end - start);
    start = end;
  }
  return Uint32Array.from(runs);
}

/** Unpack what `pack` made. */
export function unpack(runs, length) {
  const ids = new Uint8Array(length);
  for (let place = 0, k = 0; k < runs.length; k += 2) {
    ids.fill(runs[k], place, place + runs[k + 1]);
    place += runs[k + 1];
  }
  return ids;
}
