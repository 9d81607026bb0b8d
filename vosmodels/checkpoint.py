"""Read and write checkpoints: weights, model configuration and select scores.

A checkpoint is a safetensors file whose header has one metadata key, `vos`: canonical JSON of
CheckpointInfo. The file holds no time, path, speed or machine and is named by its sha256, so equal
content is one file.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from vosmodels import registry
from vosmodels.errors import InputError
from vosmodels.model import VideoModel
from vosmodels.support.atomic_files import write_whole
from vosmodels.support.tensors import read_weights_file

VERSION = 1
METADATA_KEY = "vos"
SHA256_NAME = re.compile(r"[0-9a-f]{64}")


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


def write(folder: Path, tensors: Mapping[str, Tensor], info: CheckpointInfo) -> tuple[Path, str]:
    """Write `<sha256>.safetensors` into `folder`; return its path and its sha256.

    The folder is created if absent. The write is atomic, and equal content is not written again.
    Raises InputError if the folder cannot be written, ValueError on scores that are not finite.
    """
    odd = {name: score for name, score in info.scores.items() if not math.isfinite(score)}
    if odd:
        raise ValueError(f"scores that are not finite: {odd}")
    text = json.dumps(asdict(info), sort_keys=True, separators=(",", ":"), allow_nan=False)
    data = safetensors.torch.save(
        {key: value.detach().cpu().contiguous() for key, value in tensors.items()},
        metadata={METADATA_KEY: text},
    )
    sha256 = hashlib.sha256(data).hexdigest()
    path = folder / f"{sha256}.safetensors"
    try:
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            write_whole(path, data)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written ({error.strerror}); free space or choose another storage"
        ) from error
    return path, sha256


def read_info(path: Path) -> CheckpointInfo:
    """Read the description of a checkpoint, without its tensors.

    Raises InputError on a missing or unreadable file, weights without our description, or another
    format version.
    """
    info = _stored_info(path)
    if info is None:
        raise InputError(
            f"{path}: weights without a description, not a checkpoint of this project; give one, "
            f"or name the model and load these as its weights"
        )
    return info


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read the weights of a checkpoint; a file named by a sha256 must match its name.

    Raises InputError as `read_info`, and for a file that does not match. Weights files of other
    projects are read by `load_weights`.
    """
    read_info(path)  # refuses a file that is no checkpoint
    if SHA256_NAME.fullmatch(path.stem):
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        if sha256 != path.stem:
            raise InputError(
                f"{path}: corrupt: its sha256 is {sha256[:12]}..., not the one it is named by; "
                f"delete it and fetch or train it again"
            )
    return read_weights_file(path)


def load_model(path: Path | str) -> VideoModel:
    """Build the model of a checkpoint, on the CPU and in eval mode.

    Raises InputError as `read_tensors`, and for a model this version does not know.
    """
    path = Path(path)
    tensors, info = read_tensors(path), read_info(path)
    try:
        model = registry.build(info.name, seed=0, **info.config)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    _load(model, tensors, path, info)
    return model


def load_weights(model: VideoModel, path: Path) -> CheckpointInfo | None:
    """Load a checkpoint of ours, or a bare .safetensors or .pth file, into `model`.

    Weights of an older layout are adapted by the model (`VideoModel.adapt_weights`). Returns the
    description, or None if the file has none.
    Raises InputError on an unreadable file, a file with code, or weights of another model; `model`
    is then unchanged.
    """
    info = _stored_info(path) if path.suffix == ".safetensors" else None
    tensors = read_weights_file(path) if info is None else read_tensors(path)
    _load(model, model.adapt_weights(tensors), path, info)
    return info


def _stored_info(path: Path) -> CheckpointInfo | None:
    if not path.is_file():
        raise InputError(f"{path}: no such file; give a checkpoint (.safetensors)")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (safetensors.SafetensorError, OSError) as error:
        raise InputError(f"{path}: not a readable safetensors file ({error})") from error
    if METADATA_KEY not in metadata:
        return None
    try:
        stored = json.loads(metadata[METADATA_KEY])
        version = stored["version"]
        if version == VERSION:
            return CheckpointInfo(
                **{entry.name: stored[entry.name] for entry in fields(CheckpointInfo)}
            )
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: corrupt description ({error})") from error
    raise InputError(
        f"{path}: checkpoint format {version}; this version reads {VERSION}: use the one that "
        f"wrote it"
    )


def _load(
    model: VideoModel, tensors: Mapping[str, Tensor], path: Path, info: CheckpointInfo | None
) -> None:
    """Load the state dict after all checks, so that loading cannot fail half-way."""
    own = model.state_dict()
    if info is not None:
        _compare_configs(model, path, info)
    holder = f"{info.name!r} weights" if info else f"{len(tensors)} tensors"
    another = f"{path}: weights of another model: {holder}, wanted {model.name!r}"
    counters = {key for key in own if key.endswith("num_batches_tracked")}
    missing = [key for key in own if key not in tensors and key not in counters]
    extra = [key for key in tensors if key not in own]
    if missing or extra:
        parts = []
        if missing:
            near = _nearest(missing[0], extra or list(tensors), "there")
            parts.append(f"{len(missing)} missing, first {missing[0]!r}{near}")
        if extra:
            near = "" if missing else _nearest(extra[0], list(own), "wanted")
            parts.append(f"{len(extra)} unknown, first {extra[0]!r}{near}")
        raise InputError(f"{another}; {'; '.join(parts)}; name the model they are of")
    for key, value in tensors.items():
        if value.shape != own[key].shape:
            raise InputError(
                f"{another}; {key!r} has shape {tuple(value.shape)}, wanted "
                f"{tuple(own[key].shape)}; name the model and the options they are of"
            )
    model.load_state_dict(tensors, strict=False)


def _nearest(key: str, keys: list[str], where: str) -> str:
    near = difflib.get_close_matches(key, keys, n=1)
    return f" (nearest {where}: {near[0]!r})" if near else ""


def _compare_configs(model: VideoModel, path: Path, info: CheckpointInfo) -> None:
    config = model.config.model_dump(mode="json")
    free: frozenset[str] = getattr(type(model.config), "free_options", frozenset())
    for option in sorted(set(config) & set(info.config) - free):
        if config[option] != info.config[option]:
            raise InputError(
                f"{path}: weights of another model: {info.name!r} with {option} = "
                f"{info.config[option]}, wanted {model.name!r} with {option} = {config[option]}; "
                f"set that option as they were trained"
            )
