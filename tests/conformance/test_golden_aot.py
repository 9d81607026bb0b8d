"""Test AOT and DeAOT against numbers of the public code, given --golden DIR.

One test per file: `aott_*`, `deaott_*`, `deaotl_*`, `r50_*`, of any size, length and number of
objects. The weights come from the names of the parameters. Only files of filling rules B and C
tell an attention from a uniform one; A is a smoke test.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.conformance.golden import Golden, pattern
from tests.model_tools import fill_from_names
from vosmodels import registry
from vosmodels.aot.decoder import resized
from vosmodels.aot.network import AOTNetwork
from vosmodels.aot.propagation import Watch, sine_positions
from vosmodels.aot.propagator import FrameResult, merged

TOLERANCE = 1e-4  # of a logit; the public code differs from itself by 1e-6 between threads
TIE = 2 * TOLERANCE  # two classes nearer than that may change places
NEVER = 9999  # gap of the public code for a memory of reference frames alone
MODELS: dict[tuple[str, str], AOTNetwork] = {}


@pytest.fixture(autouse=True)
def _no_grad() -> Iterator[None]:
    with torch.no_grad():
        yield


def filled(name: str, rule: str) -> AOTNetwork:
    """A public network with the weights of a filling rule."""
    if (name, rule) not in MODELS:
        model = registry.build(name, seed=0)
        fill_from_names(model, rule=rule)
        assert isinstance(model, AOTNetwork)
        MODELS[name, rule] = model.eval()
    return MODELS[name, rule]


def assert_near(found: Tensor, expected: Tensor, what: str) -> None:
    torch.testing.assert_close(
        found, expected, atol=TOLERANCE, rtol=0, msg=lambda text: f"{what}: {text}"
    )


def test_a_video_equals_the_public_code(golden_aot_video: Path):
    golden = Golden(golden_aot_video)
    model = filled(pattern(golden_aot_video), golden.rule)
    check_parts(golden, model)
    compared = check_frames(golden, model)
    assert compared, "the file holds no logits of a predicted frame"


def check_parts(golden: Golden, model: AOTNetwork) -> None:
    """Features, identities and positions of frame 0; softmax weights of frame 1."""
    frames, ids = golden.frames(), golden.tensor("label0").long()[None]
    encoded = model.encode(frames[:1])
    features = encoded.features
    maps = {"enc4": features.s4, "enc8": features.s8, "enc16": features.s16}
    for name, found in {**maps, "enc16_proj": encoded.projected}.items():
        if name in golden:
            assert_near(found, golden.tensor(name), name)
    h, w = encoded.size
    if "pos_emb" in golden:
        expected = golden.tensor("pos_emb").flatten(2).transpose(1, 2)
        found = sine_positions((h, w), expected.shape[2], expected.device)
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
    if int(golden["obj_num"]) > model.config.objects:
        return
    places = torch.arange(model.config.objects + 1)[None]
    embedding = model.embed(model.identities(ids, places))
    if "id_emb_0" in golden:
        found = embedding.transpose(1, 2).unflatten(2, (h, w))
        assert_near(found, golden.tensor("id_emb_0"), "embedding of identities")
    reference = model.propagate(encoded, embedding=embedding)
    low = golden.tensor("ref_logits_low_0")
    assert_near(reference.logits[:, : low.shape[1]], low, "logits of the reference frame")
    memory = model.remember(reference.frames, embedding)
    last = model.config.layers
    watch = Watch([f"{attention}.weights.{last}" for attention in ("long", "self")])
    model.propagate(model.encode(frames[1:2]), memory, memory, watch=watch)
    for attention, stored in (("long", "attn_lt_last_1"), ("self", "attn_self_last_1")):
        if stored in golden:
            expected = golden.tensor(stored).flatten(1, 2)
            assert_near(watch.tensors[f"{attention}.weights.{last}"], expected, stored)


def check_frames(golden: Golden, model: AOTNetwork) -> int:
    """A whole video through the propagator, whose memory takes the stored masks.

    Returns how many predicted frames were compared.
    """
    gap = int(golden["long_term_mem_gap"])
    propagator = model.propagator(mem_every="never" if gap >= NEVER else gap)
    frames = golden.frames()
    state = propagator.begin(frames[0], golden.tensor("label0").long())
    compared = 0
    for t in range(1, len(frames)):
        prediction = propagator.predict(state, frames[t])
        coded: FrameResult = prediction.features
        mask = golden.tensor(f"memlabel_{t}").long() if f"memlabel_{t}" in golden else None
        logits, before = coded.logits, state.objects
        late = mask is not None and int(mask.max()) > before
        if late:
            assert mask is not None
            state = propagator.add(state, frames[t], mask)
        elif mask is not None:
            state = propagator.commit(state, prediction, mask)
        if f"logits_{t}" in golden:
            expected = golden.tensor(f"logits_{t}")
            if late and expected.shape[1] > before + 1:  # stored after the frame was given
                assert mask is not None
                logits = reference_logits(model, frames[t], mask)
            channels = min(expected.shape[1], state.objects + 1)
            assert_near(logits[:, :channels], expected[:, :channels], f"logits of frame {t}")
            check_ids(golden, t, logits)
            compared += 1
        if mask is not None:
            assert_length(golden, t, state.passes[0].long[0].key)
    return compared


def reference_logits(model: AOTNetwork, frame: Tensor, ids: Tensor) -> Tensor:
    """Logits (1, K+1, H, W) of a frame whose mask is given, as the model decodes it."""
    places = torch.arange(model.config.objects + 1)[None]
    embedding = model.embed(model.identities(ids[None], places))
    result = model.propagate(model.encode(frame[None]), embedding=embedding)
    return resized(result.logits[:, : int(ids.max()) + 1], ids.shape)


def check_ids(golden: Golden, t: int, logits: Tensor) -> None:
    if f"pred_{t}" not in golden:
        return
    best = logits.topk(2, dim=1).values
    clear = best[:, 0] - best[:, 1] > TIE
    wrong = (logits.argmax(1) != golden.tensor(f"pred_{t}")[:, 0].long()) & clear
    assert not wrong.any(), f"frame {t}: {int(wrong.sum())} ids differ beyond a tie"


def assert_length(golden: Golden, t: int, key: Tensor) -> None:
    if f"lt_mem_len_{t}" in golden:
        assert key.shape[1] == int(golden[f"lt_mem_len_{t}"]), f"tokens remembered at frame {t}"


def test_passes_are_merged_as_in_the_public_code(golden_aot_misc: Path):
    golden = Golden(golden_aot_misc)
    found = merged([golden.tensor("agg_a"), golden.tensor("agg_b")])
    assert_near(found, golden.tensor("agg_soft"), "merged logits")


def test_positions_equal_those_of_the_public_code(golden_aot_misc: Path):
    expected = Golden(golden_aot_misc).tensor("pe_5x6_256").flatten(2).transpose(1, 2)
    found = sine_positions((5, 6), 256, expected.device)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
