"""Run commands on odd inputs, in this process or as a real one, and judge what they leave.

A command may refuse an input or work with it. It may not end in an exception, change a file that it
was given, leave a part of a file, or answer what was not asked.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import re
import resource
import shlex
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
WORK = "work"  # the folder of a case that its commands run in
GUARD_S = 120  # seconds after which a command counts as hanging
MEMORY = 12 * 2**30  # bytes of address space of a command that asks for too much
NAMES = re.compile(
    r"Traceback|\[Errno|OpenCV\(|Assertion failed|--debug shows where"
    r"|\b[A-Za-z_.]*[a-z](?:Error|Exception|Warning)\b"
)
HALF = re.compile(r"(^\.)|\.(part|partial|tmp|temp|lock)\b|~$")

Judge = Callable[["Reply"], Iterator[str]]


@dataclass(frozen=True)
class Reply:
    """The output of a command and its exit code."""

    code: int
    out: str
    err: str


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command line and what is expected of it.

    names: a refusal holds one of them; wrong: why exit code 0 would be a wrong answer; sound: the
    inputs are as good as any, so that a refusal is wrong; judge: yields what is wrong with the
    answers, partial: with those of a command that failed; stores: paths below the case's folder
    that a command may write before it fails, such as a store; databases: those of them whose files
    it may change; silent: a refusal stands on stdout.
    """

    module: str
    words: tuple[str, ...]
    names: tuple[str, ...]
    wrong: tuple[str, ...] = ()
    sound: bool = False
    judge: Judge | None = None
    partial: Judge | None = None
    stores: tuple[str, ...] = ()
    databases: tuple[str, ...] = ()
    silent: bool = False

    def __str__(self) -> str:
        return f"python -m {self.module} {shlex.join(self.words)}"


@dataclass
class Case:
    """Inputs in a folder of their own, how they were changed, and the commands to run on them.

    shared: files outside the folder that the commands read; process: run the first command as a
    process; limited: that process gets little memory.
    """

    kind: str
    index: int
    folder: Path
    changes: list[str] = field(default_factory=list)
    commands: list[Command] = field(default_factory=list)
    shared: tuple[Path, ...] = ()
    process: bool = False
    limited: bool = False

    @property
    def work(self) -> Path:
        """The folder that the commands run in."""
        return self.folder / WORK

    def reproduction(self, command: Command) -> str:
        """Say in one line how to run the case again."""
        changes = ", ".join(self.changes) or "nothing changed"
        return f"{self.kind} {self.index} ({changes}): {str(command)[:400]}"


def cases(count: int, name_of: Callable[[int], str] = str) -> pytest.MarkDecorator:
    """Parametrize a test by the index of a case; two of three are left to `make test-soak`."""
    every = [
        pytest.param(index, marks=pytest.mark.soak if index % 3 else (), id=name_of(index))
        for index in range(count)
    ]
    return pytest.mark.parametrize("index", every)


def check(case: Case, capture: pytest.CaptureFixture[str]) -> None:
    """Run the case's commands in turn; fail with a line for each that broke a rule."""
    case.work.mkdir(parents=True, exist_ok=True)
    lines = []
    for number, command in enumerate(case.commands):
        before = snapshot(case.folder, case.shared)
        if case.process and number == 0:
            reply = as_process(command, case.work, MEMORY if case.limited else None)
        else:
            reply = in_process(command, case.work, capture)
        after = snapshot(case.folder, case.shared)
        for problem in problems(command, reply, before, after):
            lines.append(f"{problem}\n    {case.reproduction(command)}\n    {_last(reply)}")
    if lines:
        pytest.fail("\n".join(lines), pytrace=False)


def problems(
    command: Command, reply: Reply, before: Mapping[str, str], after: Mapping[str, str]
) -> Iterator[str]:
    """Yield every rule that the reply and the files break."""
    text = reply.out + reply.err
    if reply.code not in (0, 1, 2):
        yield f"exit code {reply.code}"
    if match := NAMES.search(text):
        yield f"the output says {match[0]!r}"
    if reply.code:
        said = text if command.silent else reply.err
        if not said.strip():
            yield f"exit code {reply.code} without a word on stderr"
        elif not any(name in said for name in command.names):
            yield f"the refusal names none of {', '.join(command.names)[:120]}"
        if command.sound:
            yield "a sound input was refused"
        if command.partial is not None:
            yield from command.partial(reply)
    else:
        yield from (f"exit code 0, but {reason}" for reason in command.wrong)
        if command.judge is not None:
            yield from command.judge(reply)
    for name in sorted(before):
        if name not in after:
            yield f"{name} is gone"
        elif before[name] != after[name] and not _within(command.databases, name):
            yield f"{name} was changed"
    fresh, kept = sorted(set(after) - set(before)), command.stores + command.databases
    if halves := [
        name for name in fresh if HALF.search(Path(name).name) and not _within(kept, name)
    ]:
        yield f"{', '.join(halves[:3])} was left half-written"
    if reply.code and (left := [name for name in fresh if not _within(kept, name)]):
        yield f"a failure left {', '.join(left[:3])}"
    for store in command.stores:
        empty = store in fresh and not any(name.startswith(f"{store}/") for name in fresh)
        if reply.code and empty and after[store].startswith("folder"):
            yield f"a failure left the empty folder {store}"


def _within(places: Sequence[str], name: str) -> bool:
    return any(name == place or name.startswith(f"{place}/") for place in places)


def _last(reply: Reply) -> str:
    lines = (reply.err.strip() or reply.out.strip()).splitlines()
    return f"exit {reply.code}: {lines[-1][:300]}" if lines else f"exit {reply.code}: nothing said"


def snapshot(folder: Path, shared: Sequence[Path] = ()) -> dict[str, str]:
    """Read what a folder holds: every path with its content, mode and time of change."""
    found = {}
    for path in [*sorted(folder.rglob("*")), *shared]:
        name = str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)
        state = path.lstat()
        if path.is_symlink():
            found[name] = f"link to {path.readlink()}"
        elif path.is_dir():
            found[name] = f"folder {state.st_mode:o}"
        else:
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            found[name] = f"{digest} {state.st_mode:o} {state.st_mtime_ns}"
    return found


def in_process(command: Command, work: Path, capture: pytest.CaptureFixture[str]) -> Reply:
    """Run a command's main in this process, as Python would start it in `work`."""
    name = command.module if "check" not in command.module else f"{command.module}.__main__"
    main = importlib.import_module(name).main
    capture.readouterr()
    with _standing_in(work), _guarded(), warnings.catch_warnings(record=True) as noted:
        warnings.resetwarnings()
        for unseen in (DeprecationWarning, PendingDeprecationWarning, ImportWarning):
            warnings.simplefilter("ignore", unseen)
        warnings.simplefilter("ignore", ResourceWarning)
        try:
            code = main([*command.words])
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 1
        except Exception as error:  # a process would print it and end with 1
            code = 1
            print(f"Traceback: {type(error).__name__}: {error}", file=sys.stderr)
    said = capture.readouterr()
    shown = "".join(f"{note.category.__name__}: {note.message}\n" for note in noted)
    return Reply(code, said.out, said.err + shown)


def as_process(command: Command, work: Path, memory: int | None = None) -> Reply:
    """Run a command as a process in `work`; memory: most bytes of address space."""
    limit = memory or resource.RLIM_INFINITY
    environment = {k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"}
    environment |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            [sys.executable, "-m", command.module, *command.words],
            cwd=work,
            env=environment,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=GUARD_S,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
        )
    except subprocess.TimeoutExpired:
        return Reply(-1, "", f"no end after {GUARD_S} s")
    return Reply(done.returncode, done.stdout, done.stderr)


@contextmanager
def _standing_in(work: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(work)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        yield


@contextmanager
def _guarded() -> Iterator[None]:
    """End a command that hangs; the commands catch every Exception, so this is none."""

    def ring(number: int, frame: object) -> None:
        raise SystemExit(-1)

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(GUARD_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
