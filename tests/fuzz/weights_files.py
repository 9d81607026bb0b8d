"""Make weights files of every kind, sound and damaged."""

from __future__ import annotations

import json
import pickle
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from tests.fuzz.draw import Draw
from tests.fuzz.tiny_checkpoint import OPTIONS, contents
from vosmodels import checkpoint
from vosmodels.checkpoint import METADATA_KEY

LOST = "holds no weights that can be used"  # why no command may work with a file


Way = Callable[[Draw, Path], tuple[Path, str]]  # writes a file: its path, and why it is of no use


def _save(
    folder: Path, tensors: Mapping[str, Tensor], info: Any = None, name: str = "ours"
) -> Path:
    """Write tensors as a checkpoint; info: its description, or text in place of one."""
    described = asdict(contents()[1]) if info is None else info
    text = described if isinstance(described, str) else json.dumps(described)
    path = folder / f"{name}.safetensors"
    safetensors.torch.save_file(dict(tensors), path, metadata={METADATA_KEY: text})
    return path


def _drawn(draw: Draw) -> tuple[dict[str, Tensor], str]:
    """Copy the weights; draw the name of one that is a number of floats."""
    tensors = {key: value.clone() for key, value in contents()[0].items()}
    return tensors, draw.one([key for key, value in tensors.items() if value.ndim > 1])


def _valued(value: float) -> Way:
    def way(draw: Draw, folder: Path) -> tuple[Path, str]:
        tensors, key = _drawn(draw)
        tensors[key].view(-1)[draw.whole(0, tensors[key].numel() - 1)] = value
        return _save(folder, tensors), f"has {value} in {key}"

    return way


def _typed(kind: torch.dtype, lost: bool, every: bool = False) -> Way:
    def way(draw: Draw, folder: Path) -> tuple[Path, str]:
        tensors, key = _drawn(draw)
        for name in tensors if every else [key]:
            if tensors[name].is_floating_point():
                tensors[name] = tensors[name].to(kind)
        return _save(folder, tensors), f"has {key} as {kind}" if lost else ""

    return way


def _keyed(how: str) -> Way:
    def way(draw: Draw, folder: Path) -> tuple[Path, str]:
        tensors, key = _drawn(draw)
        value = tensors.pop(key)
        if how == "more":
            tensors |= {key: value, "nosuch.weight": torch.zeros(1)}
        elif how == "renamed":
            tensors[f"model.{key}"] = value
        elif how == "shape":
            tensors[key] = value[..., :0]
        elif how == "module.":
            return _save(
                folder, {f"module.{name}": one for name, one in (tensors | {key: value}).items()}
            ), ""
        elif how == "none":
            tensors = {}
        return _save(folder, tensors), f"has other weights than its model ({how})"

    return way


def _described(**changes: Any) -> Way:
    def way(draw: Draw, folder: Path) -> tuple[Path, str]:
        return _save(folder, contents()[0], asdict(contents()[1]) | changes), "is described wrongly"

    return way


def _text(text: str) -> Way:
    return lambda draw, folder: (_save(folder, contents()[0], text), "has a damaged description")


def _bytes(change: Callable[[Draw, bytes], bytes], lost: str) -> Way:
    def way(draw: Draw, folder: Path) -> tuple[Path, str]:
        path = _save(folder, contents()[0])
        path.write_bytes(change(draw, path.read_bytes()))
        return path, lost

    return way


def _flip(draw: Draw, data: bytes, first: int, last: int) -> bytes:
    changed = bytearray(data)
    changed[draw.whole(first, last)] ^= 1 << draw.whole(0, 7)
    return bytes(changed)


def _misnamed(draw: Draw, folder: Path) -> tuple[Path, str]:
    """Flip a bit of a file that is named by its sha256."""
    path, _ = checkpoint.write(folder, *contents())
    data = path.read_bytes()
    path.write_bytes(_flip(draw, data, len(data) // 2, len(data) - 1))
    return path, "does not match the sha256 that it is named by"


def _torch(make: Callable[[dict[str, Tensor]], Any], lost: bool, legacy: bool = False) -> Way:
    """Save with torch, as training scripts do."""

    def way(draw: Draw, folder: Path) -> tuple[Path, str]:
        path = folder / draw.one(["weights.pth", "weights.pt", "weights.bin"])
        tensors = dict(contents()[0])
        torch.save(make(tensors), path, _use_new_zipfile_serialization=not legacy)
        return path, LOST if lost else ""

    return way


def _pickled(draw: Draw, folder: Path) -> tuple[Path, str]:
    path = folder / "weights.pth"
    path.write_bytes(pickle.dumps({"state_dict": {"a": 1}, "call": print}))
    return path, LOST


def _torch_cut(draw: Draw, folder: Path) -> tuple[Path, str]:
    path = folder / "weights.pth"
    torch.save(dict(contents()[0]), path)
    data = path.read_bytes()
    path.write_bytes(data[: draw.whole(1, len(data) - 1)])
    return path, "is cut"


def _bare(draw: Draw, folder: Path) -> tuple[Path, str]:
    path = folder / "bare.safetensors"
    safetensors.torch.save_file(contents()[0], path)
    return path, ""


def _renamed(draw: Draw, folder: Path) -> tuple[Path, str]:
    path = folder / draw.one(["ours.pth", "ours", "ours.safetensors.txt"])
    return _save(folder, contents()[0]).rename(path), ""


def _folder(draw: Draw, folder: Path) -> tuple[Path, str]:
    path = folder / "ours.safetensors"
    path.mkdir()
    return path, "is a folder"


def _link(draw: Draw, folder: Path) -> tuple[Path, str]:
    path = folder / "link.safetensors"
    path.symlink_to("nowhere.safetensors")
    return path, "is a link to nothing"


WAYS: Mapping[str, Way] = {
    "sound": _bytes(lambda draw, data: data, ""),
    "NaN": _valued(float("nan")),
    "infinite": _valued(float("inf")),
    "int8": _typed(torch.int8, True),
    "bool": _typed(torch.bool, True),
    "complex": _typed(torch.complex64, True),
    "float8": _typed(torch.float8_e4m3fn, True),
    "float16": _typed(torch.float16, False, every=True),
    "bfloat16": _typed(torch.bfloat16, False, every=True),
    "float64": _typed(torch.float64, False, every=True),
    "a key more": _keyed("more"),
    "a key less": _keyed("less"),
    "a key renamed": _keyed("renamed"),
    "another shape": _keyed("shape"),
    "module. before every key": _keyed("module."),
    "no tensors": _keyed("none"),
    "another model": _described(name="stcn_mobilenetv2", config={}),
    "an unknown model": _described(name="nosuch"),
    "an option unknown": _described(config={**OPTIONS, "nosuch": 1}),
    "an option of another kind": _described(config={**OPTIONS, "key_channels": "many"}),
    "another version": _described(version=99),
    "a step in words": _described(step="ten", scores={"jf": "good"}),
    "a stem that is a number": _described(ancestor=5),
    "scores that are NaN": _text(
        json.dumps({**asdict(contents()[1]), "scores": {"jf": float("nan")}})
    ),
    "a description that is cut": _text('{"name": "mob'),
    "a description that is a list": _text("[1, 2]"),
    "a description without end": _text("[" * 3000),
    "a bit of the header": _bytes(lambda draw, data: _flip(draw, data, 8, 400), ""),
    "a bit of the length": _bytes(lambda draw, data: _flip(draw, data, 0, 7), "has a false header"),
    "cut": _bytes(lambda draw, data: data[: draw.whole(1, len(data) - 1)], "is cut"),
    "cut by a byte": _bytes(lambda draw, data: data[:-1], "is cut"),
    "a byte more": _bytes(lambda draw, data: data + b"\0", "is too long"),
    "zero bytes": _bytes(lambda draw, data: b"", "is empty"),
    "zeros": _bytes(lambda draw, data: bytes(5000), "holds zeros"),
    "a huge header": _bytes(lambda draw, data: b"\xff" * 7 + b"\x7f" + data[8:], "has no header"),
    "a page of the web": _bytes(lambda draw, data: b"<!DOCTYPE html>\n" * 99, "is a page"),
    "a wrong sha256": _misnamed,
    "torch: weights": _torch(lambda tensors: tensors, False),
    "torch: legacy": _torch(lambda tensors: tensors, False, legacy=True),
    "torch: state_dict": _torch(lambda tensors: {"state_dict": tensors, "epoch": 3}, False),
    "torch: ordered": _torch(lambda tensors: {"model": OrderedDict(tensors)}, False),
    "torch: a list": _torch(lambda tensors: list(tensors.values()), True),
    "torch: nested": _torch(lambda tensors: {"a": {"b": tensors}}, True),
    "torch: a module": _torch(lambda tensors: nn.Linear(2, 2), True),
    "torch: a number": _torch(lambda tensors: 5, True),
    "torch: cut": _torch_cut,
    "a pickle with code": _pickled,
    "bare": _bare,
    "another suffix": _renamed,
    "a folder": _folder,
    "a link to nothing": _link,
}
KINDS = tuple(WAYS)
