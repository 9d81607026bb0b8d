/** Play, compare with known answers, and hand files over. */
import { quiet, say, unsay } from "./messages.js";
import { download, filmKind, masksZip, overlayFilm } from "./save.js";

const FOLLOWING = "Following the objects …";
const LIMIT = 0.001; // share of pixels that may differ from the known answers

/** Play to the end, or stop. */
export async function togglePlay(page) {
  const { player } = page;
  if (player.playing) {
    player.pause();
    return;
  }
  quiet();
  say(FOLLOWING);
  if (!(await player.play())) {
    unsay(FOLLOWING);
    return;
  }
  say("This is the end: download the masks, or go back to a frame and correct it.");
  await compare(page);
}

/** Compare the masks of a clip with known answers, when all of them are there. */
async function compare(page) {
  const { project, source } = page.player;
  const { version } = project;
  if (!source.expected || page.painting.edited || project.length < source.count) return;
  let wrong = 0;
  for (let number = 0; number < source.count; number += 1) {
    const expected = await source.expected(number);
    if (version !== project.version) return; // painted meanwhile
    project.mask(number).forEach((id, p) => {
      wrong += id !== expected[p];
    });
  }
  if (source !== page.source) return;
  const share = wrong / (source.count * project.pixels);
  const verdict = share <= LIMIT
    ? "this browser computes what the model does"
    : "NOT as the model";
  say(`${(100 * share).toFixed(4)} % of pixels differ from the known answers: ${verdict}.`);
}

/** Follow what is left and hand the masks over. */
export async function saveMasks(page) {
  await save(page, "masks.zip", masksZip);
}

/** Follow what is left and hand the frames with their masks over. */
export async function saveFilm(page) {
  const kind = filmKind();
  await save(page, `overlay.${kind.includes("mp4") ? "mp4" : "webm"}`, (project, source) =>
    overlayFilm(project, source, kind, (number) => {
      say(`Recording frame ${number} of ${project.length} …`);
    }));
}

/** Make a file of all masks and hand it over, unless they are changed meanwhile. */
async function save(page, name, make) {
  const { player } = page;
  const { project, source } = player;
  quiet();
  say(FOLLOWING);
  if (!(await player.complete(player.last))) {
    unsay(FOLLOWING);
    return;
  }
  const { version } = project;
  await player.run(async () => {
    const file = await make(project, source);
    if (version !== project.version || source !== page.source) return;
    download(file, `${source.title}-${name}`);
    say(`${source.title}-${name}: ${project.length} frames.`);
  });
}
