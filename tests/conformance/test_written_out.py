"""Test the streaming classes against STCN's inference loop, written out by rule."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.model_tools import fill_from_names, network, textured_frames
from vosmodels.inference.segmenter import VideoSegmenter
from vosmodels.spacetime.network import SpaceTimeNetwork

FLOOR = 1e-7
KEY_WIDTH = 64


@pytest.fixture(scope="module")
def model() -> SpaceTimeNetwork:
    made = network("stcn_mobilenetv2", seed=0)
    fill_from_names(made)
    return made.eval()


@pytest.fixture(autouse=True)
def _no_grad() -> Iterator[None]:
    with torch.no_grad():
        yield


def competing(maps: Tensor) -> Tensor:
    """(K, H, W) object maps -> (K+1, H, W) probabilities: odds of all, background the product of
    absences."""
    both = torch.cat([(1 - maps).prod(0, keepdim=True), maps]).clamp(FLOOR, 1 - FLOOR)
    odds = both / (1 - both)
    return odds / odds.sum(0)


def read(query: Tensor, keys: Tensor, values: Tensor, top_k: int) -> Tensor:
    """query (C, P), keys (C, M), values (K, V, M) -> (K, V, P), one query after the other."""
    columns = []
    for q in query.double().T:
        distance = (keys.double() - q[:, None]).square().sum(0)
        nearest = torch.argsort(distance)[:top_k]
        weights = torch.softmax(-distance[nearest] / KEY_WIDTH**0.5, 0).float()
        columns.append((values[:, :, nearest] * weights).sum(2))
    return torch.stack(columns, 2)


def written_out(
    model: SpaceTimeNetwork,
    frames: Tensor,
    ids: Tensor,
    *,
    objects: int,
    mem_every: int,
    top_k: int,
    include_last: bool,
) -> list[Tensor]:
    """Probabilities (K+1, H, W) of frames 1.. of a video whose sides are multiples of 16."""
    truth = torch.stack([(ids == k).float() for k in range(1, objects + 1)])
    probabilities = competing(truth)
    kept: list[tuple[Tensor, Tensor]] = []
    latest: list[tuple[Tensor, Tensor]] = []
    answers = []
    for t, frame in enumerate(frames):
        features = model.encode_key(frame[None])
        key = features.key[0].flatten(1)
        if t > 0:
            held = kept + latest
            keys = torch.cat([k for k, _ in held], 1)
            values = torch.cat([v for _, v in held], 2)
            found = read(key, keys, values, top_k).unflatten(2, features.key.shape[2:])
            logits, _ = model.decode(features, found[None])
            probabilities = competing(logits[0].sigmoid())
            answers.append(probabilities)
        if t % mem_every == 0 or include_last:
            masks = probabilities[None, 1:]
            value = model.encode_value(frame[None], masks, features.features.s16)
            entry = (key, value[0].flatten(2))
            latest = []
            (kept if t % mem_every == 0 else latest).append(entry)
    return answers


@pytest.mark.parametrize("objects", [1, 5])
@pytest.mark.parametrize(
    ("mem_every", "include_last", "top_k"), [(2, True, 20), (3, True, 7), (2, False, 20)]
)
def test_the_segmenter_does_what_the_rules_say(
    model: SpaceTimeNetwork, objects: int, mem_every: int, include_last: bool, top_k: int
):
    frames = textured_frames(6, 48, 80)
    ids = torch.zeros(48, 80, dtype=torch.int64)
    for k in range(objects):
        ids[8 + k : 40 - k, 16 * k : 16 * k + 12] = k + 1
    rules: dict[str, Any] = {"mem_every": mem_every, "include_last": include_last, "top_k": top_k}
    expected = written_out(model, frames, ids, objects=objects, **rules)
    segmenter = VideoSegmenter(model, **rules)
    segmenter.step(frames[0], ids)
    for frame, answer in zip(frames[1:], expected, strict=True):
        segmenter.step(frame)
        torch.testing.assert_close(segmenter.probabilities, answer, atol=1e-5, rtol=0)


def test_including_the_last_frame_changes_the_answer(model: SpaceTimeNetwork):
    frames, ids = textured_frames(5, 48, 80), torch.zeros(48, 80, dtype=torch.int64)
    ids[10:30, 20:50] = 1
    answers = []
    for include_last in (False, True):
        segmenter = VideoSegmenter(model, mem_every=4, include_last=include_last)
        segmenter.step(frames[0], ids)
        for frame in frames[1:4]:
            segmenter.step(frame)
        answers.append(segmenter.probabilities)
    assert (answers[0] - answers[1]).abs().max() > 1e-3
