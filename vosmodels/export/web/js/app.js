/** Start the page and join its parts. */
import { Engine, checkBrowser } from "./engine.js";
import { jsonOf } from "./graphs.js";
import { Painting, listObjects } from "./painting.js";
import { Player } from "./player.js";
import { Project } from "./project.js";
import { download, filmKind, masksZip, overlayFilm } from "./save.js";
import { fromCamera, openCamera, openClip, openFilm } from "./sources.js";
import { Told } from "./told.js";
import { View } from "./view.js";

const at = (id) => document.getElementById(id);
const view = new View(at("frame"), at("masks"));
let engine = null;
let sidecar = null;
let source = null;
let player = null;
let painting = null;
let stream = null; // of the camera, before its first picture is taken
let chosen = 0; // how often a video was chosen

start().catch(failed);

async function start() {
  wire();
  checkBrowser();
  const page = await jsonOf(new URL("page.json", document.baseURI), "page.json");
  engine = new Engine();
  sidecar = await engine.call("open");
  at("about").textContent = aboutOf(page);
  at("clips").append(...page.clips.map((clip) => {
    const button = Object.assign(document.createElement("button"), {
      type: "button", textContent: clip.title,
    });
    button.addEventListener("click", () => choose(() => openClip(clip), button));
    return button;
  }));
  at("loading").hidden = true;
  at("sources").disabled = false;
  at("clips").firstChild.click();
}

function aboutOf(page) {
  const { checkpoint, frame, precision, memory, objects, licences } = sidecar;
  const size = `frames of ${frame.width}×${frame.height}`;
  const runtime = `ONNX Runtime Web ${page.runtime.version} (${page.runtime.licence})`;
  const data = licences.length ? ` Weights made from: ${licences.join("; ")}.` : "";
  return `${checkpoint.model}: ${size}, up to ${objects} object${objects > 1 ? "s" : ""}, memory `
    + `${memory.rule}, weights in ${precision}. ${runtime}.${data}`;
}

/** Tell a person what went wrong. */
function failed(error) {
  if (!(error instanceof Told)) console.error(error);
  at("alert").firstElementChild.textContent = error instanceof Told
    ? error.message
    : `Something went wrong (${error?.message ?? error}). Reload the page and try again.`;
  at("alert").hidden = false;
  if (!sidecar) at("loading").textContent = "The network could not be loaded.";
}

function quiet() {
  at("alert").hidden = true;
}

function say(text) {
  at("status").textContent = text;
}

/** Open another video and show its first frame; button: that of the video, or null. */
async function choose(open, button = null) {
  quiet();
  chosen += 1;
  const choice = chosen;
  player?.pause();
  let opened = null;
  try {
    opened = await open();
    if (!opened) return;
    const place = await engine.call("video", { width: opened.width, height: opened.height });
    if (choice !== chosen) throw new Told("Another video was chosen meanwhile.");
    if (opened !== source) source?.close();
    source = opened;
    begin(place);
  } catch (error) {
    if (choice === chosen) failed(error);
    opened?.close();
    return;
  }
  closeCamera();
  for (const other of at("sources").querySelectorAll("button, .button")) {
    if (other.matches("button")) other.setAttribute("aria-pressed", String(other === button));
    else other.classList.toggle("chosen", other === button);
  }
  await player.go(0);
}

function begin(place) {
  const project = new Project(source.width * source.height);
  view.size(source.width, source.height);
  at("stage").style.setProperty("--aspect", source.width / source.height);
  painting = new Painting({ source, project, view, most: sidecar.objects, changed: painted });
  painting.tool = document.querySelector("[name=tool]:checked").value;
  resize(Math.max(2, Math.round(Math.min(source.width, source.height) / 12)));
  player = new Player(engine, source, project, {
    place,
    mean: sidecar.frame.mean,
    failed,
    changed: refresh,
    show(number, picture) {
      view.picture(picture);
      painting.show(number);
    },
  });
  at("paint").disabled = false;
  at("results").disabled = false;
  at("save-film").disabled = !filmKind();
  say(
    source.given.size
      ? "Objects of the clip are painted already: play, or clear them and paint your own."
      : "Paint an object with the brush or draw a box around it, then play.",
  );
  refresh();
}

/** Bring buttons and figures up to date. */
function refresh() {
  const { playing, position, figures, rate, last } = player;
  const words = playing ? "Pause" : "Play";
  at("play").setAttribute("aria-label", words);
  at("play").classList.toggle("playing", playing);
  for (const id of ["play", "position"]) at(id).disabled = false;
  at("back").disabled = position === 0;
  at("forward").disabled = position >= source.count - 1;
  at("position").max = Math.max(0, last);
  at("position").value = position;
  at("position").setAttribute("aria-valuetext", `frame ${position + 1} of ${last + 1}`);
  at("counter").textContent = source.live ? `${position + 1}` : `${position + 1} / ${last + 1}`;
  at("ms").textContent = figures ? `${Math.round(figures.ms)} ms` : "–";
  at("rate").textContent = playing && rate ? rate.toFixed(1) : "–";
  at("memory").textContent = figures
    ? `${megabytes(figures.bytes)}, ${figures.frames} of ${figures.most} frames`
    : "–";
  listObjects(at("objects"), painting, select);
}

function megabytes(bytes) {
  return `${(bytes / 2 ** 20).toFixed(bytes < 1e7 ? 1 : 0)} MiB`;
}

/** Answer to a change of what is painted in the frame that is shown. */
function painted() {
  quiet();
  player.cut(painting.number);
  say(`Painted in frame ${painting.number + 1}: play follows from here.`);
  refresh();
}

async function togglePlay() {
  if (player.playing) {
    player.pause();
    return;
  }
  quiet();
  say("Following the objects …");
  if (!(await player.play())) return;
  say("This is the end: download the masks, or go back to a frame and correct it.");
  await compare();
}

/** Compare the masks of a clip with known answers, when all of them are there. */
async function compare() {
  const { project, source: video } = player;
  const { version } = project;
  if (!video.expected || painting.edited || project.length < video.count) return;
  let wrong = 0;
  for (let number = 0; number < video.count; number += 1) {
    const expected = await video.expected(number);
    if (version !== project.version) return; // painted meanwhile
    project.mask(number).forEach((id, p) => {
      wrong += id !== expected[p];
    });
  }
  if (video !== source) return;
  const share = (100 * wrong) / (video.count * project.pixels);
  const verdict = share <= 0.1 ? "this browser computes what the model does" : "NOT as the model";
  say(`${share.toFixed(4)} % of pixels differ from the known answers: ${verdict}.`);
}

function select(id) {
  painting.selected = id;
  refresh();
}

/** Set the diameter of the brush, in pixels of the video. */
function resize(diameter) {
  const size = at("size");
  size.value = diameter;
  painting.diameter = Number(size.value);
  at("size-text").textContent = `${size.value} px`;
}

function tool(name) {
  document.querySelector(`[name=tool][value=${name}]`).checked = true;
  painting.tool = name;
}

/** Follow what is left and hand the masks over. */
async function saveMasks() {
  await save("masks.zip", masksZip);
}

/** Follow what is left and hand the frames with their masks over. */
async function saveFilm() {
  const kind = filmKind();
  await save(`overlay.${kind.includes("mp4") ? "mp4" : "webm"}`, (project, video) =>
    overlayFilm(project, video, kind, (number) => {
      say(`Recording frame ${number} of ${project.length} …`);
    }));
}

/** Make a file of all masks and hand it over, unless they are changed meanwhile. */
async function save(name, make) {
  quiet();
  if (!(await completed())) return;
  const { project, source: video } = player;
  const { version } = project;
  await player.run(async () => {
    const file = await make(project, video);
    if (version !== project.version || video !== source) return;
    download(file, `${video.title}-${name}`);
    say(`${video.title}-${name}: ${project.length} frames.`);
  });
}

async function completed() {
  say("Following the objects to the end …");
  const done = await player.complete(player.last);
  if (!done) say("");
  return done;
}

/** Show what the camera sees until its first picture is taken or another video is chosen. */
async function camera() {
  quiet();
  player?.pause();
  closeCamera();
  try {
    stream = await openCamera(at("live"));
  } catch (error) {
    failed(error);
    return;
  }
  aim(true);
  at("capture").focus();
  say("Point the camera at the object and take the first picture, or choose another video.");
}

/** Show the live camera in place of the video, or the video again. */
function aim(live) {
  at("live").hidden = !live;
  at("capture").hidden = !live;
  for (const id of ["transport", "paint", "results"]) at(id).inert = live;
}

function closeCamera() {
  aim(false);
  if (stream && !source?.live) {
    for (const track of stream.getTracks()) track.stop();
  }
  stream = null;
}

/** Join the controls to what they do. */
function wire() {
  const click = (id, act) => at(id).addEventListener("click", () => {
    try {
      act();
    } catch (error) {
      failed(error);
    }
  });
  at("alert").lastElementChild.addEventListener("click", quiet);
  click("play", togglePlay);
  click("back", () => player.go(Math.max(0, player.position - 1)));
  click("forward", () => player.forward());
  click("add", () => say(`Paint object ${painting.add()}.`) ?? refresh());
  click("remove", () => painting.remove());
  click("undo", () => painting.undo());
  click("clear", () => painting.clear());
  click("box-fill", fillBox);
  click("save-masks", saveMasks);
  click("save-film", saveFilm);
  click("camera", camera);
  click("capture", () => choose(() => fromCamera(at("live"), stream), at("camera")));
  at("position").addEventListener("input", ({ target }) => player.go(Number(target.value)));
  at("size").addEventListener("input", ({ target }) => resize(Number(target.value)));
  at("file").addEventListener("change", ({ target }) => {
    const [file] = target.files;
    target.value = ""; // so that the same file can be chosen again
    if (file) choose(() => openFilm(file), document.querySelector("label[for=file]"));
  });
  for (const input of document.querySelectorAll("[name=tool]")) {
    input.addEventListener("change", () => tool(input.value));
  }
  wirePointer(at("masks"));
  document.addEventListener("keydown", key);
}

function wirePointer(canvas) {
  canvas.addEventListener("pointerdown", (event) => {
    if (!painting || event.button) return;
    player.pause();
    canvas.setPointerCapture(event.pointerId);
    painting.down(view.point(event));
  });
  canvas.addEventListener("pointermove", (event) => painting?.move(view.point(event)));
  for (const name of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(name, (event) => painting?.up(view.point(event)));
  }
}

function fillBox() {
  const [left, top, width, height] = ["left", "top", "width", "height"].map((name) => {
    const value = Number(at(`box-${name}`).value);
    if (!(value >= 0)) throw new Told(`Box by numbers: ${name} is no number of pixels.`);
    return value;
  });
  painting.box({ x: left, y: top }, { x: left + width, y: top + height });
}

const KEYS = {
  " ": () => togglePlay(),
  ArrowLeft: () => player.go(Math.max(0, player.position - 1)),
  ArrowRight: () => player.forward(),
  b: () => tool("brush"),
  e: () => tool("eraser"),
  x: () => tool("box"),
  "[": () => resize(painting.diameter - 4),
  "]": () => resize(painting.diameter + 4),
};

/** Do what a key means, unless the control in focus uses it itself. */
function key(event) {
  const { target } = event;
  if (!player || stream || event.altKey || target.matches("input[type=number]")) return;
  if (event.ctrlKey || event.metaKey) {
    if (event.key === "z" && painting.undo()) event.preventDefault();
    return;
  }
  if (event.key === " " && target.closest("button, summary, input:not([type=range])")) return;
  if (event.key.startsWith("Arrow") && target.matches("input")) return;
  const number = Number(event.key);
  if (painting.objects.includes(number)) select(number);
  else if (KEYS[event.key]) KEYS[event.key]();
  else return;
  event.preventDefault();
}
