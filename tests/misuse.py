"""List command lines that end at once.

These are each command's --help and every kind of wrong usage, wrong configuration and missing file,
for the test and the benchmark of start-up time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

CONFIGURED = ("orchestrator.sweep", "orchestrator.train", "orchestrator.table")
COMMANDS = (
    *CONFIGURED,
    "orchestrator.evaluate",
    "orchestrator.segment",
    "orchestrator.attention",
    "orchestrator.fetch",
    "orchestrator.report",
    "orchestrator.tradeoff",
    "orchestrator.ui",
    "soups.greedy",
    "soups.worth",
    "vosmodels.data.check",
    "vosmodels.evaluation.speed",
    "vosmodels.export",
    "vosmodels.export.install_web",
    "vosmodels.export.serve",
    "orchestrator.config.reference",
)

HELP = "help"
FILES = {
    "sweep.yaml": "sweep: {parameters: {loss.omega: [0.0]}}\n",
    "run.yaml": "train: {steps: 1}\n",
    "empty.yaml": "",
    "no-yaml.yaml": "a: [1\n",
    "list.yaml": "- 1\n",
    "twice.yaml": "seed: 1\nseed: 2\n",
    "bad-grid.yaml": "sweep: {parameters: {loss.omega: [], data.root: [a, b], loss.omeg: [1]}}\n",
    "other.json": "{}\n",
}


@dataclass(frozen=True)
class Misuse:
    """A command line and its exit code: 0 help, 2 wrong in itself, 1 wrong by what is on disk."""

    module: str
    kind: str
    words: tuple[str, ...]
    code: int = 2

    @property
    def name(self) -> str:
        """The command and the kind, for lists."""
        return f"{self.module}: {self.kind}"


def write_files(folder: Path) -> None:
    """Write the files that the command lines name; the commands run in `folder`."""
    for name, text in FILES.items():
        (folder / name).write_text(text)
    for name in ("empty", "results"):
        (folder / name).mkdir()


def cases() -> list[Misuse]:
    """Help and every misuse of every command, in the order of COMMANDS."""
    by_command: dict[str, dict[str, str]] = {name: _configured(name) for name in CONFIGURED}
    by_command |= {name: dict(lines) for name, lines in _OTHERS.items()}
    assert tuple(by_command) == COMMANDS
    return [
        Misuse(module, kind.removesuffix(_ON_DISK), tuple(line.split()), _code(kind))
        for module, lines in by_command.items()
        for kind, line in {HELP: "--help", **lines}.items()
    ]


_ON_DISK = " (exit 1)"  # ends the names of kinds that depend on what lies on disk


def _code(kind: str) -> int:
    if kind == HELP:
        return 0
    return 1 if kind.endswith(_ON_DISK) else 2


def _configured(module: str) -> dict[str, str]:
    """Command lines of a command that takes a YAML file and overrides."""
    train = module == "orchestrator.train"
    file, other = ("run.yaml", "sweep.yaml") if train else ("sweep.yaml", "run.yaml")
    lines = {
        "no file named": "",
        "missing file": "nosuch.yaml",
        "empty file": "empty.yaml",
        "not YAML": "no-yaml.yaml",
        "not a mapping": "list.yaml",
        "a key twice": "twice.yaml",
        "another command's file": other,
        "unknown key": f"{file} train.Lr=1",
        "wrong value": f"{file} train.steps=many",
        "two bad keys": f"{file} train.Lr=1 train.steps=many",
        "unknown model": f"{file} student.name=nosuch",
        "unknown model option": f"{file} student.options.nosuch=1",
        "no memory rule": f"{file} data.memory=last",
        "wrong model option": f"{file} teacher.options.key_channels=-1",
        "unknown split": f"{file} data.select=nosuch",
        "no store": f"{file} cluster.storage=s3://",
        "not built yet": f"{file} train.keep=last",
        "report that chooses": f"{file} data.report=val",
        "wrong stages": f"{file} stages=[{{name:video}}]",
        "unknown flag": f"{file} --nosuch",
        "no override": f"{file} nonsense",
        "missing overlay": f"{file} nosuch.yaml",
    }
    if not train:
        lines["bad grid"] = "bad-grid.yaml"
    if module == "orchestrator.table":
        lines |= {
            "wrong seeds": "sweep.yaml --seeds many",
            "seed as override": "sweep.yaml seed=1",
            "out holds no table (exit 1)": "sweep.yaml --out other.json",
        }
    return lines


_OTHERS: Mapping[str, Mapping[str, str]] = {
    "orchestrator.evaluate": {
        "nothing to score": "",
        "unknown flag": "--nosuch",
        "parts of both ways": "--masks empty --data generated",
        "too few rows": "--checkpoint x.safetensors --data generated --height 5",
        "rows no number": "--checkpoint x.safetensors --data generated --height many",
        "no memory rule": "--checkpoint x.safetensors --data generated --memory last",
        "unknown device": "--checkpoint x.safetensors --data generated --device tpu",
        "missing checkpoint (exit 1)": "--checkpoint x.safetensors --data generated",
        "missing data (exit 1)": "--checkpoint other.json --data nosuch",
        "missing masks (exit 1)": "--masks nosuch --annotations empty",
        "missing annotations (exit 1)": "--masks empty --annotations nosuch",
        "missing store (exit 1)": "--checkpoint mlflow:omega --data generated",
        "store is a folder": ("--checkpoint mlflow:omega --data generated --tracking-uri empty"),
    },
    "orchestrator.segment": {
        "no checkpoint": "--video x.mp4 --mask x.png",
        "unknown flag": "--checkpoint x --video x --mask x --nosuch",
        "too few rows": "--checkpoint x.safetensors --video x.mp4 --mask x.png --height 5",
        "missing checkpoint (exit 1)": (
            "--checkpoint x.safetensors --video other.json --mask other.json"
        ),
        "no memory rule": "--checkpoint x --video other.json --mask other.json --memory 2x5",
        "unknown device": "--checkpoint x --video other.json --mask other.json --device tpu",
        "no mask and no box": "--checkpoint x --video other.json",
        "memory with graphs": (
            "--checkpoint empty --runtime onnx --video other.json --mask other.json --memory all"
        ),
        "missing graphs (exit 1)": (
            "--checkpoint empty --runtime onnx --video other.json --mask other.json"
        ),
        "a mask and a box": "--checkpoint x --video other.json --mask other.json --box 1,1,9,9",
        "no box": "--checkpoint x --video other.json --box 9,9,1,1",
        "missing video (exit 1)": "--checkpoint other.json --video x.mp4 --mask other.json",
        "missing mask (exit 1)": "--checkpoint other.json --video other.json --mask x.png",
    },
    "orchestrator.attention": {
        "no folder": "--checkpoint x --video x.mp4 --mask x.png",
        "unknown flag": "--checkpoint x --video x --mask x --out a --nosuch",
        "query no place": "--checkpoint x --video x --mask x --out a --query 3",
        "unknown attention": "--checkpoint x --video x --mask x --out a --attention short",
        "the first frame": "--checkpoint x --video other.json --mask other.json --out a --frame 0",
        "missing checkpoint (exit 1)": (
            "--checkpoint x.safetensors --video other.json --mask other.json --out a"
        ),
        "missing video (exit 1)": (
            "--checkpoint other.json --video x.mp4 --mask other.json --out a"
        ),
    },
    "orchestrator.fetch": {
        "no file named": "nonsense",
        "unknown flag": "x y --nosuch",
        "half a sample": "sample clip --half",
        "missing checkpoint (exit 1)": "nonsense x.safetensors",
        "missing store (exit 1)": "mlflow:omega x.safetensors",
        "server away (exit 1)": "mlflow:omega x.safetensors --tracking-uri http://127.0.0.1:9",
        "store is a folder": "models:/m-1 x.safetensors --tracking-uri empty",
    },
    "orchestrator.report": {
        "no source": "",
        "unknown flag": "results --nosuch",
        "folder without --readme": "results",
        "missing table (exit 1)": "nosuch.json",
        "missing folder (exit 1)": "nosuch --readme other.json",
        "missing README (exit 1)": "results --readme README.md",
        "folder without results (exit 1)": "results --readme other.json",
        "not a table (exit 1)": "other.json",
        "missing store (exit 1)": "mlflow:omega",
    },
    "orchestrator.tradeoff": {
        "nothing": "",
        "unknown flag": "--nosuch",
        "too small and no frames": "--checkpoint demo --data generated --split val --size 3 "
        "--frames 0 --out new",
        "no memory rule": "--checkpoint demo --data generated --split val --size 96x96 "
        "--memory last --out new",
        "int8 with nothing to compare": "--checkpoint demo --data generated --split val "
        "--size 96x96 --precision int8 --out new",
        "int8 that the format has not": "--checkpoint demo --data generated --split val "
        "--size 96x96 --format executorch --precision fp32 int8 --out new",
        "missing data (exit 1)": "--checkpoint demo --data nosuch --split val --size 96x96 "
        "--out new",
        "missing checkpoint (exit 1)": "--checkpoint x.safetensors --data generated --split val "
        "--size 96x96 --out new",
    },
    "orchestrator.ui": {
        "port no number": "--port many",
        "unknown flag": "--nosuch",
        "missing store (exit 1)": "",
        "store is a folder": "--tracking-uri empty",
    },
    "soups.greedy": {
        "no runs": "",
        "unknown flag": "--runs empty --nosuch",
        "replay and search": "--replay mlflow:omega --again",
        "two splits that choose": "--runs mlflow:omega --select-on train --split val",
        "choosing on another split": "--runs mlflow:omega --select-on report",
        "no rule for BatchNorm": "--runs mlflow:omega --bn nosuch",
        "no bags": "--runs mlflow:omega --bag 0",
        "bags that are no number": "--runs mlflow:omega --bag many",
        "missing soup (exit 1)": "--replay nosuch.safetensors",
        "missing store of a soup (exit 1)": "--replay mlflow:omega",
        "no workers": "--runs mlflow:omega --workers 0",
        "unknown order": "--runs mlflow:omega --order best",
        "no number to keep": "--runs mlflow:omega --best 0 --every 0 --apart -1 --min-delta nan",
        "filter of a folder": "--runs empty --data generated --filter x",
        "folder without data": "--runs empty",
        "missing folder (exit 1)": "--runs nosuch --data generated",
        "missing storage (exit 1)": "--runs ledger:nosuch",
        "missing store (exit 1)": "--runs mlflow:omega",
    },
    "soups.worth": {
        "no soup": "",
        "unknown flag": "mlflow:omega --nosuch",
        "unknown row": "mlflow:omega --rows best,nosuch",
        "missing soup (exit 1)": "nosuch.safetensors",
        "missing store (exit 1)": "mlflow:omega",
    },
    "vosmodels.data.check": {
        "no root": "",
        "unknown flag": "empty --nosuch",
        "no workers": "empty --workers 0",
        "workers no number": "empty --workers many",
        "missing root (exit 1)": "nosuch",
    },
    "vosmodels.evaluation.speed": {
        "a size with graphs": "--exported empty --size 240x432",
        "missing graphs (exit 1)": "--exported empty",
        "no model": "",
        "unknown flag": "--model stcn --nosuch",
        "two models": "--model stcn --checkpoint x.safetensors",
        "unknown model": "--model nosuch",
        "unknown model and size": "--model nosuch --size 3",
        "too small": "--model stcn --size 3",
        "unknown precision": "--model stcn --precision int8",
        "two bad options": "--model stcn --size 3 --frames 0",
        "unknown device": "--model stcn --device tpu",
        "out without a table": "--model stcn --out x.json",
        "reference to a store": "--checkpoint mlflow:omega",
        "graph on a CPU": "--model stcn --graph",
        "one graph without a folder": "--checkpoint demo --runtime onnx",
        "graphs in bfloat16": "--checkpoint demo --runtime onnx --queues --precision bf16",
        "missing checkpoint (exit 1)": "--checkpoint x.safetensors",
    },
    "vosmodels.export": {
        "nothing to export": "",
        "unknown flag": "demo --nosuch",
        "no format and no size": "demo",
        "unknown format": "demo --format nosuch",
        "too small and too many": "demo --format onnx --size 8x8 --objects 0",
        "unknown precision": "demo --format onnx --size 96x96 --precision int2",
        "precision of another format": ("demo --format executorch --size 96x96 --precision int8"),
        "no memory rule": "demo --format onnx --size 96x96 --memory last",
        "reference to a store": "models:/m-1 --format onnx --size 96x96",
        "page without a student": "--web page",
        "page and graphs": "demo --web page --out graphs",
        "page of another format": "demo --web page --format litert",
        "check of a file": "demo --check empty",
        "check and page": "--check empty --web page",
        "missing checkpoint (exit 1)": "x.safetensors --format onnx --size 96x96",
        "missing folder (exit 1)": "--check nosuch",
        "no export (exit 1)": "--check empty",
        "page of a missing checkpoint (exit 1)": "x.safetensors --web page",
    },
    "vosmodels.export.install_web": {
        "unknown flag": "--nosuch",
        "a folder": "empty",
    },
    "vosmodels.export.serve": {
        "no folder named": "",
        "unknown flag": "empty --nosuch",
        "no port": "empty --port 70000",
        "port no number": "empty --port many",
        "missing folder (exit 1)": "nosuch",
        "folder without a page (exit 1)": "empty",
    },
    "orchestrator.config.reference": {
        "no page": "",
        "unknown flag": "other.json --nosuch",
        "missing page (exit 1)": "nosuch.md",
        "no markers (exit 1)": "other.json",
    },
}
