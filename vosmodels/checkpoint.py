"""Read and write checkpoints: weights, model configuration and select scores.

A checkpoint is a safetensors file whose header has one metadata key, `vos`: canonical JSON of
CheckpointInfo. The file holds no time, path, speed or machine and is named by its sha256, so equal
content is one file.
"""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from pydantic import BaseModel
from torch import Tensor

from vosmodels import registry
from vosmodels.errors import InputError
from vosmodels.model import VideoModel
from vosmodels.support.atomic_files import write_whole
from vosmodels.support.digests import check_file, check_sha256, sha256_of
from vosmodels.support.messages import together
from vosmodels.support.tensors import (
    COUNTER,
    check_values,
    is_safetensors,
    read_weights_file,
    unreadable,
)

VERSION = 1
METADATA_KEY = "vos"
_REMEDY = "give a checkpoint (.safetensors)"
_OF_OURS = (
    "a checkpoint of this project; give one, or name the model in a configuration and give these "
    "as its `weights`"
)


@dataclass(frozen=True)
class CheckpointInfo:
    """The description stored in a checkpoint.

    name, config: the model's registry name and whole config; ancestor: the sha256 of the stem that
    training started from, None for a stem; step: optimisation steps since the ancestor; scores: on
    the select split, such as {"j": ..., "f": ..., "jf": ...}; version: of the file format.
    """

    name: str
    config: Mapping[str, Any]
    ancestor: str | None
    step: int
    scores: Mapping[str, float] = field(default_factory=dict)
    version: int = VERSION

    @classmethod
    def of(
        cls,
        model: VideoModel,
        *,
        ancestor: str | None,
        step: int,
        scores: Mapping[str, float] | None = None,
    ) -> CheckpointInfo:
        """Describe a model that was built by `registry.build`."""
        config = model.config.model_dump(mode="json")
        return cls(model.name, config, ancestor, step, dict(scores or {}))


class OtherModel(InputError):
    """Weights of another model than the one they were to be loaded into.

    problem: the message without a remedy; name: the model they are of, by their description or
    because its names and shapes fit, None where no model fits; config: its options, as described.
    """

    def __init__(self, problem: str, name: str | None, config: Mapping[str, Any]) -> None:
        self.problem, self.name, self.config = problem, name, config
        fits = "no model of the registry fits them; give other weights"
        if name is not None:
            options = ", ".join(f"{k} = {v}" for k, v in trained_options(name, config).items())
            fits = f"they fit {name!r}{' with ' if options else ''}{options}: name that model"
        super().__init__(f"{problem}; {fits}")


def trained_options(
    name: str, config: Mapping[str, Any], given: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return the options that a configuration must set for weights of model `name` to fit.

    config: the model's whole config when they were trained; given: options that are set already.
    Options that training may choose freely are left out. Empty for an unknown model.
    """
    if name not in registry.REGISTRY:
        return {}
    fields = registry.entry(name).config.model_fields
    known = {key: value for key, value in (given or {}).items() if key in fields}
    base = registry.config(name, **known)
    own = base.model_dump(mode="json")
    keys = set(own) & set(config) - _free_options(base)
    return {key: config[key] for key in sorted(keys) if own[key] != config[key]}


def write(folder: Path, tensors: Mapping[str, Tensor], info: CheckpointInfo) -> tuple[Path, str]:
    """Write `<sha256>.safetensors` into `folder`; return its path and its sha256.

    The folder is created if absent. The write is atomic, and equal content is not written again;
    a file of that name with other content is corrupt and is replaced.
    Raises InputError if the folder cannot be written or the weights are not finite, ValueError on
    scores that are not finite.
    """
    odd = {name: score for name, score in info.scores.items() if not math.isfinite(score)}
    if odd:
        raise ValueError(f"scores that are not finite: {odd}")
    place = f"{info.name!r} at step {info.step}"
    check_values(place, tensors, "the network has diverged: lower the learning rate")
    data = _written(tensors, info)
    sha256 = sha256_of(data)
    path = folder / f"{sha256}.safetensors"
    try:
        if not path.is_file() or sha256_of(path) != sha256:
            folder.mkdir(parents=True, exist_ok=True)
            write_whole(path, data)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written ({error.strerror}); free space or choose another storage"
        ) from error
    return path, sha256


def content_of(model: VideoModel) -> str:
    """Return the sha256 of a model's name, configuration and weights.

    That of its checkpoint without ancestor, step and scores, which change nothing it computes.
    """
    info = CheckpointInfo.of(model, ancestor=None, step=0)
    return sha256_of(_written(model.state_dict(), info))


def content_in(path: Path) -> str:
    """Return what `content_of` returns of the model in a checkpoint, without building it.

    Raises InputError as `read_tensors`.
    """
    info = replace(read_info(path), ancestor=None, step=0, scores={})
    return sha256_of(_written(read_tensors(path), info))


def halved(path: Path) -> bytes:
    """Return the bytes of a checkpoint with its floating weights rounded to float16.

    Its description, scores included, and its other tensors stay. Raises InputError as
    `read_tensors`, and where float16 has no such large value.
    """
    tensors = read_tensors(path)
    rounded = {k: v.half() if v.is_floating_point() else v for k, v in tensors.items()}
    beyond = [
        f"{name!r} has values up to {float(tensors[name].abs().max()):.1e}"
        for name, value in rounded.items()
        if not value.isfinite().all()
    ]
    if beyond:
        head = f"{path}: {len(beyond)} of {len(tensors)} tensors have no float16 values"
        most = torch.finfo(torch.float16).max
        raise InputError(
            f"{together(head, beyond)}; float16 ends at {most:.0f}: take it whole, without --half"
        )
    return _written(rounded, read_info(path))


def _written(tensors: Mapping[str, Tensor], info: CheckpointInfo) -> bytes:
    """Return the bytes of a checkpoint's file."""
    text = json.dumps(asdict(info), sort_keys=True, separators=(",", ":"), allow_nan=False)
    data: bytes = safetensors.torch.save(
        {key: value.detach().cpu().contiguous() for key, value in tensors.items()},
        metadata={METADATA_KEY: text},
    )
    return data


def read_info(path: Path) -> CheckpointInfo:
    """Read the description of a checkpoint, without its tensors.

    Raises InputError on a missing or unreadable file, weights without our description, or another
    format version.
    """
    info = _stored_info(path)
    if info is None:
        raise InputError(f"{path}: weights without a description, not {_OF_OURS}")
    return info


def read_layout(path: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Read the type and shape of each tensor of a checkpoint by name, without its numbers.

    The type is that of `read_tensors`. Raises InputError as `read_info`.
    """
    read_info(path)  # refuses a file that is no checkpoint
    with safetensors.safe_open(path, framework="pt") as file:
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
        layout = {name: (s.get_dtype(), tuple(s.get_shape())) for name, s in slices.items()}
    return {n: ("F32" if dtype == "F16" else dtype, shape) for n, (dtype, shape) in layout.items()}


def read_tensors(path: Path, sha256: str | None = None) -> dict[str, Tensor]:
    """Read the weights of a checkpoint; a file named by a sha256 must match its name.

    Weights stored as float16 are returned as float32, in which networks and soups compute.
    sha256: the one recorded of this checkpoint, which the file must match, whatever its name.
    Raises InputError as `read_info` and `read_weights_file`, and for a file that does not match.
    Weights files of other projects are read by `load_weights`.
    """
    if sha256 is not None:
        check_file(path, _REMEDY)
        check_sha256(path, sha256)
    read_info(path)  # refuses a file that is no checkpoint
    tensors = read_weights_file(path)
    return {k: v.float() if v.dtype == torch.float16 else v for k, v in tensors.items()}


def load_model(path: Path | str, sha256: str | None = None) -> VideoModel:
    """Build the model of a checkpoint, on the CPU and in eval mode.

    sha256: as in `read_tensors`. Raises InputError as `read_tensors`, and for a model this version
    does not know. Bare weights are refused with the name of the model that they fit, if any.
    """
    path = Path(path)
    info = _stored_info(path)
    if info is None:
        name = _fitting(read_weights_file(path))
        fits = f" (they fit the model {name!r})" if name else ""
        raise InputError(f"{path}: weights without a description{fits}, not {_OF_OURS}")
    tensors = read_tensors(path, sha256)
    try:
        model = registry.blank(info.name, **info.config)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    problem = _mismatch(model, tensors)
    if problem is not None:
        raise InputError(
            f"{path}: corrupt: described as {info.name!r}, but {problem}; fetch or train it again"
        )
    model.load_state_dict(tensors, strict=False)
    return model


def load_weights(model: VideoModel, path: Path) -> CheckpointInfo | None:
    """Load a checkpoint of ours, or a bare .safetensors or .pth file, into `model`.

    Weights of an older layout are adapted by the model (`VideoModel.adapt_weights`). Returns the
    description, or None if the file has none.
    Raises InputError on an unreadable file or a file with code, OtherModel on weights of another
    model; `model` is then unchanged.
    """
    info = _stored_info(path) if is_safetensors(path) else None
    tensors = read_weights_file(path) if info is None else read_tensors(path)
    adapted = model.adapt_weights(tensors)
    problem = _other_config(model, info) if info else None
    if problem is None and (problem := _mismatch(model, adapted)):
        holder = f"{info.name!r} weights" if info else f"{len(tensors)} tensors"
        problem = f"{holder}, wanted {model.name!r}; {problem}"
    if problem is not None:
        bare = _fitting(tensors) if info is None else None
        name, config = (info.name, info.config) if info else (bare, {})
        raise OtherModel(f"{path}: weights of another model: {problem}", name, config)
    model.load_state_dict(adapted, strict=False)
    return info


def fill(model: VideoModel, tensors: Mapping[str, Tensor], place: str) -> None:
    """Load tensors into a model that has them all. Raises InputError where they do not fit.

    place: what they are, for the message.
    """
    problem = _mismatch(model, tensors)
    if problem is not None:
        raise InputError(
            f"{place}: not weights of {model.name!r}: {problem}; use the configuration that they "
            f"were trained with"
        )
    model.load_state_dict(dict(tensors), strict=False)


def _stored_info(path: Path) -> CheckpointInfo | None:
    check_file(path, _REMEDY)
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except Exception as error:  # of whatever class the library words a wrong header in
        raise unreadable(path, error) from error
    if METADATA_KEY not in metadata:
        return None
    try:
        stored = json.loads(metadata[METADATA_KEY])
        version = stored["version"]
        if version == VERSION:
            info = CheckpointInfo(
                **{entry.name: stored[entry.name] for entry in fields(CheckpointInfo)}
            )
            _check_types(info)
            return info
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(
            f"{path}: corrupt description ({error}); fetch or train it again"
        ) from error
    raise InputError(
        f"{path}: checkpoint format {version}; this version reads {VERSION}: use the one that "
        f"wrote it"
    )


def _check_types(info: CheckpointInfo) -> None:
    """Raise ValueError on a description whose fields are not of their types."""
    numbers: Iterable[Any] = info.scores.values() if isinstance(info.scores, dict) else [None]
    right = {
        "name": isinstance(info.name, str),
        "config": isinstance(info.config, dict),
        "ancestor": isinstance(info.ancestor, str | None),
        "step": type(info.step) is int and info.step >= 0,
        "scores": all(type(n) in (int, float) and math.isfinite(n) for n in numbers),
    }
    if wrong := [name for name, fits in right.items() if not fits]:
        raise ValueError(", ".join(f"{name} is {getattr(info, name)!r}"[:60] for name in wrong))


def _fitting(tensors: Mapping[str, Tensor]) -> str | None:
    """Return the registry name of the first model that these weights fit, None without one."""
    for name in registry.REGISTRY:
        model = registry.outline(name)
        if _mismatch(model, model.adapt_weights(tensors)) is None:
            return name
    return None


def _mismatch(model: VideoModel, tensors: Mapping[str, Tensor]) -> str | None:
    """Say in which names, shapes or kinds of numbers tensors differ from a model's own."""
    own = model.state_dict()
    missing = [key for key in own if key not in tensors and not key.endswith(COUNTER)]
    extra = [key for key in tensors if key not in own]
    if missing or extra:
        parts = []
        if missing:
            near = _nearest(missing[0], extra or list(tensors), "there")
            parts.append(f"{len(missing)} missing, first {missing[0]!r}{near}")
        if extra:
            near = "" if missing else _nearest(extra[0], list(own), "wanted")
            parts.append(f"{len(extra)} unknown, first {extra[0]!r}{near}")
        return "; ".join(parts)
    for key, value in tensors.items():
        if value.shape != own[key].shape:
            return f"{key!r} has shape {tuple(value.shape)}, wanted {tuple(own[key].shape)}"
        if value.is_floating_point() != own[key].is_floating_point():
            return f"{key!r} is {value.dtype}, wanted {own[key].dtype}"
    return None


def _nearest(key: str, keys: list[str], where: str) -> str:
    near = difflib.get_close_matches(key, keys, n=1)
    return f" (nearest {where}: {near[0]!r})" if near else ""


def _other_config(model: VideoModel, info: CheckpointInfo) -> str | None:
    """Say in which option a model and a description differ; free ones may."""
    config = model.config.model_dump(mode="json")
    for option in sorted(set(config) & set(info.config) - _free_options(model.config)):
        if config[option] != info.config[option]:
            return (
                f"{info.name!r} with {option} = {info.config[option]}, wanted {model.name!r} with "
                f"{option} = {config[option]}"
            )
    return None


def _free_options(config: BaseModel) -> frozenset[str]:
    """Return the options of a model that may differ from those its weights were trained with."""
    free: frozenset[str] = getattr(type(config), "free_options", frozenset())
    return free
