"""Follow objects with exported graphs: numpy and a runtime, no torch.

This file stands alone: a copy of it lies beside the graphs, and it reads nothing but their folder.

    python runner.py FRAMES FIRST.png OUT   # a folder of pictures, the first one's mask; by pillow

    runner = Runner("exported")
    ids = runner.step(frame, mask)  # the first frame (3, H, W) in [0, 1], mask (H, W) of ids
    ids = runner.step(frame)        # every later frame
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
F32 = np.ndarray[Any, np.dtype[np.float32]]
I64 = np.ndarray[Any, np.dtype[np.int64]]
Run = Callable[[Mapping[str, F32]], Mapping[str, F32]]  # named inputs to named outputs

SIDECAR = "student.json"
VERSION = 1
MAX_ID = 255
RANGE_SLACK = 0.1  # accepted overshoot of [0, 1], as resampling overshoots a little


class RunnerError(ValueError):
    """A folder that cannot be run."""


class Memory:
    """The frames that each slot remembers, as the step graph takes them.

    key (N, T, P, C_k), value (N, T, P, C_v), bias (N, T): 0 for a frame that the slot remembers,
    `hidden` for a place without one. The first frame of a slot stays. Every `every`-th later frame
    stays too, the oldest of them making room; with `last` the latest frame stands beside them until
    the next.
    """

    reuses_slots = True

    def __init__(
        self,
        key: Sequence[int],
        value: Sequence[int],
        *,
        every: int,
        last: bool,
        hidden: float,
    ) -> None:
        self.key = np.zeros(key, np.float32)
        self.value = np.zeros(value, np.float32)
        self.bias = np.full(key[:2], hidden, np.float32)
        self._every, self._last, self._hidden = every, last, hidden
        self._places: list[list[int]] = [[] for _ in range(key[0])]  # of a slot, oldest first
        self._age = 0  # frames since the last that stays
        self._passing = False  # the newest frame of every slot goes when the next comes

    def forget(self, slot: int) -> None:
        """Empty a slot."""
        self._places[slot] = []
        self.bias[slot] = self._hidden

    def given(self, key: F32, value: F32, slots: Sequence[int]) -> None:
        """Keep a frame whose masks were given: key (P, C_k), value (N, P, C_v)."""
        self._put(key, value, slots)
        self._age, self._passing = 0, False

    def predicted(self, key: F32, value: F32, slots: Sequence[int]) -> None:
        """Keep a frame whose masks were predicted, if it is due."""
        passing = self._age + 1 < self._every
        if (passing and not self._last) or self.key.shape[1] == 1:
            self._age += 1
            return
        self._put(key, value, slots)
        self._age, self._passing = (self._age + 1 if passing else 0), passing

    def _put(self, key: F32, value: F32, slots: Sequence[int]) -> None:
        most = self.key.shape[1]
        for slot in slots:
            staying = self._places[slot][:-1] if self._passing else self._places[slot]
            if len(staying) == most:  # the first stays, the second makes room
                staying = staying[:1] * (most > 1) + staying[2:]
            place = next(p for p in range(most) if p not in staying)
            self._places[slot] = [*staying, place]
            self.key[slot, place] = key
            self.value[slot, place] = value[slot]
            self.bias[slot] = self._hidden
            self.bias[slot, self._places[slot]] = 0


class SharedMemory:
    """The frames that all slots remember together, as the step graph takes them.

    key (L, T, P, C_k), value (L, T, P, C_v) of L layers: the last place holds the latest frame, the
    others frames that stay; bias (T - 1,): 0 for one of these with a frame, `hidden` for one
    without. A frame with given masks always stays. Every `every`-th frame behind it stays too, as
    long as `queue` do at most, the oldest making room.
    """

    reuses_slots = False  # the frames that stay show a removed object to the end

    def __init__(
        self, key: Sequence[int], value: Sequence[int], *, every: int, queue: int, hidden: float
    ) -> None:
        self.key = np.zeros(key, np.float32)
        self.value = np.zeros(value, np.float32)
        self.bias = np.full(key[1] - 1, hidden, np.float32)
        self._every, self._queue, self._hidden = every, queue, hidden
        self._given: list[int] = []  # places of frames with given masks
        self._later: list[int] = []  # places of other frames that stay, oldest first
        self._age = 0  # frames since the last that was to stay

    def forget(self, slot: int) -> None:
        """Do nothing: a slot is used once, and is empty before."""

    def given(self, key: F32, value: F32, slots: Sequence[int]) -> None:
        """Keep a frame whose masks were given: key (L, P, C_k), value (L, P, C_v).

        Raises ValueError where every place holds such a frame.
        """
        if len(self._given) == len(self.bias):
            raise ValueError(
                f"{len(self._given)} frames with masks were given, and the graphs have no place "
                "for another; reset, or export with more --objects or a --memory of more frames"
            )
        self._keep_newest(self._queue - len(self._given) - 1)
        self._given.append(self._put(key, value))
        self._show(key, value)
        self._age = 0

    def predicted(self, key: F32, value: F32, slots: Sequence[int]) -> None:
        """Keep a frame whose masks were predicted: as the latest, and for long if it is due."""
        self._age = (self._age + 1) % self._every
        room = self._queue - len(self._given)
        if not self._age and room > 0:
            self._keep_newest(room - 1)
            self._later.append(self._put(key, value))
        self._show(key, value)

    def _keep_newest(self, count: int) -> None:
        """Keep at most so many of the later frames."""
        self._later = self._later[-count:] if count > 0 else []

    def _put(self, key: F32, value: F32) -> int:
        """Write a frame to a free place; return which."""
        taken = (*self._given, *self._later)
        place = next(p for p in range(len(self.bias)) if p not in taken)
        self.key[:, place], self.value[:, place] = key, value
        return place

    def _show(self, key: F32, value: F32) -> None:
        """Write the latest frame, and let the graph read the frames that stay."""
        self.key[:, -1], self.value[:, -1] = key, value
        self.bias[:] = self._hidden
        self.bias[[*self._given, *self._later]] = 0


class Runner:
    """A segmenter of one video at a time, as `VideoSegmenter`, on the graphs of a folder.

    Ids are any of 1..255. A step that raises ValueError changes nothing. threads: of the CPU, None
    for the runtime's own choice. Raises RunnerError on a folder that cannot be run.
    """

    def __init__(self, folder: Path | str, *, threads: int | None = None) -> None:
        self.folder = Path(folder)
        self.sidecar = read_sidecar(self.folder)
        frame, memory = self.sidecar["frame"], self.sidecar["memory"]
        self.size: tuple[int, int] = (frame["height"], frame["width"])
        self.objects: int = self.sidecar["objects"]
        self._shapes = {
            name: [*graph["inputs"].items()] for name, graph in self.sidecar["graphs"].items()
        }
        shapes = [dict(self._shapes["step"])[f"memory_{x}"] for x in ("key", "value")]
        shared = memory.get("kind") == "shared"
        words = ("every", "queue" if shared else "last", "hidden")
        rule = {word: memory[word] for word in words}
        kind: type[Memory | SharedMemory] = SharedMemory if shared else Memory
        self._new_memory = partial(kind, *shapes, **rule)
        self._begin = open_graph(self.folder, self.sidecar, "begin", threads)
        self._step = open_graph(self.folder, self.sidecar, "step", threads)
        self.reset()

    def reset(self) -> None:
        """Forget the video: the next frame is the first of another video."""
        self._memory = self._new_memory()
        self._slots: dict[int, int] = {}  # id -> slot from 0
        self._used: list[int] = []  # slots that the network follows, those of removed objects too
        self._probabilities: F32 | None = None

    @property
    def ids(self) -> tuple[int, ...]:
        """Return the ids of the objects, in the order of `probabilities`' channels."""
        return tuple(self._slots)

    @property
    def probabilities(self) -> F32:
        """Return the latest frame's probabilities (1 + len(ids), H, W), background first.

        They sum to 1 over channels. Raises ValueError before the first step.
        """
        if self._probabilities is None:
            raise ValueError("no frame yet: call step first")
        return self._probabilities

    def remove(self, object_id: int) -> None:
        """Remove an object: its pixels are background from the next frame on.

        The same id in a later mask is a new object. Raises ValueError on an id that is not
        followed.
        """
        if object_id not in self._slots:
            raise ValueError(f"object {object_id} is not followed; there are {list(self.ids)}")
        del self._slots[object_id]

    def step(self, frame: Array, mask: Array | None = None) -> I64:
        """Segment a frame (3, H, W) in [0, 1], float, and return its ids (H, W) int64.

        mask (H, W) integer ids: needed on the first frame, allowed on any frame in which objects
        appear or are corrected. The objects of the mask get exactly the mask's pixels; the other
        pixels keep the prediction of the other objects.
        Raises ValueError on a first frame without a mask, a mask without objects, more objects than
        the graphs have slots, more masks than a shared memory has places, a frame of another size
        than the graphs', NaN or values outside [0, 1], ids out of range.
        """
        picture = self._checked_frame(frame)
        if mask is not None:
            return self._given(picture, self._checked_mask(mask))
        if not self._used:
            raise ValueError("the first frame needs a mask: step(frame, mask)")
        probabilities, key, value = self._predicted(picture)
        self._memory.predicted(key, value, self._used)
        return self._accept(probabilities)

    def _given(self, picture: F32, mask: I64) -> I64:
        ids = [int(i) for i in np.unique(mask) if i]
        if not ids:
            raise ValueError("mask without objects: every pixel is 0")
        slots, used = dict(self._slots), list(self._used)
        for new in (i for i in ids if i not in slots):
            slots[new] = self._free_slot(slots, used)
            used = [*used, slots[new]] if slots[new] not in used else used
        maps = np.zeros((self.objects + 1, *self.size), np.float32)
        for i in ids:
            maps[slots[i] + 1] = mask == i
        maps[0] = mask == 0
        if self._used:
            predicted, _, _ = self._predicted(picture)
            others = [slot for i, slot in self._slots.items() if i not in ids]
            maps = np.where(mask > 0, maps, _only(predicted, others))
        best = _best(maps)
        masks = best == np.arange(1, self.objects + 1)[:, None, None]
        out = self._begin({"frame": picture, "masks": masks[None].astype(np.float32)})
        for slot in set(slots.values()) - set(self._slots.values()):
            self._memory.forget(slot)
        self._memory.given(out["key"], out["value"], used)
        self._slots, self._used = slots, used
        return self._accept(maps)

    def _free_slot(self, slots: Mapping[int, int], used: Sequence[int]) -> int:
        """Return a slot for a new object: a fresh one, else that of a removed object if it can."""
        taken = set(slots.values())
        places = [s for s in range(self.objects) if s not in used and s not in taken]
        reuses = self._memory.reuses_slots
        places += [s for s in used if s not in taken and reuses]
        if not places:
            raise ValueError(
                f"more than {self.objects} objects: the graphs have no slot for another; "
                f"{'remove one' if reuses else 'reset'}, or export with more --objects"
            )
        return places[0]

    def _predicted(self, picture: F32) -> tuple[F32, F32, F32]:
        present = np.zeros(self.objects, np.float32)
        present[self._used] = 1
        memory = self._memory
        out = self._step(
            {
                "frame": picture,
                "memory_key": memory.key,
                "memory_value": memory.value,
                "memory_bias": memory.bias,
                "present": present,
            }
        )
        return out["probabilities"], out["key"], out["value"]

    def _accept(self, probabilities: F32) -> I64:
        """Keep the followed objects' probabilities; return the ids of the likeliest."""
        slots = list(self._slots.values())
        if len(slots) < len(self._used):  # removed objects
            probabilities = _only(probabilities, slots)
        kept = probabilities[[0, *(slot + 1 for slot in slots)]]
        self._probabilities = kept
        ids: I64 = np.array([0, *self._slots], np.int64)[_best(kept)]
        return ids

    def _checked_frame(self, frame: Array) -> F32:
        frame = np.asarray(frame)
        if frame.shape != (3, *self.size) or not np.issubdtype(frame.dtype, np.floating):
            raise ValueError(
                f"frame of shape {frame.shape}, {frame.dtype}: these graphs take "
                f"(3, {self.size[0]}, {self.size[1]}) float"
            )
        low, high = float(frame.min()), float(frame.max())
        if not (low >= -RANGE_SLACK and high <= 1 + RANGE_SLACK):  # NaN fails both
            raise ValueError(f"frame with values {low:g}..{high:g}: frames are finite, in [0, 1]")
        return np.ascontiguousarray(frame[None], np.float32)

    def _checked_mask(self, mask: Array) -> I64:
        mask = np.asarray(mask)
        if mask.shape != self.size:
            raise ValueError(f"mask of shape {mask.shape}, the frame is {self.size}")
        if not np.issubdtype(mask.dtype, np.integer):
            raise ValueError(f"mask of {mask.dtype}: ids are integers, 0 = background")
        low, high = int(mask.min()), int(mask.max())
        if low < 0 or high > MAX_ID:
            raise ValueError(f"mask with ids {low}..{high}: ids are 0..{MAX_ID}")
        return mask.astype(np.int64)


def _best(probabilities: F32) -> I64:
    """Return argmax over the first axis, which takes many times as long; ties go to the first."""
    highest, channel = probabilities[0], np.zeros(probabilities.shape[1:], np.int64)
    for k in range(1, len(probabilities)):
        channel[probabilities[k] > highest] = k
        highest = np.maximum(highest, probabilities[k])
    return channel


def _only(probabilities: F32, slots: Sequence[int]) -> F32:
    """Keep the probabilities of `slots`; those of other slots go to the background."""
    rest = np.zeros_like(probabilities)
    for slot in slots:
        rest[slot + 1] = probabilities[slot + 1]
    rest[0] = 1 - rest.sum(0)
    return rest


def read_sidecar(folder: Path) -> dict[str, Any]:
    """Read what the graphs of a folder are. Raises RunnerError on a file that cannot be used."""
    path = folder / SIDECAR
    try:
        sidecar: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        version = sidecar["version"]
    except FileNotFoundError:
        raise RunnerError(f"{path}: no such file; give a folder of vosmodels.export") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunnerError(f"{path}: not the description of an export ({error})") from error
    if version != VERSION:
        raise RunnerError(f"{path}: format version {version}; this runner reads {VERSION}")
    return sidecar


def open_graph(folder: Path, sidecar: Mapping[str, Any], name: str, threads: int | None) -> Run:
    """Load a graph into its runtime. Raises RunnerError on a missing or changed file."""
    graph = sidecar["graphs"][name]
    path = folder / graph["file"]
    try:
        data = path.read_bytes()
    except OSError as error:
        raise RunnerError(f"{path}: cannot be read ({error.strerror})") from error
    if hashlib.sha256(data).hexdigest() != graph["sha256"]:
        raise RunnerError(f"{path}: its sha256 is not that of {SIDECAR}; export again")
    return RUNTIMES[sidecar["runtime"]](data, list(graph["outputs"]), threads)


def _onnx(data: bytes, outputs: Sequence[str], threads: int | None) -> Run:
    try:
        import onnxruntime
    except ImportError:
        raise RunnerError(
            "these graphs need ONNX Runtime: pip install onnxruntime, or 'vos-distill[onnx]'"
        ) from None
    options = onnxruntime.SessionOptions()
    if threads:
        options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return lambda inputs: dict(zip(outputs, session.run(outputs, dict(inputs)), strict=True))


def _litert(data: bytes, outputs: Sequence[str], threads: int | None) -> Run:
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        raise RunnerError(
            "these graphs need LiteRT: pip install ai-edge-litert, or 'vos-distill[litert]'"
        ) from None
    interpreter = Interpreter(model_content=data, num_threads=threads or os.cpu_count())
    interpreter.allocate_tensors()
    run = interpreter.get_signature_runner()
    return lambda inputs: run(**inputs)


def _executorch(data: bytes, outputs: Sequence[str], threads: int | None) -> Run:
    try:
        import torch
        from executorch.extension.pybindings import portable_lib
        from executorch.runtime import Runtime
    except ImportError:
        raise RunnerError(
            "these graphs need ExecuTorch and torch: pip install executorch torch, "
            "or 'vos-distill[executorch]'"
        ) from None
    if threads:
        portable_lib._unsafe_reset_threadpool(threads)  # the only call: of the whole process
    program = Runtime.get().load_program(data)
    order = program.load_method("inputs").execute([])[0].split(",")
    loaded = (program.load_method("forward"), program)  # it reads the bytes that program holds

    def run(inputs: Mapping[str, F32]) -> Mapping[str, F32]:
        found = loaded[0].execute([torch.from_numpy(inputs[name]) for name in order])
        return {name: x.numpy() for name, x in zip(outputs, found, strict=True)}

    return run


RUNTIMES: Mapping[str, Callable[[bytes, Sequence[str], int | None], Run]] = {
    "onnx": _onnx,
    "litert": _litert,
    "executorch": _executorch,
}


def main(words: Sequence[str]) -> int:
    """Segment a folder of pictures with the graphs beside this file; return the exit code.

    words: FRAMES FIRST.png OUT. Pictures are scaled to the graphs' size, and their masks back.
    """
    if len(words) != 3:
        print("usage: python runner.py FRAMES FIRST.png OUT", file=sys.stderr)
        return 2
    try:
        count = follow(Runner(Path(__file__).parent), *map(Path, words))
    except (ImportError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{count} masks in {words[2]}")
    return 0


def follow(runner: Runner, frames: Path, first: Path, out: Path) -> int:
    """Write a palette PNG into `out` for each picture of a folder; return how many.

    frames: pictures in the order of their names; first: the ids of the first one's objects, a
    palette or grey PNG of its size. Raises ValueError as `Runner.step`, and on no pictures or a
    mask of another size; OSError on a file that cannot be read or written.
    """
    from PIL import Image

    def read(path: Path) -> Image.Image:
        with Image.open(path) as picture:
            return picture.copy()

    paths = sorted(p for p in frames.iterdir() if p.suffix.lower() in (".jpg", ".jpeg", ".png"))
    if not paths:
        raise ValueError(f"{frames}: no .jpg or .png in it")
    height, width = runner.size
    given = read(first)
    mask: Array | None = np.asarray(given.resize((width, height), Image.Resampling.NEAREST))
    palette = given.getpalette() or [v for i in range(256) for v in _colour(i)]
    out.mkdir(parents=True, exist_ok=True)
    for path in paths:
        picture = read(path).convert("RGB")
        if mask is not None and picture.size != given.size:
            raise ValueError(f"{first}: {given.size}, the first picture is {picture.size}")
        small = np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))
        ids = runner.step(small.transpose(2, 0, 1) / np.float32(255), mask)
        answer = Image.fromarray(ids.astype(np.uint8)).resize(
            picture.size, Image.Resampling.NEAREST
        )
        answer.putpalette(palette)
        answer.save(out / f"{path.stem}.png")
        mask = None
    return len(paths)


def _colour(number: int) -> tuple[int, int, int]:
    """Return the colour that DAVIS gives an id: its bits, spread over red, green and blue."""
    bits = [[number >> (3 * place + c) & 1 for place in range(3)] for c in range(3)]
    red, green, blue = (sum(bit << (7 - k) for k, bit in enumerate(c)) for c in bits)
    return red, green, blue
