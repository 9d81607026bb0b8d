"""Run every command that takes weights on a file of some kind."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from soups.recalibration import STATISTICS
from tests.fuzz import pictures
from tests.fuzz.datasets import write
from tests.fuzz.draw import Draw
from tests.fuzz.runner import Case, Command
from tests.fuzz.tiny_checkpoint import NAME, OPTIONS, contents
from tests.fuzz.videos import write_film
from tests.fuzz.weights_files import KINDS, WAYS
from vosmodels import checkpoint

COUNT = 50
KIND = "weights"


def is_process(index: int) -> bool:
    """Tell the cases that are run as a process."""
    return index % 4 == 1


def case(index: int, folder: Path) -> Case:
    """Make a weights file, and run the commands that take one on it."""
    draw = Draw(KIND, index)
    made = Case(KIND, index, folder, process=is_process(index))
    made.work.mkdir(parents=True)
    how = KINDS[index % len(KINDS)] if draw.chance(0.8) else draw.one(KINDS)
    soup = folder / "runs"
    soup.mkdir()
    path, wrong = WAYS[how](draw, soup)
    made.changes.append(how)
    found = [f"the file {wrong}"] if wrong else []
    commands = [_dry_run(path, found, made)]
    others = [_evaluate, _segment, _soup]
    commands += [make(draw, path, found, made) for make in draw.several(others, 1, 1)]
    commands.append(_fetch(path, how, made))
    made.commands = [commands[int(place)] for place in draw.rng.permutation(len(commands))]
    return made


def _dry_run(path: Path, wrong: list[str], made: Case) -> Command:
    run = made.work / "run.yaml"
    student = {"name": NAME, "options": dict(OPTIONS), "weights": str(path)}
    run.write_text(json.dumps({"student": student, "loss": {"logit": 0, "representation": 0}}))

    def judge(reply: Any) -> Any:
        unread = wrong == ["the file is described wrongly"]  # the run says which model it is
        if wrong and not unread and "missing here: student.weights" not in reply.out:
            yield f"a plan, but {wrong[0]}"

    words = (run.name, "--dry-run", "train.crop=32", "train.batch_size=1")
    return Command(
        module="orchestrator.train", words=words, names=("student.weights",), judge=judge
    )


def _evaluate(draw: Draw, path: Path, wrong: list[str], made: Case) -> Command:
    _videos(made)
    words = ("--checkpoint", str(path), "--data", str(made.folder / "videos"), "--json")
    return _refusing("orchestrator.evaluate", words, path, wrong, made)


def _videos(made: Case) -> None:
    if not (made.folder / "videos").exists():
        write("davis 2017", made.folder / "videos")


def _segment(draw: Draw, path: Path, wrong: list[str], made: Case) -> Command:
    film, mask = made.folder / "clip.avi", made.folder / "first.png"
    size, _ = write_film(draw, film, 3, 24.0)
    pictures.SAVED["palette"](mask, pictures.ids(*size))
    words = ("--checkpoint", str(path), "--video", str(film), "--mask", str(mask))
    out = ("--out", str(made.folder / "masks"))
    return _refusing("orchestrator.segment", words + out, path, wrong, made)


def _soup(draw: Draw, path: Path, wrong: list[str], made: Case) -> Command:
    """Put the file beside two sound checkpoints of its stem, which are no soup without it."""
    _, info = contents()
    for step in (20, 30):
        tensors = {key: _moved(key, value, step) for key, value in contents()[0].items()}
        checkpoint.write(path.parent, tensors, replace(info, step=step))
    _videos(made)
    words = ("--runs", str(path.parent), "--data", str(made.folder / "videos"), "--split", "val")
    read = path.suffix == ".safetensors"
    return Command(
        module="soups.greedy",
        words=(*words, "--json"),
        names=(path.name, path.parent.name),
        wrong=tuple(wrong) if read else (),
        databases=("work/results",),
    )


def _moved(key: str, value: Tensor, step: int) -> Tensor:
    """Move a tensor as training does, which leaves BatchNorm statistics alone."""
    trained = value.is_floating_point() and not key.endswith(STATISTICS)
    return value + 1e-4 * step if trained else value


def _fetch(path: Path, how: str, made: Case) -> Command:
    out = made.folder / "fetched.safetensors"
    wrong = ["its sha256 is not the one that it is named by"] if how == "a wrong sha256" else []
    return _refusing("orchestrator.fetch", (str(path), str(out)), path, wrong, made)


SOUND = ("sound", "float16", "bfloat16", "float64")


def _refusing(
    module: str, words: tuple[str, ...], path: Path, wrong: list[str], made: Case
) -> Command:
    sound = made.changes[0] in SOUND
    return Command(module=module, words=words, names=(path.name,), wrong=tuple(wrong), sound=sound)
