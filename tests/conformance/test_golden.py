"""Test STCN against numbers of the public code, given --golden DIR.

One test per file: `stcn_eval*`, `stcn_train_mo*`, `stcn_train_so*`, `stcn_misc*`, of any size, clip
length, number of objects and memory rule. The weights come from the names of the parameters.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.conformance.golden import Golden
from tests.model_tools import fill_from_names, network
from vosmodels.inference.segmenter import VideoSegmenter
from vosmodels.losses import hardest_mean, keep_fraction, mask_absent, poly_cross_entropy
from vosmodels.spacetime.memory import aggregate
from vosmodels.spacetime.network import SpaceTimeNetwork
from vosmodels.spacetime.propagator import padding
from vosmodels.types import Clip

TOLERANCE = 1e-4  # of a probability; the public code differs from itself by 1e-6 between threads
TIE = 2 * TOLERANCE  # two classes nearer than that may change places
STAGE = 300_000  # iterations of STCN's main stage, which its bootstrapping counts in
MODELS: dict[tuple[str, bool], SpaceTimeNetwork] = {}


@pytest.fixture(autouse=True)
def _no_grad() -> Iterator[None]:
    with torch.no_grad():
        yield


def stcn(rule: str, *, single_object: bool = False) -> SpaceTimeNetwork:
    """The public network with the weights of a filling rule."""
    if (rule, single_object) not in MODELS:
        model = network("stcn", seed=0, single_object=single_object)
        fill_from_names(model, rule=rule)
        MODELS[rule, single_object] = model.eval()
    return MODELS[rule, single_object]


def test_stcn_equals_the_public_code(golden_file: Path):
    golden = Golden(golden_file)
    {"eval": check_video, "train": check_clip, "misc": check_parts}[golden.kind](golden)


def check_video(golden: Golden) -> None:
    """A whole video through VideoSegmenter; probabilities and ids of every frame that is stored."""
    frames = golden.frames()
    segmenter = VideoSegmenter(
        stcn(golden.rule),
        mem_every=int(golden["mem_every"]),
        top_k=int(golden["top_k"]),
        include_last=bool(golden["include_last"]),
    )
    compared = 0
    for t, frame in enumerate(frames):
        ids = segmenter.step(frame, golden.tensor("label0").long() if t == 0 else None)
        if f"prob_{t}" in golden:
            expected = unpadded(golden, golden.tensor(f"prob_{t}")[:, 0])
            assert_near(segmenter.probabilities, expected, f"probabilities of frame {t}")
            if f"argmax_{t}" in golden:
                best = expected.topk(2, dim=0).values
                clear = best[0] - best[1] > TIE
                wrong = (ids != golden.tensor(f"argmax_{t}")[0].long()) & clear
                assert not wrong.any(), f"frame {t}: {int(wrong.sum())} ids differ beyond a tie"
            compared += t > 0
    assert compared, "the file holds no probabilities of a predicted frame"


def check_clip(golden: Golden) -> None:
    """A training batch through the model's forward, its keys, and the bootstrapped losses."""
    single = "train_so" in golden.name
    model = stcn(golden.rule, single_object=single)
    frames, present = golden.frames(), golden.tensor("selector").bool()
    masks = golden.tensor("labels").long()
    if single:
        present = present[:, :1]
        masks = masks * (masks == 1)
    clip = Clip(frames, masks, present, tuple(range(len(frames))))
    keys = torch.stack([model.encode_key(frames[:, t]).key for t in range(frames.shape[1])], 2)
    assert_near(keys, golden.tensor("k16"), "keys")
    output = model(clip)
    for t in (1, 2):
        logits, expected = output.logits[:, t - 1], golden.tensor(f"logits_{t}")
        assert_near(logits.softmax(1), expected.softmax(1), f"probabilities of frame {t}")
        masks_t = logits.softmax(1)[:, 1:] * present[:, :, None, None]
        assert_near(masks_t, golden.tensor(f"mask_{t}"), f"fed-back masks of frame {t}")
    losses = [name for name in golden if name.startswith("loss_it")]
    assert losses
    for name in losses:
        total, first, second, kept = (float(v) for v in golden[name])
        keep = keep_fraction(int(name.removeprefix("loss_it")) / STAGE)
        assert keep == pytest.approx(kept, abs=1e-6), name
        found = [
            bootstrapped(output.logits[:, t], clip.masks[:, t + 1], present, keep) for t in (0, 1)
        ]
        assert found == pytest.approx([first, second], abs=TOLERANCE, rel=1e-5), name
        assert sum(found) == pytest.approx(total, abs=TOLERANCE, rel=1e-5), name


def check_parts(golden: Golden) -> None:
    """Padding, aggregation and the bootstrapped loss on their own."""
    sizes = [name.removeprefix("pad_in_") for name in golden if name.startswith("pad_in_")]
    assert sizes
    for index in sizes:
        found = padding(*golden[f"pad_in_{index}"].shape[2:])
        assert list(found) == golden[f"pad_arr_{index}"].tolist()
        padded = torch.nn.functional.pad(golden.tensor(f"pad_in_{index}"), found)
        assert torch.equal(padded, golden.tensor(f"pad_out_{index}"))
    found_maps = aggregate(golden.tensor("agg_in").transpose(0, 1)).softmax(1)[0]
    assert_near(found_maps, golden.tensor("agg_bg")[:, 0], "aggregated probabilities")
    logits, target = golden.tensor("ce_logits"), golden.tensor("ce_target").long()
    entropy = poly_cross_entropy(logits, target, epsilon=0).flatten(0, 1)  # one item: the batch
    for iteration, (loss, kept) in zip(golden["ce_its"], golden["ce_out"], strict=True):
        keep = keep_fraction(int(iteration) / STAGE)
        assert keep == pytest.approx(float(kept), abs=1e-6)
        assert hardest_mean(entropy[None], keep).item() == pytest.approx(float(loss), rel=1e-5), (
            iteration
        )


def bootstrapped(logits: Tensor, target: Tensor, present: Tensor, keep: float) -> float:
    """STCN's loss of one frame: cross-entropy over the classes that are there, hardest pixels."""
    there = mask_absent(logits.unsqueeze(1), present)[:, 0]
    return float(hardest_mean(poly_cross_entropy(there, target, epsilon=0), keep).mean())


def unpadded(golden: Golden, maps: Tensor) -> Tensor:
    """(K+1, H', W') -> the video's own (K+1, H, W)."""
    height, width = golden["rgb_u8"].shape[1:3]
    left, _, top, _ = padding(height, width)
    return maps[:, top : top + height, left : left + width]


def assert_near(found: Tensor, expected: Tensor, what: str) -> None:
    """Within the tolerance; a difference is told with its name."""

    def told(message: str) -> str:
        return f"{what}: {message}"

    torch.testing.assert_close(found, expected, atol=TOLERANCE, rtol=0, msg=told)


def test_the_filling_rules_are_those_of_the_golden_files():
    projection = nn.Conv2d(1024, 64, 3)  # by its name and shape that of STCN's keys
    named = nn.ModuleDict({"key_proj": nn.ModuleDict({"key_proj": projection})})
    spread = {}
    for rule in "ABC":
        fill_from_names(named, rule=rule)
        spread[rule] = projection.weight.std()
    fan_in = 1024 * 9
    expected = {"A": 0.02, "B": 1 / np.sqrt(fan_in), "C": 1.2 / np.sqrt(fan_in)}
    assert {rule: float(std) for rule, std in spread.items()} == pytest.approx(expected, rel=0.01)
