/** Join buttons, pointer and keys to what they do. */
import { refresh } from "./figures.js";
import { at, failed, quiet, say } from "./messages.js";
import { Told } from "./told.js";

/** Choose an object to paint. */
export function select(page, id) {
  page.painting.selected = id;
  refresh(page, (other) => select(page, other));
}

/** Set the diameter of the brush, in pixels of the video. */
export function setDiameter(page, diameter) {
  const size = at("size");
  size.value = diameter;
  page.painting.diameter = Number(size.value);
  at("size-text").textContent = `${size.value} px`;
}

/** Join the page's controls to its parts and to `actions`. */
export function wire(page, actions) {
  const click = (id, act) => at(id).addEventListener("click", () => {
    try {
      act();
    } catch (error) {
      failed(error);
    }
  });
  click("play", actions.play);
  click("save-masks", actions.saveMasks);
  click("save-film", actions.saveFilm);
  click("camera", actions.camera);
  click("capture", actions.capture);
  click("back", () => back(page));
  click("forward", () => page.player.forward());
  click("add", () => {
    const id = page.painting.add();
    select(page, id);
    say(`Paint object ${id}.`);
  });
  click("remove", () => page.painting.remove());
  click("undo", () => page.painting.undo());
  click("clear", () => page.painting.clear());
  click("box-fill", () => fillBox(page.painting));
  at("alert").lastElementChild.addEventListener("click", quiet);
  at("position").addEventListener("input", ({ target }) => page.player.go(Number(target.value)));
  at("size").addEventListener("input", ({ target }) => setDiameter(page, Number(target.value)));
  at("file").addEventListener("change", ({ target }) => {
    const [file] = target.files;
    target.value = ""; // so that the same file can be chosen again
    if (file) actions.file(file);
  });
  for (const input of document.querySelectorAll("[name=tool]")) {
    input.addEventListener("change", () => setTool(page, input.value));
  }
  wirePointer(page, at("masks"));
  wireKeys(page, actions);
}

function back(page) {
  page.player.go(Math.max(0, page.player.position - 1));
}

function setTool(page, name) {
  document.querySelector(`[name=tool][value=${name}]`).checked = true;
  page.painting.tool = name;
}

function fillBox(painting) {
  const [left, top, width, height] = ["left", "top", "width", "height"].map((name) => {
    const { value } = at(`box-${name}`);
    if (value === "" || !(Number(value) >= 0)) {
      throw new Told(`Box by numbers: give a number of pixels for ${name}.`);
    }
    return Number(value);
  });
  painting.box({ x: left, y: top }, { x: left + width, y: top + height });
}

function wirePointer(page, canvas) {
  canvas.addEventListener("pointerdown", (event) => {
    if (!page.painting || event.button) return;
    page.player.pause();
    canvas.setPointerCapture(event.pointerId);
    page.painting.down(page.view.point(event));
  });
  canvas.addEventListener("pointermove", (event) => page.painting?.move(page.view.point(event)));
  for (const name of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(name, (event) => page.painting?.up(page.view.point(event)));
  }
}

/** Give the document its keys, but for those that the control in focus uses itself. */
function wireKeys(page, actions) {
  const keys = {
    " ": actions.play,
    ArrowLeft: () => back(page),
    ArrowRight: () => page.player.forward(),
    b: () => setTool(page, "brush"),
    e: () => setTool(page, "eraser"),
    x: () => setTool(page, "box"),
    "[": () => setDiameter(page, page.painting.diameter - 4),
    "]": () => setDiameter(page, page.painting.diameter + 4),
  };
  document.addEventListener("keydown", (event) => {
    const { target, key } = event;
    const aiming = !at("live").hidden;
    if (!page.player || aiming || event.altKey || target.matches("input[type=number]")) return;
    if (event.ctrlKey || event.metaKey) {
      if (key === "z" && page.painting.undo()) event.preventDefault();
      return;
    }
    if (key === " " && target.closest("button, summary, input:not([type=range])")) return;
    if (key.startsWith("Arrow") && target.matches("input")) return;
    if (page.painting.objects.includes(Number(key))) select(page, Number(key));
    else if (keys[key]) keys[key]();
    else return;
    event.preventDefault();
  });
}
