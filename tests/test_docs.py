"""Test every command line, link and snippet of the documents."""

import ast
import importlib
import importlib.util
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import pytest

from orchestrator import dry_run, sweep, table
from orchestrator.config import SweepConfig, load
from orchestrator.config.document import parse
from orchestrator.execution.forecast import Forecast
from orchestrator.reporting import readme

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("orchestrator", "soups", "vosmodels", "tests")
SWEEPS = ("orchestrator.sweep", "orchestrator.table")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`((?:python -m|make) [^`]+)`")
LINK = re.compile(r"\]\(([^)#]+)[^)]*\)")


@dataclass(frozen=True)
class Command:
    """A command line, and the file that shows it."""

    place: str
    words: tuple[str, ...]

    def __str__(self):
        return f"{self.place}: {' '.join(self.words)}"[:120]

    @property
    def module(self):
        return self.words[2] if self.words[:2] == ("python", "-m") else ""

    @property
    def arguments(self):
        return self.words[3:]


def documents():
    found = [p for p in ROOT.rglob("*.md") if p.relative_to(ROOT).parts[0] not in ("results",)]
    return [p for p in found if not any(part.startswith(".") for part in p.relative_to(ROOT).parts)]


def lines_of(text):
    """Command lines of a fenced block: prompts, comments and line ends with \\ taken away."""
    for line in text.replace("\\\n", " ").splitlines():
        line = line.removeprefix("$ ").partition("  #")[0].strip()
        if line.startswith(("python -m ", "make ")):
            yield line


def commands():
    for path in documents():
        text, place = path.read_text(), str(path.relative_to(ROOT))
        shown = [
            line for name, block in FENCE.findall(text) if not name for line in lines_of(block)
        ]
        for line in dict.fromkeys([*shown, *INLINE.findall(FENCE.sub("", text))]):
            yield Command(place, tuple(shlex.split(line)))
    for path in sorted((ROOT / "sweeps").rglob("*.yaml")):
        comment = "\n".join(
            line.removeprefix("#") for line in path.read_text().splitlines() if line[:1] == "#"
        )
        for line in lines_of(comment):
            yield Command(str(path.relative_to(ROOT)), tuple(shlex.split(line)))


COMMANDS = sorted(set(commands()), key=str)
ROOMS = [p for p in documents() if p.relative_to(ROOT).parts[0] in PACKAGES[:3]]
OURS = [c for c in COMMANDS if c.module.split(".")[0] in PACKAGES and "NAME" not in c.module]
FILES = [c for c in OURS if c.module in SWEEPS and c.arguments and "FILE" not in c.arguments[0]]
FILES = [c for c in FILES if (ROOT / c.arguments[0]).is_file()]


def of_module(name):
    """The module that `python -m name` runs."""
    spec = importlib.util.find_spec(name)
    assert spec, f"there is no module {name}"
    if spec.submodule_search_locations is not None:
        name = f"{name}.__main__"
    return importlib.import_module(name)


def words_after_the_file(command):
    """key=value words and overlays, without options."""
    return [word for word in command.arguments[1:] if "=" in word or word.endswith(".yaml")]


def test_the_documents_show_commands():
    assert len(documents()) > 10
    assert len(OURS) > 25
    assert len(FILES) > 10


def test_the_first_page_is_one_page_and_a_rooms_is_shorter():
    for path in documents():
        parts = path.relative_to(ROOT).parts
        most = 160 if parts == ("README.md",) else 60
        if path.name == "README.md" and parts[0] != "sweeps":  # those have a row a key, a result
            assert len(path.read_text().splitlines()) <= most, path


@pytest.mark.parametrize("page", ROOMS, ids=lambda p: str(p.parent.relative_to(ROOT)))
def test_a_rooms_page_names_each_of_its_files_and_no_other(page):
    there = {path.name for path in page.parent.glob("*.py")} - {"__init__.py"}
    named = set(re.findall(r"`(\w+\.py)`", page.read_text()))
    anywhere = {path.name for package in PACKAGES for path in (ROOT / package).rglob("*.py")}
    assert there <= named, f"{page}: say what is in {', '.join(sorted(there - named))}"
    assert named <= anywhere, f"{page}: there is no {', '.join(sorted(named - anywhere))}"


@pytest.mark.parametrize("module", sorted({command.module for command in OURS}))
def test_a_command_has_help_and_every_option_that_a_document_gives_it(module, capsys):
    try:
        code = of_module(module).main(["--help"])
    except SystemExit as ended:
        code = ended.code
    assert code == 0
    known = set(re.findall(r"--[a-z][a-z-]*", capsys.readouterr().out))
    for command in OURS:
        if command.module == module:
            given = {word for word in command.arguments if word.startswith("--")}
            assert given <= known, f"{command}: no {given - known}"


@pytest.mark.parametrize("command", FILES, ids=str)
def test_a_sweep_of_a_document_is_a_configuration(command, monkeypatch):
    monkeypatch.chdir(ROOT)
    sweep = load(command.arguments[0], words_after_the_file(command)).sweep
    assert sweep.keys or sweep.points


def needs_no_data(command):
    """By the words alone: what is wrong with them is for the test above to say."""
    elsewhere = ("data.", "cluster.", "sweeps/overlays")
    return load(ROOT / command.arguments[0]).data.generated and not any(
        word.startswith(elsewhere) for word in words_after_the_file(command)
    )


PLANNED = {tuple(c.words): c for c in FILES if needs_no_data(c)}.values()  # each command once


@pytest.mark.parametrize("command", PLANNED, ids=str)
def test_a_sweep_on_generated_clips_plans_its_jobs(command, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(ROOT)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    nothing = Forecast({}, "not timed", 0.0)  # the forecast times real steps
    monkeypatch.setattr(dry_run, "forecast", lambda *arguments: nothing)
    main = {"orchestrator.sweep": sweep.main, "orchestrator.table": table.main}[command.module]
    words = words_after_the_file(command)
    extra = [f"storage={tmp_path / 'store'}", "--dry-run", "--json"]
    if command.module == "orchestrator.table":
        extra += ["--out", str(tmp_path / "table.json")]
    assert main([command.arguments[0], *words, *extra]) == 0
    assert '"trials"' in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_a_make_target_of_a_document_is_in_the_makefile():
    makefile = (ROOT / "Makefile").read_text()
    shown = {c.words[1] for c in COMMANDS if c.words[0] == "make"}
    assert {"install", "sweep", "test", "docs-check"} <= shown
    for target in shown:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
        assert f"make {target} " in makefile, f"make help does not list {target}"


@pytest.mark.parametrize("path", documents(), ids=lambda p: str(p.relative_to(ROOT)))
def test_a_link_leads_to_a_file(path):
    for target in LINK.findall(path.read_text()):
        if "://" not in target:
            assert (path.parent / target).exists(), target


def blocks(language):
    return [
        pytest.param(text, id=str(path.relative_to(ROOT)))
        for path in documents()
        for name, text in FENCE.findall(path.read_text())
        if name == language
    ]


@pytest.mark.parametrize("text", blocks("python"))
def test_a_snippet_imports_what_is_there(text):
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and node.module:
            module = importlib.import_module(node.module)
            assert all(hasattr(module, alias.name) for alias in node.names), ast.unparse(node)


@pytest.mark.parametrize("text", blocks("yaml"))
def test_a_piece_of_yaml_fits_the_schema(text):
    assert SweepConfig.model_validate({"name": "x", "sweep": {}, **parse(text)})


def test_the_results_page_is_what_its_command_writes(tmp_path):
    """Links to figures are relative to the page, so it is written beside a copy of the files."""
    page = ROOT / "sweeps" / "results" / "README.md"
    for path in page.parent.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    readme.rewrite(tmp_path, tmp_path / page.name)
    assert (tmp_path / page.name).read_text() == page.read_text(), (
        "run: python -m orchestrator.report sweeps/results --readme sweeps/results/README.md"
    )
