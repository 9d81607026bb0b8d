"""Read weights files: safetensors, or torch files that hold tensors alone."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from vosmodels.errors import InputError

STATE_DICTS = ("state_dict", "model")  # keys under which training scripts save weights
WRAPPER = "module."


def read_weights_file(path: Path) -> dict[str, Tensor]:
    """Read the tensors of any .safetensors or torch file; code in it is never run.

    A torch file may hold the weights alone, or under `state_dict` or `model` beside an optimizer's
    state, as training scripts save them; `module.` in front of every name is taken off.
    Checkpoints of this project are read by `vosmodels.checkpoint`, which checks them too.
    Raises InputError: file missing, corrupt, holding code, or not a plain dict of tensors.
    """
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "no such file"
        raise InputError(f"{path}: {what}; give a .safetensors or .pth file with weights")
    if path.suffix == ".safetensors":
        try:
            tensors: dict[str, Tensor] = safetensors.torch.load_file(path)
        except (safetensors.SafetensorError, OSError) as error:
            raise InputError(f"{path}: not a readable safetensors file ({error})") from error
        return _without_wrapper(tensors)
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{path}: refused, because it is not weights alone: a pickle can run code when it is "
            f"opened ({_first_line(error)}); save the state_dict as .safetensors and give that"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, LookupError) as error:
        raise InputError(f"{path}: not a readable torch file ({_first_line(error)})") from error
    loaded = _state_dict_in(loaded)
    if not isinstance(loaded, Mapping) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in loaded.items()
    ):
        raise InputError(
            f"{path}: holds a {type(loaded).__name__}, not names with tensors; save the model's "
            f"state_dict alone"
        )
    return _without_wrapper(dict(loaded))


def _state_dict_in(loaded: Any) -> Any:
    """Return the weights in a training script's file, or the loaded object itself.

    Training scripts save the weights under one of STATE_DICTS, beside an optimizer's state.
    """
    if isinstance(loaded, Mapping):
        for key in STATE_DICTS:
            if isinstance(loaded.get(key), Mapping) and loaded[key]:
                return loaded[key]
    return loaded


def _without_wrapper(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Strip the `module.` that DataParallel and DDP put in front of all names."""
    if tensors and all(name.startswith(WRAPPER) for name in tensors):
        return {name.removeprefix(WRAPPER): value for name, value in tensors.items()}
    return tensors


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0].strip()
