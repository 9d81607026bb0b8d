"""Read weights files: safetensors, or torch files that hold tensors alone."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from vosmodels.errors import InputError
from vosmodels.support.digests import check_file, check_name
from vosmodels.support.messages import together

SAFETENSORS = ".safetensors"
STATE_DICTS = ("state_dict", "model")  # keys under which training scripts save weights
WRAPPER = "module."
COUNTER = "num_batches_tracked"  # BatchNorm's count of steps, an integer
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
_REMEDY = "give a .safetensors or .pth file with weights"
_TENSORS_NAMED = 8  # unusable tensors that a message names


def read_weights_file(path: Path) -> dict[str, Tensor]:
    """Read the tensors of any .safetensors or torch file; code in it is never run.

    A torch file may hold the weights alone, or under `state_dict` or `model` beside an optimizer's
    state, as training scripts save them; `module.` in front of every name is taken off.
    Checkpoints of this project are read by `vosmodels.checkpoint`, which checks them too.
    Raises InputError: file missing, corrupt, not the one that its sha256 as a name says, holding
    code, not a plain dict of tensors, or with values as in `check_values`.
    """
    check_file(path, _REMEDY)
    check_name(path)
    read = _read_safetensors if is_safetensors(path) else _read_torch
    tensors = _without_wrapper(read(path))
    if not tensors:
        raise InputError(f"{path}: holds no tensors; {_REMEDY}")
    check_values(path, tensors)
    return tensors


def is_safetensors(path: Path) -> bool:
    """Return True where a file is named as safetensors, in any case."""
    return path.suffix.lower() == SAFETENSORS


def unreadable(path: Path, error: Exception) -> InputError:
    """Word a safetensors file that the library refuses: cut short, or with a wrong header."""
    return InputError(
        f"{path}: not a readable safetensors file ({_first_line(error)}); it is cut short or "
        f"damaged: fetch or write it again"
    )


def check_values(
    place: Path | str,
    tensors: Mapping[str, Tensor],
    remedy: str = "give whole weights in float16, bfloat16, float32 or float64",
) -> None:
    """Raise InputError that names the tensors a network cannot compute with.

    Weights are finite floats of 16 to 64 bits within the range of float32. Integers may be counters
    such as BatchNorm's num_batches_tracked, single values. place: their file, for the message.
    """
    problems = [
        f"{name!r} {problem}"
        for name, value in tensors.items()
        if (problem := _unusable(name, value)) is not None
    ]
    if problems:
        head = f"{place}: {len(problems)} of {len(tensors)} tensors are no usable weights"
        raise InputError(f"{together(head, problems, most=_TENSORS_NAMED)}; {remedy}")


def _unusable(name: str, value: Tensor) -> str | None:
    """Say why a tensor is no weight; None if it is one."""
    if value.is_meta:
        return "is on the device 'meta', without values"
    if value.is_quantized or value.layout != torch.strided:
        return f"is {'quantized' if value.is_quantized else value.layout}"
    kind = str(value.dtype).removeprefix("torch.")
    if value.dtype in INTEGERS and (name.endswith(COUNTER) or value.ndim == 0):
        return None
    if value.dtype not in FLOATS:
        return f"is {kind}"
    if value.numel() * value.element_size() > value.untyped_storage().nbytes():
        return f"repeats its stored values to {tuple(value.shape)}"
    for word, odd in (("NaN", value.isnan()), ("infinite values", value.isinf())):
        if odd.any():
            return f"has {word} ({int(odd.sum())} of {value.numel()})"
    if value.dtype == torch.float64 and not value.float().isfinite().all():
        return f"has values out of the range of float32, up to {float(value.abs().max()):.1e}"
    return None


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        tensors: dict[str, Tensor] = safetensors.torch.load_file(path)
    except Exception as error:  # by the header: unknown dtypes end as KeyError, for one
        raise unreadable(path, error) from error
    return tensors


def _read_torch(path: Path) -> dict[str, Tensor]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such as torch's about a TorchScript archive
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if not path.read_bytes()[:2].startswith((b"PK", b"\x80")):
            raise InputError(f"{path}: not a torch file, nor .safetensors; {_REMEDY}") from error
        raise InputError(
            f"{path}: refused, because it is not weights alone: a pickle can run code when it is "
            f"opened ({_reason(error)}); save the state_dict as .safetensors and give that"
        ) from error
    except Exception as error:  # a damaged pickle ends in any class, as its opcodes decide
        raise InputError(
            f"{path}: not a readable torch file ({_first_line(error)}); fetch it again, or save "
            f"the state_dict as .safetensors and give that"
        ) from error
    loaded = _state_dict_in(loaded)
    if not isinstance(loaded, Mapping):
        raise InputError(
            f"{path}: holds a {type(loaded).__name__}, not names with tensors; save the model's "
            f"state_dict alone"
        )
    odd = [key for key, v in loaded.items() if not (isinstance(key, str) and isinstance(v, Tensor))]
    if odd:
        raise InputError(
            f"{path}: holds a {type(loaded).__name__} with a {type(loaded[odd[0]]).__name__} under "
            f"{odd[0]!r}, not names with tensors; save the model's state_dict alone"
        )
    return dict(loaded)


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


def _reason(error: pickle.UnpicklingError) -> str:
    """Return what torch's reader met, without torch's advice to run the code after all."""
    _, found, reason = str(error).partition("WeightsUnpickler error: ")
    return reason.splitlines()[0].strip() if found else "not a pickle of tensors"


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0].strip()
