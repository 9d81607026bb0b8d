/** Start the page: load the network, open videos. */
import { saveFilm, saveMasks, togglePlay } from "./actions.js";
import { select, setDiameter, wire } from "./controls.js";
import { Engine, checkBrowser } from "./engine.js";
import { refresh } from "./figures.js";
import { jsonOf } from "./graphs.js";
import { at, failed, quiet, say } from "./messages.js";
import { Painting } from "./painting.js";
import { Player } from "./player.js";
import { Project } from "./project.js";
import { filmKind } from "./save.js";
import { fromCamera, openCamera, openClip, openFilm } from "./sources.js";
import { View } from "./view.js";

/** What is open; source, player and painting are those of one video. */
const page = {
  view: new View(at("frame"), at("masks")),
  engine: null,
  sidecar: null,
  source: null,
  player: null,
  painting: null,
};
let chosen = 0; // how often a video was chosen
let stream = null; // of the camera, before its first picture is taken

start().catch(failed);

async function start() {
  wire(page, {
    play: () => togglePlay(page),
    saveMasks: () => saveMasks(page),
    saveFilm: () => saveFilm(page),
    file: (file) => choose(() => openFilm(file), document.querySelector("label[for=file]")),
    camera,
    capture: () => choose(capture, at("camera")),
  });
  checkBrowser();
  const list = await jsonOf(new URL("page.json", document.baseURI), "page.json");
  page.engine = new Engine();
  const wanted = new URLSearchParams(document.location.search).get("runtime");
  const { sidecar, runtime } = await page.engine.call("open", { wanted });
  page.sidecar = sidecar;
  at("about").textContent = aboutOf(sidecar, { ...list.runtime, title: runtime });
  at("clips").append(...list.clips.map((clip) => {
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

function aboutOf({ checkpoint, frame, precision, memory, objects, licences }, runtime) {
  const size = `frames of ${frame.width}×${frame.height}`;
  const data = licences.length ? ` Weights made from: ${licences.join("; ")}.` : "";
  return `${checkpoint.model}: ${size}, up to ${objects} object${objects > 1 ? "s" : ""}, memory `
    + `${memory.rule}, weights in ${precision}. ONNX Runtime Web ${runtime.version} in `
    + `${runtime.title} (${runtime.licence}).${data}`;
}

/** Open another video and show its first frame; button: that of the video. */
async function choose(open, button) {
  quiet();
  chosen += 1;
  const choice = chosen;
  page.player?.pause();
  let opened = null;
  try {
    opened = await open();
    if (choice === chosen) await begin(opened, choice);
  } catch (error) {
    if (choice === chosen) failed(error);
  }
  if (page.source !== opened) {
    opened?.close(); // it failed, or another was chosen meanwhile
    return;
  }
  closeCamera();
  for (const other of at("sources").querySelectorAll("button, .button")) {
    if (other.matches("button")) other.setAttribute("aria-pressed", String(other === button));
    else other.classList.toggle("chosen", other === button);
  }
  await page.player.go(0);
}

async function begin(source, choice) {
  const { width, height } = source;
  const { view, engine, sidecar } = page;
  const place = await engine.call("video", { width, height });
  if (choice !== chosen) return;
  page.source?.close();
  page.source = source;
  const project = new Project(width * height);
  const changed = () => refresh(page, (id) => select(page, id));
  view.size(width, height);
  at("stage").style.setProperty("--aspect", width / height);
  page.painting = new Painting({
    source,
    project,
    view,
    most: sidecar.objects,
    changed: () => painted(changed),
  });
  page.painting.tool = document.querySelector("[name=tool]:checked").value;
  setDiameter(page, Math.max(2, Math.round(Math.min(width, height) / 12)));
  page.player = new Player(engine, source, project, {
    place,
    mean: sidecar.frame.mean,
    failed,
    changed,
    show(number, picture) {
      view.picture(picture);
      page.painting.show(number);
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
}

/** Answer to a change of what is painted in the frame that is shown. */
function painted(changed) {
  const { number } = page.painting;
  quiet();
  page.player.cut(number);
  say(`Painted in frame ${number + 1}: play follows from here.`);
  changed();
}

/** Show what the camera sees until its first picture is taken or another video is chosen. */
async function camera() {
  quiet();
  page.player.pause();
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

async function capture() {
  const source = await fromCamera(at("live"), stream);
  stream = null; // the source ends it
  return source;
}

function closeCamera() {
  aim(false);
  for (const track of stream?.getTracks() ?? []) track.stop();
  stream = null;
}

/** Show the live camera in place of the video, or the video again. */
function aim(live) {
  at("live").hidden = !live;
  at("capture").hidden = !live;
  for (const id of ["transport", "paint", "results"]) at(id).inert = live;
}
