"""Test the command that writes the page, what it writes, and modules that need no browser."""

import io
import json
import shutil
import subprocess
import sys
import tarfile
import threading
import tomllib
import urllib.error
import urllib.request
import zipfile
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np
import pytest
from PIL import Image

from tests.export.graphs import saved
from tests.model_tools import any_filled
from vosmodels import checkpoint, registry
from vosmodels.data.masks import palette, read_mask
from vosmodels.errors import InputError
from vosmodels.export import __main__ as command
from vosmodels.export import folder, install_web, page, serve, web_runtime
from vosmodels.export.page_server import is_local, page_server
from vosmodels.export.runner import Memory
from vosmodels.export.sidecar import read
from vosmodels.support.digests import sha256_of

ROOT = Path(__file__).resolve().parents[2]
MODULES = page.SOURCES / "js"
SOFTWARE = "{ requestAdapter: async () => ({ info: { isFallbackAdapter: true } }) }"


@pytest.fixture
def runtime(tmp_path, monkeypatch):
    """A runtime of two small files in place of ONNX Runtime Web."""
    place = tmp_path / "runtime"
    place.mkdir()
    members = {}
    for name, (member, _) in web_runtime.MEMBERS.items():
        (place / name).write_bytes(name.encode())
        members[name] = (member, sha256_of(name.encode()))
    monkeypatch.setattr(web_runtime, "MEMBERS", members)
    monkeypatch.setattr(web_runtime, "FOLDER", place)
    monkeypatch.setattr(web_runtime.check_runtime, "__defaults__", (place,))
    return place


@pytest.fixture
def student(tmp_path):
    model = registry.build("mobilevos_mobilenetv2_noaspp", seed=0)
    info = checkpoint.CheckpointInfo.of(model, ancestor=None, step=0)
    return checkpoint.write(tmp_path, model.state_dict(), info)[0]


@pytest.fixture
def refused(tmp_path, capsys):
    """Run a command that must fail, and return its line on stderr; it leaves no file."""

    def run(main, *words, code):
        before = sorted(tmp_path.rglob("*"))
        assert main([str(word) for word in words]) == code
        told = capsys.readouterr()
        assert told.out == ""
        assert "Traceback" not in told.err
        assert sorted(tmp_path.rglob("*")) == before
        return told.err

    return run


def test_every_problem_of_the_words_is_told_at_once(refused, tmp_path):
    said = refused(
        *(command.main, "--web", tmp_path / "page", "--out", tmp_path / "other"),
        *("--size", "240", "--objects", "0"),
        code=2,
    )
    for word in ("FILE: give", "--out", "--size 240", "--objects 0"):
        assert word in said


def test_a_missing_runtime_names_its_place_and_its_remedy(refused, runtime, student, tmp_path):
    (runtime / "ort.wasm").unlink()
    said = refused(command.main, "--web", tmp_path / "page", student, code=1)
    assert str(runtime / "ort.wasm") in said
    assert "make install-web" in said


def test_a_changed_runtime_is_refused(refused, runtime, student, tmp_path):
    (runtime / "ort.js").write_text("other")
    said = refused(command.main, "--web", tmp_path / "page", student, code=1)
    assert "ort.js: not that of onnxruntime-web" in said


def test_a_folder_with_files_and_a_missing_checkpoint_are_told_at_once(refused, runtime, tmp_path):
    (tmp_path / "page").mkdir()
    (tmp_path / "page" / "mine.txt").write_text("mine")
    said = refused(command.main, "--web", tmp_path / "page", tmp_path / "no.safetensors", code=1)
    assert "no such file" in said
    assert f"--web {tmp_path / 'page'}: holds 1 file" in said


def test_a_model_whose_memory_the_page_does_not_keep_is_refused(refused, runtime, tmp_path):
    file = saved(any_filled("aott"), tmp_path)
    said = refused(command.main, "--web", tmp_path / "page", file, code=1)
    assert f"{file}: its objects share a memory, and the page keeps one for each object" in said
    assert "--format onnx in place of --web" in said


def test_check_and_web_exclude_each_other(refused, tmp_path):
    said = refused(command.main, "--web", tmp_path / "page", "--check", tmp_path, code=2)
    assert "--check runs a folder" in said


@pytest.fixture
def written(runtime, student, tmp_path, monkeypatch, capsys):
    """A page with two files of text as graphs, and what the command printed."""
    monkeypatch.setitem(folder.WRITERS, "onnx", lambda graph, *_: type(graph).__name__.encode())
    out = tmp_path / "page"
    words = ["--web", str(out), "--size", "96x160", "--objects", "2", str(student)]
    assert command.main(words) == 0
    return out, capsys.readouterr().out


def test_the_folder_holds_every_file_that_the_page_loads(written):
    out, _ = written
    sidecar = read(out)
    assert (sidecar.objects, sidecar.precision, sidecar.frame.width) == (2, "fp16", 160)
    names = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    assert {"index.html", "style.css", "js/app.js", "js/worker.js", "runtime/ort.js"} <= names
    assert {
        "runtime/ort.wasm",
        "runtime/ort-gpu.js",
        "runtime/ort-gpu.wasm",
        "runtime/LICENCE.txt",
        "begin.onnx",
        "step.onnx",
        "student.json",
        "page.json",
    } <= names
    for clip in json.loads((out / "page.json").read_text())["clips"]:
        numbers = [f"{number:05d}" for number in range(clip["count"])]
        assert {f"{clip['frames']}/{n}.{clip['suffix']}" for n in numbers} <= names
        assert {f"{clip['given']}/{n:05d}.png" for n in clip["given_in"]} <= names
        if clip["expected"]:
            assert {f"{clip['expected']}/{n}.png" for n in numbers} <= names


def test_the_command_prints_the_sizes_of_graphs_and_runtime(written):
    out, said = written
    assert f"{out}: graphs 0.00 MiB, wasm 0.00 MiB, webgpu 0.00 MiB" in said
    assert f"python -m vosmodels.export.serve {out}" in said


def test_every_script_that_a_script_imports_is_there():
    names = {path.name for path in MODULES.glob("*.js")}
    assert len(names) > 10
    for path in MODULES.glob("*.js"):
        text = path.read_text()
        imported = {part.split('"')[0] for part in text.split('from "./')[1:]}
        assert imported <= names, path


def test_an_installed_package_holds_the_pages_files():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    kept = settings["tool"]["setuptools"]["package-data"]["vosmodels"]
    installed = {path for pattern in kept for path in (ROOT / "vosmodels").glob(pattern)}
    files = [page.SOURCES / page.LICENCE]
    for name in page.PARTS:
        place = page.SOURCES / name
        files += [path for path in place.rglob("*") if path.is_file()] or [place]
    assert len(files) > 10
    assert set(files) <= installed


def test_the_sample_has_no_more_objects_than_the_graphs(tmp_path):
    page._write_sample(tmp_path / "sample", 1)
    assert set(np.unique(read_mask(tmp_path / "sample" / "given" / "00000.png"))) == {0, 1}


def test_a_page_that_fails_half_way_leaves_nothing(runtime, student, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setitem(folder.WRITERS, "onnx", lambda *_: b"graph")
    monkeypatch.setattr(page, "_write_sample", fail)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match=r"page: cannot be written \(No space left"):
        page.export_page(student, folder.Request(96, 160, 2), tmp_path / "page")
    assert sorted(tmp_path.rglob("*")) == before


def test_another_archive_of_the_runtime_is_refused(tmp_path):
    archive = tmp_path / "runtime.tgz"
    with tarfile.open(archive, "w:gz") as package:
        for member, _ in web_runtime.MEMBERS.values():
            package.addfile(tarfile.TarInfo(member), io.BytesIO())
    with pytest.raises(InputError, match=r"sha512 .* nothing was installed"):
        web_runtime.unpack_runtime(archive, tmp_path / "runtime")
    assert not (tmp_path / "runtime").exists()


def test_without_npm_one_line_says_so(refused, runtime, monkeypatch):
    (runtime / "ort.js").unlink()
    monkeypatch.setattr(shutil, "which", lambda name: None)
    said = refused(install_web.main, code=1)
    assert said.count("\n") == 1
    assert "npm is not installed" in said


def test_serve_refuses_a_folder_without_a_page(refused, tmp_path):
    said = refused(serve.main, tmp_path, code=1)
    assert "holds no index.html" in said
    assert "--web" in said


def test_serve_refuses_a_port_that_is_none(refused, tmp_path):
    assert "--port 65536: 0 to 65535" in refused(serve.main, tmp_path, "--port", "65536", code=2)


@pytest.fixture
def shown(tmp_path):
    """A folder with the files that make it a page, empty."""
    for name in ("index.html", "student.json"):
        (tmp_path / name).write_text("")
    return tmp_path


def test_serve_prints_its_address_and_ends_well_when_it_is_stopped(shown):
    words = [sys.executable, "-m", "vosmodels.export.serve", str(shown), "--port", "0"]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert address.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(f"{address}/index.html") as answer:
            assert answer.status == 200
        process.terminate()
        assert process.wait(timeout=60) == 0


def test_serve_tells_of_a_port_in_use(refused, shown):
    taken = page_server(shown, "127.0.0.1", 0)
    port = taken.server_address[1]
    assert f"--port {port}: in use" in refused(serve.main, shown, "--port", port, code=1)
    taken.server_close()


@pytest.mark.parametrize(("host", "warned"), [("127.0.0.1", False), ("0.0.0.0", True)])
def test_serve_warns_where_other_machines_are_let_in(shown, monkeypatch, capsys, host, warned):
    server = MagicMock()
    server.__enter__.return_value.server_address = ("", 8000)
    monkeypatch.setattr(serve, "page_server", lambda *_: server)
    assert serve.main([str(shown), "--host", host]) == 0
    assert (f"warning: --host {host}" in capsys.readouterr().err) == warned


def test_only_addresses_of_this_machine_are_local():
    assert is_local("127.0.0.1")
    assert is_local("localhost")
    assert not is_local("0.0.0.0")
    assert not is_local("192.168.0.4")


def test_the_server_gives_files_their_kind_and_shows_no_folder(tmp_path):
    (tmp_path / "a.js").write_text("1")
    server = page_server(tmp_path, "127.0.0.1", 0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        with urllib.request.urlopen(f"{address}/a.js") as answer:
            assert answer.headers["Content-Type"].startswith("text/javascript")
        with pytest.raises(urllib.error.HTTPError, match="404"), urllib.request.urlopen(address):
            pass
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def node(tmp_path):
    """Run lines of JavaScript beside the page's modules and return what they print as JSON."""
    program = shutil.which("node")
    if program is None:
        pytest.skip("no node; install it with: apt-get install nodejs")

    def run(imports, lines):
        shutil.copytree(MODULES, tmp_path / "js")
        (tmp_path / "package.json").write_text('{"type": "module"}')
        heads = [f'import {{ {names} }} from "./js/{name}";' for name, names in imports.items()]
        (tmp_path / "test.js").write_text("\n".join([*heads, lines]))
        done = subprocess.run([program, "test.js"], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) if done.stdout else None

    return run


@pytest.mark.parametrize(("most", "every", "last"), [(1, 1, False), (3, 5, True), (4, 2, False)])
def test_the_pages_memory_is_that_of_the_runner(node, most, every, last):
    rng = np.random.default_rng(most)
    shapes = (2, most, 3, 2), (2, most, 3, 4)
    memory = Memory(*shapes, every=every, last=last, hidden=-1e4)
    calls = []
    for _ in range(24):
        name = str(rng.choice(["given", "predicted", "predicted", "predicted", "forget"]))
        key, value = (rng.integers(0, 99, s).astype(np.float32) for s in ((3, 2), (2, 3, 4)))
        slots = [[0], [1], [0, 1]][rng.integers(3)]
        if name == "forget":
            memory.forget(slots[0])
        else:
            getattr(memory, name)(key, value, slots)
        calls.append([name, key.ravel().tolist(), value.ravel().tolist(), slots])
    rule = json.dumps({"every": every, "last": last, "hidden": -1e4})
    got = node(
        {"memory.js": "Memory"},
        f"""
        const memory = new Memory({list(shapes[0])}, {list(shapes[1])}, {rule});
        for (const [name, key, value, slots] of {json.dumps(calls)}) {{
          if (name === "forget") memory.forget(slots[0]);
          else memory[name](Float32Array.from(key), Float32Array.from(value), slots);
        }}
        console.log(JSON.stringify([memory.key, memory.value, memory.bias].map((x) => [...x])));
        """,
    )
    for array, numbers in zip((memory.key, memory.value, memory.bias), got, strict=True):
        np.testing.assert_array_equal(array.ravel(), np.float32(numbers))


@pytest.mark.parametrize(
    ("gpu", "wanted", "names"),
    [
        ("undefined", None, ["wasm"]),
        ("undefined", "webgpu", ["wasm"]),
        ("{ requestAdapter: async () => null }", None, ["wasm"]),
        ("{ requestAdapter: async () => { throw new Error(); } }", None, ["wasm"]),
        ("{ requestAdapter: async () => ({ info: {} }) }", None, ["webgpu", "wasm"]),
        ("{ requestAdapter: async () => ({ info: {} }) }", "wasm", ["wasm"]),
        (SOFTWARE, None, ["wasm"]),
        (SOFTWARE, "webgpu", ["webgpu", "wasm"]),
    ],
)
def test_the_page_takes_webgpu_where_a_chip_computes_it(node, gpu, wanted, names):
    got = node(
        {"runtime.js": "runtimes"},
        f"""
        const found = await runtimes({json.dumps(wanted)}, {gpu});
        console.log(JSON.stringify(found.map((runtime) => runtime.name)));
        """,
    )
    assert got == names


def test_where_webgpu_does_not_open_webassembly_does_and_its_error_is_told(node):
    got = node(
        {"runtime.js": "firstThatOpens"},
        """
        const fail = (name) => { throw new Error(name); };
        const two = await firstThatOpens(["a", "b"], (x) => (x === "a" ? fail(x) : `opened ${x}`));
        const none = await firstThatOpens(["a", "b"], fail).catch((error) => error.message);
        console.log(JSON.stringify([two, none]));
        """,
    )
    assert got == [["opened b", "b"], "b"]


def test_masks_of_the_page_are_read_as_they_were_written(node, tmp_path):
    ids = np.random.default_rng(0).integers(0, 4, (41, 67)).astype(np.uint8)
    node(
        {"png.js": "palettePng, stored", "zip.js": "zip"},
        f"""
        import {{ writeFileSync }} from "node:fs";
        const ids = Uint8Array.from({ids.ravel().tolist()});
        const packed = await palettePng(ids, 67, 41);
        globalThis.CompressionStream = undefined;
        const plain = await palettePng(ids, 67, 41);
        writeFileSync("masks.zip", zip([["clip/00000.png", packed], ["clip/00001.png", plain]]));
        """,
    )
    with zipfile.ZipFile(tmp_path / "masks.zip") as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["clip/00000.png", "clip/00001.png"]
        archive.extractall(tmp_path)
    for name in ("00000.png", "00001.png"):
        np.testing.assert_array_equal(read_mask(tmp_path / "clip" / name), ids)
        with Image.open(tmp_path / "clip" / name) as image:
            assert image.getpalette() == palette().ravel().tolist()


def test_a_zlib_stream_without_compression_has_blocks_for_many_bytes(node, tmp_path):
    got = node(
        {"png.js": "stored"},
        """
        import { inflateSync } from "node:zlib";
        const bytes = Uint8Array.from({ length: 150000 }, (_, k) => k % 251);
        console.log(JSON.stringify(Buffer.compare(inflateSync(stored(bytes)), bytes)));
        """,
    )
    assert got == 0


def test_a_picture_of_another_size_lies_in_the_middle_and_comes_back(node):
    place, small, large = node(
        {"fit.js": "enlarge, fit, shrink"},
        """
        const place = fit({ width: 40, height: 60 }, { width: 32, height: 16 });
        const ids = new Uint8Array(2400);
        for (let y = 12; y < 36; y += 1) ids.fill(1, y * 40 + 10, y * 40 + 30);
        ids[2399] = 7;
        const small = shrink(ids, place);
        const maps = new Float32Array(2 * 512);
        small.forEach((id, p) => { maps[(id === 1 ? 512 : 0) + p] = 1; });
        const large = enlarge(maps, 2, place);
        console.log(JSON.stringify([place, [...small], [...large]]));
        """,
    )
    assert (place["left"], place["top"], place["width"], place["height"]) == (10, 0, 11, 16)
    small = np.reshape(small, (16, 32))
    assert (small == 7).sum() == 1  # though it has one pixel in 14
    assert not small[:, :10].any()
    assert not small[:, 21:].any()
    back = np.reshape(large, (60, 40)) == 1
    true = np.zeros((60, 40), bool)
    true[12:36, 10:30] = True
    assert (back & true).sum() / (back | true).sum() > 0.75
    assert not back[:8].any()


def test_a_change_takes_away_the_masks_from_its_frame_on(node):
    got = node(
        {"project.js": "Project"},
        """
        const project = new Project(4);
        project.give(1, Uint8Array.of(0, 1, 0, 0));
        for (let k = 0; k < 4; k += 1) project.push(Uint8Array.of(k, k, 0, 0));
        project.give(3, Uint8Array.of(0, 0, 2, 0), [1]);
        const alive = [0, 2, 3].map((number) => project.alive(number));
        const { first, length } = project;
        console.log(JSON.stringify([alive, first, length, [...project.mask(2)], project.mask(3)]));
        """,
    )
    assert got == [[[], [1], [2]], 1, 3, [2, 2, 0, 0], None]


def test_states_make_room_and_never_depend_on_what_was_changed(node):
    got = node(
        {"history.js": "History"},
        """
        const history = new History(100);
        for (let k = 1; k < 20; k += 1) if (history.wants(k)) history.add(k, `s${k}`, 30);
        const kept = [history.bytes, history.before(15), history.before(3)];
        history.cut(9);
        console.log(JSON.stringify([...kept, history.before(15)]));
        """,
    )
    bytes_kept, before, early, after_cut = got
    assert bytes_kept <= 100
    assert before[0] <= 15
    assert before[1] == f"s{before[0]}"
    assert early is None
    assert after_cut == [8, "s8"]
