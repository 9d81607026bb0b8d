"""Name the formats that graphs are written in, and what writing and running them needs."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from vosmodels.errors import InputError

Format = Literal["onnx", "litert", "executorch"]
Precision = Literal["fp32", "fp16", "int8"]
NAMES: tuple[Format, ...] = get_args(Format)
PRECISIONS: tuple[Precision, ...] = get_args(Precision)


@dataclass(frozen=True)
class Facts:
    """Hold what a format's graphs are run by, and what must be installed for them.

    suffix: of a graph's file; writing, running: packages, with the line that brings them;
    precisions: in which weights can be stored; why_no_other: the reason that others are refused.
    """

    runtime: str
    suffix: str
    writing: Sequence[str]
    to_write: str
    running: Sequence[str]
    to_run: str
    precisions: Sequence[Precision] = PRECISIONS
    why_no_other: str = ""

    def refuses(self) -> str:
        """Say which precisions there are, and why no other."""
        return f"{self.runtime} takes {', '.join(self.precisions)}; {self.why_no_other}"


FORMATS: Mapping[Format, Facts] = {
    "onnx": Facts(
        runtime="ONNX Runtime",
        suffix=".onnx",
        writing=("onnx", "onnxscript", "onnxruntime"),
        to_write="pip install 'vos-distill[onnx]'",
        running=("onnxruntime",),
        to_run="pip install 'vos-distill[onnx]'",
    ),
    "litert": Facts(
        runtime="LiteRT",
        suffix=".tflite",
        writing=("litert_torch", "ai_edge_quantizer", "ai_edge_litert"),
        to_write="make install-litert, then .venv-litert/bin/python -m vosmodels.export ...",
        running=("ai_edge_litert",),
        to_run="pip install 'vos-distill[litert]'",
    ),
    "executorch": Facts(
        runtime="ExecuTorch",
        suffix=".pte",
        writing=("executorch",),
        to_write="pip install 'vos-distill[executorch]'; in a checkout make install-executorch, "
        "then .venv-executorch/bin/python -m vosmodels.export ...",
        running=("executorch",),
        to_run="pip install 'vos-distill[executorch]'",
        precisions=("fp32",),
        why_no_other="its convolutions compute in the type that their weights are stored in",
    ),
}


def check_writable(name: Format) -> None:
    """Raise InputError where a package that writes the format is not installed."""
    facts = FORMATS[name]
    _check(f"--format {name}", facts.writing, facts.to_write)


def check_runnable(name: Format) -> None:
    """Raise InputError where the package that runs the format's graphs is not installed."""
    facts = FORMATS[name]
    _check(f"graphs for {facts.runtime}", facts.running, facts.to_run)


def _check(what: str, packages: Sequence[str], remedy: str) -> None:
    absent = [package for package in packages if importlib.util.find_spec(package) is None]
    if absent:
        raise InputError(f"{what}: {', '.join(absent)} not installed; {remedy}")
