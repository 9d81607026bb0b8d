"""Test the page in a real browser: what a person who opens it can do, and is told."""

import json
import os
import re
import shutil
import subprocess
import threading
import zipfile
from contextlib import contextmanager
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from vosmodels import demo
from vosmodels.data.masks import read_mask, write_palette
from vosmodels.errors import InputError
from vosmodels.export import web_runtime
from vosmodels.export.check import LIMIT
from vosmodels.export.folder import CLIP, Request
from vosmodels.export.page import export_page
from vosmodels.export.page_server import page_server
from vosmodels.export.runner import Runner

pytestmark = pytest.mark.slow

WAIT_MS = 120_000
FRAMES = 8  # of the check clip
CAMERA = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")


def missing(what):
    """Skip for want of a program, or fail where each must be there."""
    assert not os.environ.get("REQUIRE_BROWSER"), what
    pytest.skip(what)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The page of the student that ships, of few pixels and two slots."""
    try:
        web_runtime.check_runtime()
    except InputError as error:
        missing(str(error))
    out = tmp_path_factory.mktemp("export") / "page"
    export_page(demo.student_file(), Request(96, 160, 2, precision="fp16"), out)
    return out


@contextmanager
def served(folder):
    server = page_server(folder, "127.0.0.1", 0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def address(folder):
    with served(folder) as address:
        yield address


@pytest.fixture(scope="module")
def launch():
    """Start headless Chromium with further arguments."""
    program = shutil.which("chromium")
    if program is None:
        missing("no chromium; install it with: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        yield lambda *args: driver.chromium.launch(
            executable_path=program, args=["--no-sandbox", *args]
        )


@pytest.fixture(scope="module")
def browser(launch):
    """Chromium with a camera of its own."""
    with launch("--disable-gpu", *CAMERA) as browser:
        yield browser


@pytest.fixture
def blank(browser):
    """A new page that has not gone anywhere."""
    context = browser.new_context()
    page = context.new_page()
    page.set_default_timeout(WAIT_MS)
    yield page
    context.close()


@pytest.fixture(scope="module")
def opened(browser, address):
    """The page, loaded once, as that takes seconds, and the errors of its scripts."""
    context = browser.new_context(accept_downloads=True)
    page = context.new_page()
    page.set_default_timeout(WAIT_MS)
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(address)
    yield page, errors
    context.close()


@pytest.fixture
def page(opened):
    """The page with the sample clip just opened and the brush in hand; no script may fail."""
    page, errors = opened
    errors.clear()
    page.set_viewport_size({"width": 1200, "height": 900})
    page.get_by_role("button", name="Sample clip").click()
    at_frame(page, 1, 48)
    choose(page, "Brush")
    page.evaluate("document.activeElement.blur()")
    yield page
    for message in page.get_by_role("button", name="Close the message").all():
        if message.is_visible():
            message.click()
    assert errors == []


def at_frame(page, number, of):
    page.locator("#counter", has_text=f"{number} / {of}").wait_for()


def open_check(page):
    page.get_by_role("button", name="Check clip").click()
    at_frame(page, 1, FRAMES)


def alert(page):
    page.locator("#alert").wait_for()
    return page.locator("#alert p").inner_text()


def play_to_end(page, of=FRAMES):
    page.get_by_role("button", name="Play").click()
    at_frame(page, of, of)
    page.get_by_role("button", name="Play").wait_for()


def masks_of(page, tmp_path):
    """Download the masks and read them, by name in the zip file."""
    with page.expect_download() as download:
        page.get_by_role("button", name="Masks as PNG").click()
    place = tmp_path / "masks"
    with zipfile.ZipFile(download.value.path()) as archive:
        assert archive.testzip() is None
        archive.extractall(place)
        return {name: read_mask(place / name) for name in archive.namelist()}


def corner(page):
    """The box of the canvas on the page, and the pixels of the page for one of the video."""
    box = page.locator("#masks").bounding_box()
    return box, box["width"] / page.locator("#masks").evaluate("canvas => canvas.width")


def drag(page, *points):
    """Draw a line through points of the video."""
    box, scale = corner(page)
    x, y = points[0]
    page.mouse.move(box["x"] + x * scale, box["y"] + y * scale)
    page.mouse.down()
    for x, y in points[1:]:
        page.mouse.move(box["x"] + x * scale, box["y"] + y * scale, steps=4)
    page.mouse.up()


def choose(page, name):
    page.get_by_role("radio", name=name).check(force=True)


def open_details(page):
    page.locator("details").evaluate_all("all => all.forEach((one) => { one.open = true; })")


def test_the_check_clip_gives_the_masks_of_the_model_with_its_late_object(page, folder, tmp_path):
    open_check(page)
    play_to_end(page)
    page.locator("#status", has_text="this browser computes what the model does").wait_for()
    masks = masks_of(page, tmp_path)
    expected = [read_mask(path) for path in sorted((folder / "clip" / "expected").glob("*.png"))]
    assert sorted(masks) == [f"check/{number:05d}.png" for number in range(FRAMES)]
    got = np.stack([masks[name] for name in sorted(masks)])
    assert (got != np.stack(expected)).mean() <= LIMIT
    assert set(np.unique(got[0])) == {0, 1}
    assert set(np.unique(got[-1])) == {0, 1, 2}


def test_other_masks_than_the_known_ones_are_told(blank, folder, tmp_path):
    other = shutil.copytree(folder, tmp_path / "other")
    for path in (other / "clip" / "expected").glob("*.png"):
        write_palette(path, np.zeros_like(read_mask(path)))
    with served(other) as address:
        blank.goto(address)
        at_frame(blank, 1, 48)
        open_check(blank)
        play_to_end(blank)
        blank.locator("#status", has_text="NOT as the model").wait_for()


def test_a_video_opened_again_begins_afresh(page, tmp_path):
    open_check(page)
    play_to_end(page)
    first = masks_of(page, tmp_path / "first")
    page.get_by_role("button", name="Sample clip").click()
    at_frame(page, 1, 48)
    page.keyboard.press("ArrowRight")
    at_frame(page, 2, 48)
    open_check(page)
    assert "MiB" not in page.locator("#memory").inner_text()
    play_to_end(page)
    second = masks_of(page, tmp_path / "second")
    assert all((first[name] == second[name]).all() for name in first)


def test_the_keyboard_alone_plays_steps_and_paints(page):
    open_check(page)
    page.keyboard.press("ArrowRight")
    at_frame(page, 2, FRAMES)
    page.keyboard.press("ArrowLeft")
    at_frame(page, 1, FRAMES)
    page.locator("#masks").focus()
    page.keyboard.press("Space")
    page.get_by_role("button", name="Pause").wait_for()
    at_frame(page, FRAMES, FRAMES)
    page.keyboard.press("x")
    assert page.get_by_role("radio", name="Box").is_checked()
    page.keyboard.press("2")
    assert page.get_by_role("radio", name="Object 2").is_checked()
    page.locator("details").evaluate_all("all => all.forEach((one) => { one.open = false; })")
    page.get_by_text("Box by numbers").focus()
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Fill the box").focus()
    page.keyboard.press("Enter")
    page.locator("#status", has_text="Painted in frame 8").wait_for()


def test_what_has_the_focus_is_seen(page):
    for _ in range(12):
        page.keyboard.press("Tab")
        width = page.evaluate(
            """() => {
              const element = document.activeElement;
              const near = [element, element.nextElementSibling, element.previousElementSibling];
              return Math.max(...near.filter(Boolean).map((e) => {
                const { outlineStyle, outlineWidth } = getComputedStyle(e);
                return outlineStyle === "none" ? 0 : parseFloat(outlineWidth);
              }));
            }"""
        )
        assert width >= 2


def test_every_control_has_a_name(page):
    open_details(page)
    controls = page.locator("button:visible, input:visible")
    assert controls.count() > 15
    for control in controls.all():
        name = control.evaluate(
            "e => e.ariaLabel || e.textContent.trim() || (e.labels?.[0]?.textContent ?? '').trim()"
        )
        assert name, control.evaluate("e => e.outerHTML")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_narrow_screen_scrolls_in_one_direction_only(page, scheme):
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    page.set_viewport_size({"width": 360, "height": 740})
    open_details(page)
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= 360
    assert page.evaluate(
        "getComputedStyle(document.querySelector('#play')).transitionDuration"
    ) in ("0s", "")


def test_no_request_goes_to_another_host(blank, address):
    asked = []
    blank.on("request", lambda request: asked.append(request.url))
    blank.goto(address)
    at_frame(blank, 1, 48)
    open_check(blank)
    play_to_end(blank)
    asked = [url for url in asked if not url.startswith(("data:", "blob:"))]
    assert any(url.endswith("runtime/ort.wasm") for url in asked)
    assert {url for url in asked if not url.startswith(address)} == set()


def test_playing_without_an_object_is_told(page):
    page.get_by_role("button", name="Clear this frame").click()
    page.get_by_role("button", name="Play").click()
    assert alert(page).startswith("No object is painted yet")


def test_more_objects_than_slots_are_told(page):
    page.get_by_role("button", name="Add an object").click()
    assert "at most 2 objects" in alert(page)
    assert page.locator("#objects input").count() == 2


def test_a_video_that_the_browser_cannot_decode_is_told(page, tmp_path):
    (tmp_path / "notes.mp4").write_text("no film")
    page.locator("#file").set_input_files(tmp_path / "notes.mp4")
    assert "cannot decode notes.mp4" in alert(page)
    at_frame(page, 1, 48)
    play = page.get_by_role("button", name="One frame forward")
    play.click()
    at_frame(page, 2, 48)


def test_a_browser_without_simd_is_told(blank, address):
    blank.add_init_script("WebAssembly.validate = () => false;")
    blank.goto(address)
    assert "no WebAssembly with SIMD" in alert(blank)


@pytest.mark.soak  # Chromium computes WebGPU in software: a minute for its first frame
def test_webgpu_gives_the_masks_of_the_model(launch, tmp_path):
    out = tmp_path / "page"
    export_page(demo.student_file(), Request(48, 80, 2, precision="fp16"), out)
    gpu = ("--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader")
    with launch(*gpu) as browser, served(out) as address:
        page = browser.new_page()
        page.set_default_timeout(10 * WAIT_MS)
        page.goto(f"{address}?runtime=webgpu")
        page.get_by_role("button", name="Check clip").click()
        at_frame(page, 1, FRAMES)
        assert "in WebGPU" in page.locator("#about").inner_text()
        play_to_end(page)
        masks = masks_of(page, tmp_path)
    truth = [read_mask(path) for path in sorted((out / CLIP.expected).glob("*.png"))]
    differing = [a != b for a, b in zip(masks.values(), truth, strict=True)]
    assert np.mean(differing) <= LIMIT


IN_NODE = """
import { readFileSync } from "node:fs";
import { Runner } from "./js/tracker.js";
import * as ort from "./runtime/ort.js";
ort.env.wasm.numThreads = 1;
ort.env.wasm.wasmBinary = readFileSync("runtime/ort.wasm").buffer;
const sidecar = JSON.parse(readFileSync("student.json", "utf8"));
async function open(name) {
  const { file, inputs } = sidecar.graphs[name];
  const session = await ort.InferenceSession.create(readFileSync(file));
  return async (given) => {
    const feeds = {};
    for (const key in inputs) feeds[key] = new ort.Tensor("float32", given[key], inputs[key]);
    const outputs = await session.run(feeds);
    return Object.fromEntries(Object.keys(outputs).map((key) => [key, outputs[key].data]));
  };
}
const runner = new Runner(sidecar, await open("begin"), await open("step"));
const answers = [];
let state = null;
for (const [call, frame, mask] of JSON.parse(readFileSync("calls.json", "utf8"))) {
  if (call === "reset") runner.reset();
  else if (call === "keep") state = runner.snapshot();
  else if (call === "return") runner.restore(state);
  else if (call === "remove") runner.remove(frame);
  else {
    const numbers = Float32Array.from(frame, (x) => x / 255);
    const ids = await runner.step(numbers, mask && Uint8Array.from(mask));
    answers.push([runner.ids, [...ids]]);
  }
}
console.log(JSON.stringify(answers));
"""


def test_the_pages_tracker_answers_as_the_runner(folder, tmp_path):
    """Objects are given, come late, are corrected, removed and take a freed slot; a reset."""
    if shutil.which("node") is None:
        missing("no node; install it with: apt-get install nodejs")
    work = shutil.copytree(folder, tmp_path / "work")
    paths = sorted((folder / "clip" / "frames").glob("*.png"))
    frames = [np.asarray(Image.open(path)).transpose(2, 0, 1) for path in paths]
    first, late = (read_mask(folder / "clip" / "given" / f"0000{n}.png") for n in (0, 3))
    moved = np.where(np.roll(first, 4, 1) > 0, 1, 0).astype(np.uint8)
    steps: list[tuple[Any, Any]]
    steps = [(0, first), (1, None), (2, None), (3, late), (4, None), ("remove", 1), (5, None)]
    steps += [(6, 7 * moved), (7, None), (6, None), (5, 2 * moved), (4, None), (3, None)]
    steps += [("reset", 0), (3, late), (4, None)]
    runner = Runner(folder, threads=1)
    calls: list[list[Any]] = []
    expected = []
    for what, given in steps:
        if what == "remove":
            runner.remove(given)
            calls.append(["remove", given])
        elif what == "reset":
            runner.reset()
            calls.append(["reset"])
        else:
            ids = runner.step(frames[what] / np.float32(255), given)
            expected.append((list(runner.ids), ids))
            mask = None if given is None else given.ravel().tolist()
            calls.append(["step", frames[what].ravel().tolist(), mask])
    aside = len(calls) - 4  # a frame beside the way, from which the state is returned to
    calls[aside:aside] = [["keep"], calls[1], ["return"]]
    (work / "calls.json").write_text(json.dumps(calls))
    (work / "package.json").write_text('{"type": "module"}')
    (work / "test.js").write_text(IN_NODE)
    done = subprocess.run(["node", "test.js"], cwd=work, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout)
    del answers[-4]
    for (ids, mask), (followed, true) in zip(answers, expected, strict=True):
        assert ids == followed
        assert (np.reshape(mask, true.shape) != true).mean() <= LIMIT
    assert [ids for ids, _ in answers][-4:] == [[2, 7], [2, 7], [2], [2]]


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("step.onnx", None, "step.onnx is missing from this page's folder (404)"),
        ("begin.onnx", b"short", "begin.onnx is not the file that student.json describes"),
        ("runtime/ort.wasm", None, "runtime/ort.wasm is missing"),
        ("runtime/ort.js", None, "runtime/ort.js cannot be loaded"),
        ("student.json", b"{", "student.json is damaged"),
    ],
)
def test_a_missing_or_changed_file_is_told(blank, folder, tmp_path, name, change, words):
    other = shutil.copytree(folder, tmp_path / "other")
    (other / name).unlink()
    if change:
        (other / name).write_bytes(change)
    with served(other) as address:
        blank.goto(address)
        assert words in alert(blank)


def test_a_graph_with_one_changed_byte_is_told(blank, folder, tmp_path):
    other = shutil.copytree(folder, tmp_path / "other")
    data = bytearray((other / "step.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (other / "step.onnx").write_bytes(data)
    with served(other) as address:
        blank.goto(address)
        assert "step.onnx is not the file" in alert(blank)


def test_the_brush_the_eraser_and_undo_change_what_is_given(page, tmp_path):
    open_check(page)
    page.get_by_role("button", name="Clear this frame").click()
    choose(page, "Box")
    drag(page, (20, 20), (60, 70))
    choose(page, "Eraser")
    drag(page, (40, 15), (40, 75))
    choose(page, "Brush")
    drag(page, (5, 90), (10, 90))
    page.get_by_role("button", name="Undo").click()
    page.get_by_role("button", name="One frame forward").click()
    at_frame(page, 2, FRAMES)
    first = masks_of(page, tmp_path)["check/00000.png"]
    assert (first[20:70, 20:30] == 1).all()
    assert (first[20:70, 50:60] == 1).all()
    assert not first[:, 38:43].any()
    assert not first[80:].any()


def test_a_correction_changes_its_frame_and_later_ones_alone(page, tmp_path):
    open_check(page)
    play_to_end(page)
    before = masks_of(page, tmp_path / "before")
    for number in range(FRAMES - 1, 5, -1):
        page.keyboard.press("ArrowLeft")
        at_frame(page, number, FRAMES)
    choose(page, "Object 2")
    choose(page, "Box")
    drag(page, (100, 10), (130, 40))
    after = masks_of(page, tmp_path / "after")
    names = sorted(before)
    for name in names[:5]:
        np.testing.assert_array_equal(before[name], after[name])
    assert (after[names[5]][10:40, 100:130] == 2).all()
    untouched = before[names[5]] == 2
    assert (after[names[5]][untouched] == 2).all()
    assert (before[names[-1]] != after[names[-1]]).any()


def go_to(page, number):
    page.locator("#position").fill(str(number - 1))
    at_frame(page, number, FRAMES)


def around(mask, by):
    """Two corners of a box `by` pixels larger than what a mask shows."""
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    return (columns[0] - by, rows[0] - by), (columns[-1] + 1 + by, rows[-1] + 1 + by)


def box_object(page, name, corners):
    choose(page, name)
    choose(page, "Box")
    drag(page, *corners)


def test_corrections_one_by_one_give_what_they_give_at_once(page, tmp_path):
    """Each box holds all of its object, so that both ways the same masks are given."""
    open_check(page)
    play_to_end(page)
    second = around(masks_of(page, tmp_path / "0")["check/00005.png"] == 2, 12)
    go_to(page, 6)
    box_object(page, "Object 2", second)
    first = around(masks_of(page, tmp_path / "1")["check/00007.png"] == 1, 1)
    go_to(page, 8)
    box_object(page, "Object 1", first)
    by_turns = masks_of(page, tmp_path / "2")
    open_check(page)
    go_to(page, 6)
    box_object(page, "Object 2", second)
    go_to(page, 8)
    box_object(page, "Object 1", first)
    at_once = masks_of(page, tmp_path / "3")
    for name, mask in at_once.items():
        np.testing.assert_array_equal(by_turns[name], mask, err_msg=name)


def test_painting_while_it_plays_stops_it(page):
    page.get_by_role("button", name="Play").click()
    page.get_by_role("button", name="Pause").wait_for()
    page.locator("#counter", has_text=re.compile(r"^([3-9]|[1-4][0-9]) / 48")).wait_for()
    drag(page, (10, 10), (40, 40))
    page.get_by_role("button", name="Play").wait_for()
    page.locator("#status", has_text="Painted in frame").wait_for()
    number = page.locator("#counter").inner_text()
    page.keyboard.press("ArrowRight")
    page.locator("#counter", has_text=f"{int(number.split()[0]) + 1} / 48").wait_for()


def test_a_removed_object_makes_room_for_another(page, tmp_path):
    open_check(page)
    play_to_end(page)
    before = masks_of(page, tmp_path / "before")["check/00006.png"] == 1
    page.keyboard.press("ArrowLeft")
    at_frame(page, 7, FRAMES)
    choose(page, "Object 1")
    page.get_by_role("button", name="Remove from here on").click()
    page.get_by_role("button", name="Add an object").click()
    choose(page, "Box")
    drag(page, *around(before, 1))
    masks = masks_of(page, tmp_path / "after")
    assert (masks["check/00005.png"] == 1).any()
    assert {0, 3} <= set(np.unique(masks["check/00006.png"])) <= {0, 2, 3}
    assert (masks["check/00006.png"][before] == 3).all()
    assert not (masks["check/00007.png"] == 1).any()
    assert (masks["check/00007.png"] == 3).any()


def write_film(path, size, frames, moving):
    """Write a film of a bright square that moves `moving` pixels a frame over a dark ground."""
    height, width = size
    film = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"VP80"), 10, (width, height))
    assert film.isOpened()
    for number in range(frames):
        picture = np.full((height, width, 3), 40, np.uint8)
        picture[30:80, 20 + moving * number : 70 + moving * number] = (60, 60, 230)
        film.write(picture)
    film.release()


def test_masks_of_a_video_file_have_its_own_size(page, tmp_path):
    write_film(tmp_path / "square.webm", (150, 200), 6, moving=8)
    page.locator("#file").set_input_files(tmp_path / "square.webm")
    at_frame(page, 1, 6)
    choose(page, "Box")
    drag(page, (20, 30), (70, 80))
    masks = masks_of(page, tmp_path)
    assert sorted(masks) == [f"square/{number:05d}.png" for number in range(6)]
    for number, name in enumerate(sorted(masks)):
        assert masks[name].shape == (150, 200)
        true = np.zeros((150, 200), bool)
        true[30:80, 20 + 8 * number : 70 + 8 * number] = True
        found = masks[name] == 1
        assert (found & true).sum() / (found | true).sum() > 0.7


def test_the_overlay_is_a_film_that_can_be_read(page, tmp_path):
    open_check(page)
    with page.expect_download() as download:
        page.get_by_role("button", name="Overlay as film").click()
    path = tmp_path / download.value.suggested_filename
    download.value.save_as(path)
    assert path.name.startswith("check-overlay.")
    film = cv2.VideoCapture(str(path))
    read, picture = film.read()
    assert read
    assert picture.shape == (96, 160, 3)


def test_the_camera_gives_frames(page, tmp_path):
    page.get_by_role("button", name="Camera").click()
    page.get_by_role("button", name="Take this picture as the first frame").click()
    page.locator("#counter", has_text="1").wait_for()
    page.get_by_role("button", name="Take this picture").wait_for(state="hidden")
    choose(page, "Box")
    drag(page, (100, 100), (300, 300))
    for number in (2, 3):
        page.keyboard.press("ArrowRight")
        page.locator("#counter", has_text=str(number)).wait_for()
    masks = masks_of(page, tmp_path)
    assert sorted(masks) == [f"camera/{number:05d}.png" for number in range(3)]
    assert (masks["camera/00000.png"][100:300, 100:300] == 1).all()
