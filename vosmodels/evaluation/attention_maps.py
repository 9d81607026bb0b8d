"""Compute where the attention of a model looks in a frame, as Figures 8 to 10 of the second paper.

arXiv:2401.13937, appendix C, shows a map of attention over a frame, its key points, and the keys of
one query. It leaves open whose attention the map is. Here it is that of an object: the mean over
the positions of the object's predicted mask, and over heads, of the softmax weights that each key
gets, so that the map says where the network looks to segment that object. A key of a deformable
attention is spread over the places that it was sampled at, by the shares of the bilinear sampling:

    A(q) = 1/S sum_i sum_r a_r I(p_i(r), q),   p_i(r) = r + delta_i(r), I of equation 4

which is the weight that the map's value at q has in the result, mean over the S groups of channels.

Positions are those of the features at stride 16; corners are aligned with those of the frame.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vosmodels.data.frames import frame_tensor
from vosmodels.errors import InputError
from vosmodels.inference.fold import for_inference
from vosmodels.inference.segmenter import VideoSegmenter
from vosmodels.model import VideoModel
from vosmodels.support.channels import best
from vosmodels.support.watching import resolve
from vosmodels.types import U8, AttentionKind, Watched, WatchedPropagator

F32 = NDArray[np.float32]
KINDS: tuple[AttentionKind, ...] = get_args(AttentionKind)
SHOWN = 0.5  # of the map's maximum: what Figure 8 displays
KEY_POINT = 0.85  # of the map's maximum: what Figure 9 calls a key point
TOP_KEYS = 200  # of a query, in Figure 10


@dataclass(frozen=True)
class Look:
    """One attention in one frame, from the positions of one object.

    kind, layer: of the attention; frame: number of the frame whose positions are the queries; ids
    (H, W): its predicted mask; obj: the object, None where none is predicted; size (h, w): of the
    positions; queries (hw,): True at the object's positions, everywhere without an object;
    weights (hw, T, hw): of the softmax, mean over heads, from queries to the keys of T frames;
    held: the numbers of these T frames, for `self` that of the frame itself; places (S, hw, 2):
    x and y, in positions, at which a frame's keys are sampled, one group for an attention that is
    not deformable; deformable: whether it is.
    """

    kind: AttentionKind
    layer: int
    frame: int
    ids: U8
    obj: int | None
    size: tuple[int, int]
    queries: NDArray[np.bool_]
    weights: F32
    held: tuple[int, ...]
    places: F32
    deformable: bool

    @cached_property
    def received(self) -> F32:
        """Return the attention that each key gets of the object, (T, hw); the sum is 1."""
        return np.asarray(self.weights[self.queries].mean(0), dtype=np.float32)

    @cached_property
    def seen(self) -> int:
        """Return the place in `held` of the frame that gets most attention."""
        return int(self.received.sum(1).argmax())

    @property
    def seen_frame(self) -> int:
        """Return the number of the frame that `map` is of."""
        return self.held[self.seen]

    @cached_property
    def map(self) -> F32:
        """Return the attention on the frame `seen_frame`, (h, w), its maximum 1."""
        spread = spread_out(self.received[self.seen], self.places, self.size)
        return np.asarray(spread / (float(spread.max()) or 1.0), dtype=np.float32)

    @cached_property
    def key_points(self) -> list[tuple[float, float, float]]:
        """Return x, y and value of the positions whose value is above KEY_POINT."""
        rows, columns = np.nonzero(self.map > KEY_POINT)
        return [
            (float(x), float(y), float(self.map[y, x])) for y, x in zip(rows, columns, strict=True)
        ]

    @cached_property
    def chosen(self) -> tuple[int, int]:
        """Return (x, y) of a query to show: the object's position with the most attention.

        In a long-term attention, whose map is of another frame, the one in the object's middle.
        """
        columns = self.size[1]
        own = np.nonzero(self.queries)[0]
        if self.kind == "self":
            index = int(own[self.map.reshape(-1)[own].argmax()])
        else:
            points = np.stack([own % columns, own // columns], 1)
            index = int(own[np.square(points - points.mean(0)).sum(1).argmin()])
        return index % columns, index // columns

    def nearest(self, x: float, y: float) -> tuple[int, int]:
        """Return (x, y) of the position nearest to the pixel (x, y) of the frame."""
        (h, w), (rows, columns) = self.ids.shape, self.size
        return _position(x, w, columns), _position(y, h, rows)

    def pixel(self, x: float, y: float) -> tuple[float, float]:
        """Return the pixel (x, y) of the frame at which a position, or between them, lies."""
        (h, w), (rows, columns) = self.ids.shape, self.size
        return float(x * (w - 1) / max(columns - 1, 1)), float(y * (h - 1) / max(rows - 1, 1))

    def top_keys(self, query: tuple[int, int], count: int = TOP_KEYS) -> list[tuple[int, float]]:
        """Return the keys of `seen_frame` among the `count` that a query (x, y) weighs most.

        Returns key and weight, the largest first. The keys of other remembered frames count, and
        are left out.
        """
        x, y = query
        row = self.weights[y * self.size[1] + x].reshape(-1)
        order = np.argsort(-row, kind="stable")[:count]
        positions = self.size[0] * self.size[1]
        return [
            (int(key % positions), float(row[key]))
            for key in order
            if key // positions == self.seen
        ]


def attentions_of(watchable: Collection[str]) -> tuple[AttentionKind, ...]:
    """Return the kinds of attention whose weights a model can show; none for other networks.

    watchable: names of the model's intermediates.
    """
    return tuple(
        kind for kind in KINDS if any(name.startswith(f"{kind}.weights.") for name in watchable)
    )


def look(
    model: VideoModel,
    steps: Iterable[tuple[U8, Tensor | None]],
    *,
    kinds: Sequence[AttentionKind] = KINDS,
    layer: int = -1,
    obj: int | None = None,
) -> list[Look]:
    """Follow a video to its last frame, and return where the attentions look there.

    steps: frames (H, W, 3) uint8 RGB and the mask (H, W) int64 that gives objects there, or None;
    layer: from 1, or from the end, -1 the last; obj: an object's id, None for the one with the
    largest predicted mask. Raises InputError on a model without such an attention, fewer than two
    frames, an object that is not predicted.
    """
    names = _names(model, kinds, layer)
    ready = for_inference(model)
    segmenter = VideoSegmenter(ready)
    propagator = cast(WatchedPropagator, ready.propagator())
    count, latest = 0, None
    for frame, mask in steps:
        if latest is not None:
            segmenter.step(*latest)
        latest, count = (frame_tensor(frame), mask), count + 1
    if latest is None or count < 2:
        raise InputError(
            f"a video of {count} frame{'s' * (count != 1)} up to the one to show; attention is "
            "shown from frame 1 on, as the first has its mask given"
        )
    shown = latest[0].to(next(iter(ready.parameters())).device)
    wanted = [name for pair in names.values() for name in pair if name]
    with torch.inference_mode():
        prediction = propagator.predict(segmenter.state, shown, watch=wanted)
    known = np.array([0, *segmenter.ids], dtype=np.uint8)
    ids = known[best(prediction.probabilities).cpu().numpy()]
    obj = _object(ids, obj, segmenter.ids)
    slot = 1 if obj is None else 1 + segmenter.ids.index(obj)
    watched = next(one for one in prediction.watched if slot in one.slots)
    queries = positions_of(ids, obj, watched.size)
    return [
        _look(kind, watched, names[kind], frame=count - 1, ids=ids, obj=obj, queries=queries)
        for kind in kinds
    ]


def _names(
    model: VideoModel, kinds: Sequence[AttentionKind], layer: int
) -> dict[AttentionKind, tuple[str, str | None]]:
    """Return the names of weights and offsets by kind; of no offsets where there are none."""
    there = attentions_of(model.watchable)
    if missing := [kind for kind in kinds if kind not in there]:
        raise InputError(
            f"{model.name} has no {' and no '.join(missing)} attention whose weights it shows; "
            f"there is {', '.join(there) or 'none'}: give a checkpoint of AOT or DeAOT"
        )
    names: dict[AttentionKind, tuple[str, str | None]] = {}
    for kind in kinds:
        weights = resolve(f"{kind}.weights.{layer}", model.watchable)
        offsets = weights.replace("weights", "offsets")
        names[kind] = weights, offsets if offsets in model.watchable else None
    return names


def _object(ids: U8, obj: int | None, known: Sequence[int]) -> int | None:
    """Return the object to show. Raises InputError where the one asked for is not there."""
    counts = np.bincount(ids.reshape(-1), minlength=256)
    counts[0] = 0
    if obj is None:
        return int(counts.argmax()) if counts.any() else None
    if not 0 < obj < len(counts) or not counts[obj]:
        there = ", ".join(map(str, np.nonzero(counts)[0])) or "none"
        followed = ", ".join(map(str, known))
        raise InputError(
            f"object {obj}: not in the predicted mask, which holds {there}; the masks given hold "
            f"{followed}: choose another object or an earlier frame"
        )
    return obj


def _look(
    kind: AttentionKind,
    watched: Watched,
    names: tuple[str, str | None],
    **values: Any,
) -> Look:
    positions = watched.size[0] * watched.size[1]
    weights = watched.named[names[0]].float().unflatten(0, (-1, positions)).mean(0)
    held = watched.held if kind == "long" else (values["frame"],)
    offsets = None if names[1] is None else watched.named[names[1]].float().cpu()
    return Look(
        kind=kind,
        layer=int(names[0].rpartition(".")[2]),
        size=watched.size,
        weights=weights.unflatten(1, (-1, positions)).cpu().numpy(),
        held=held,
        places=_places(offsets, watched.size),
        deformable=offsets is not None,
        **values,
    )


def _places(offsets: Tensor | None, size: tuple[int, int]) -> F32:
    """Return where keys are sampled, (S, hw, 2), from offsets (hw, 2 S)."""
    rows, columns = size
    y, x = np.divmod(np.arange(rows * columns), columns)
    reference = np.stack([x, y], 1).astype(np.float32)  # (hw, 2)
    if offsets is None:
        return reference[None]
    deltas = offsets.unflatten(1, (-1, 2)).permute(1, 0, 2).numpy()  # (S, hw, 2)
    return np.asarray(reference + deltas, dtype=np.float32)


def positions_of(ids: U8, obj: int | None, size: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the positions (hw,) of an object: those half of whose pixels are the object's.

    A pixel belongs to the position nearest to it. Where no position has half, it is the one with
    the most; without an object all.
    """
    rows, columns = size
    if obj is None:
        return np.ones(rows * columns, dtype=np.bool_)
    h, w = ids.shape
    y = np.array([_position(i, h, rows) for i in range(h)])
    x = np.array([_position(i, w, columns) for i in range(w)])
    cells = (y[:, None] * columns + x).reshape(-1)
    own = np.bincount(cells, (ids == obj).reshape(-1), rows * columns)
    share = own / np.maximum(np.bincount(cells, minlength=rows * columns), 1)
    return np.asarray(share >= min(0.5, share.max()))


def _position(pixel: float, pixels: int, positions: int) -> int:
    """Return the position nearest to a pixel, along one side."""
    return round(min(max(pixel / max(pixels - 1, 1), 0), 1) * (positions - 1))


def spread_out(values: F32, places: F32, size: tuple[int, int]) -> F32:
    """Return a map (h, w) of the values (hw,) of keys, spread over where each was sampled.

    places (S, hw, 2): x and y; each group gets 1/S of a value. What lies outside is lost, as it is
    zero there.
    """
    rows, columns = size
    spread = np.zeros((rows, columns), dtype=np.float64)
    low = np.floor(places).astype(np.int64)
    rest = places - low  # (S, hw, 2)
    for dx in (0, 1):
        for dy in (0, 1):
            share = np.abs(1 - dx - rest[..., 0]) * np.abs(1 - dy - rest[..., 1]) * values
            x, y = low[..., 0] + dx, low[..., 1] + dy
            inside = (x >= 0) & (x < columns) & (y >= 0) & (y < rows)
            np.add.at(spread, (y[inside], x[inside]), share[inside])
    return np.asarray(spread / len(places), dtype=np.float32)
