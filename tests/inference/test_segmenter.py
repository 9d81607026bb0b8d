from typing import Any

import pytest
import torch

from tests.model_tools import fill_from_names, textured_frames
from vosmodels import registry
from vosmodels.inference.segmenter import VideoSegmenter
from vosmodels.model import VideoModel
from vosmodels.support.channels import best

SIZE = (40, 56)


@pytest.fixture(scope="module")
def model() -> VideoModel:
    student = registry.build("mobilevos_mobilenetv2_noaspp", seed=0)
    fill_from_names(student)
    return student


@pytest.fixture
def segmenter(model: VideoModel) -> VideoSegmenter:
    return VideoSegmenter(model)


def _frame(index: int = 0) -> torch.Tensor:
    return textured_frames(1, *SIZE, seed=index)[0]


def _mask(**objects: tuple[int, int]) -> torch.Tensor:
    """Each object id (as `o7`) a band of rows [from, to)."""
    ids = torch.zeros(SIZE, dtype=torch.uint8)
    for name, (top, bottom) in objects.items():
        ids[top:bottom, 8:48] = int(name[1:])
    return ids


def test_ids_of_any_value_come_back_as_they_were_given(segmenter: VideoSegmenter):
    mask = _mask(o9=(5, 15), o200=(20, 35))
    first = segmenter.step(_frame(), mask)
    assert first.dtype == torch.int64
    assert torch.equal(first, mask.long())
    assert segmenter.ids == (9, 200)
    later = segmenter.step(_frame(1))
    assert later.shape == SIZE
    assert set(later.unique().tolist()) <= {0, 9, 200}


def test_probabilities_are_readable_and_agree_with_the_ids(segmenter: VideoSegmenter):
    segmenter.step(_frame(), _mask(o9=(5, 15), o200=(20, 35)))
    ids = segmenter.step(_frame(1))
    p = segmenter.probabilities
    assert p.shape == (3, *SIZE)
    torch.testing.assert_close(p.sum(0), torch.ones(SIZE))
    assert torch.equal(ids, torch.tensor([0, 9, 200])[p.argmax(0)])


def test_the_segmenter_follows_the_propagator_it_wraps(
    segmenter: VideoSegmenter, model: VideoModel
):
    mask = _mask(o9=(5, 15), o200=(20, 35))
    slots = (mask == 9).long() + 2 * (mask == 200).long()
    propagator = model.propagator()
    with torch.no_grad():
        state = propagator.begin(_frame(), slots)
        segmenter.step(_frame(), mask)
        for t in (1, 2, 3):
            prediction = propagator.predict(state, _frame(t))
            state = propagator.commit(state, prediction)
            segmenter.step(_frame(t))
            torch.testing.assert_close(segmenter.probabilities, prediction.probabilities)


def test_the_order_of_ids_does_not_matter(model: VideoModel):
    results = []
    for a, b in ((1, 2), (77, 5)):
        segmenter = VideoSegmenter(model)
        segmenter.step(_frame(), _mask(**{f"o{a}": (5, 15), f"o{b}": (20, 35)}))
        ids = segmenter.step(_frame(1))
        results.append((ids == a).long() + 2 * (ids == b).long())
    assert torch.equal(results[0], results[1])


def test_an_object_that_appears_later_is_followed_from_then_on(segmenter: VideoSegmenter):
    segmenter.step(_frame(), _mask(o3=(5, 15)))
    segmenter.step(_frame(1))
    late = _mask(o8=(25, 38))
    ids = segmenter.step(_frame(2), late)
    assert segmenter.ids == (3, 8)
    assert torch.equal(ids == 8, late == 8)
    segmenter.step(_frame(3))
    assert segmenter.probabilities.shape == (3, *SIZE)
    torch.testing.assert_close(segmenter.probabilities.sum(0), torch.ones(SIZE))


def test_a_later_mask_leaves_the_prediction_of_the_others_where_it_says_nothing(
    model: VideoModel,
):
    plain, given = VideoSegmenter(model), VideoSegmenter(model)
    for segmenter in (plain, given):
        segmenter.step(_frame(), _mask(o3=(0, 40)))
    predicted = plain.step(_frame(1))
    ids = given.step(_frame(1), _mask(o8=(25, 38)))
    untouched = _mask(o8=(25, 38)) == 0
    assert torch.equal(ids[untouched], predicted[untouched])


def test_a_known_object_in_a_later_mask_is_exactly_there(segmenter: VideoSegmenter):
    segmenter.step(_frame(), _mask(o3=(0, 20), o4=(25, 35)))
    corrected = _mask(o3=(2, 8))
    ids = segmenter.step(_frame(1), corrected)
    assert torch.equal(ids == 3, corrected == 3)
    assert segmenter.ids == (3, 4)


def test_remember_writes_ids_to_memory_in_place_of_the_prediction(model: VideoModel):
    mask, kept = _mask(o9=(5, 15)), _mask(o9=(25, 35))
    results = []
    for remember in (None, kept):
        segmenter = VideoSegmenter(model)
        segmenter.step(_frame(), mask)
        now = segmenter.step(_frame(1), remember=remember)
        segmenter.step(_frame(2))
        results.append((now, segmenter.probabilities))
    assert torch.equal(results[0][0], results[1][0])
    assert not torch.allclose(results[0][1], results[1][1], atol=1e-3)


def test_a_removed_object_is_background_and_its_id_may_be_used_again(segmenter: VideoSegmenter):
    segmenter.step(_frame(), _mask(o3=(0, 20), o4=(20, 40)))
    segmenter.remove(3)
    ids = segmenter.step(_frame(1))
    assert list(segmenter.ids) == [4]
    assert set(ids.unique().tolist()) <= {0, 4}
    assert segmenter.probabilities.shape == (2, *SIZE)
    torch.testing.assert_close(segmenter.probabilities.sum(0), torch.ones(SIZE))
    again = _mask(o3=(5, 12))
    ids = segmenter.step(_frame(2), again)
    assert list(segmenter.ids) == [4, 3]
    assert torch.equal(ids == 3, again == 3)
    segmenter.step(_frame(3))
    assert segmenter.probabilities.shape == (3, *SIZE)


def test_reset_starts_another_video_of_another_size(segmenter: VideoSegmenter):
    segmenter.step(_frame(), _mask(o3=(0, 20)))
    segmenter.reset()
    assert segmenter.ids == ()
    mask = torch.ones(24, 33, dtype=torch.int64)
    assert torch.equal(segmenter.step(textured_frames(1, 24, 33)[0], mask), mask)


def test_options_reach_the_propagator(model: VideoModel):
    with pytest.raises(ValueError, match="queue=0"):
        VideoSegmenter(model, queue=0)


def test_no_gradient_is_kept(segmenter: VideoSegmenter):
    segmenter.step(_frame(), _mask(o3=(0, 20)))
    segmenter.step(_frame(1))
    assert segmenter.probabilities.is_inference()


_NAN = _frame(1)
_NAN[0, 3, 3] = float("nan")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"frame": textured_frames(1, 24, 33)[0]}, r"\(24, 33\) in a video of \(40, 56\)"),
        ({"frame": _NAN}, "nan"),
        ({"frame": _frame(1) * 255}, "in \\[0, 1\\]"),
        ({"frame": _frame(1)[:2]}, r"shape \(2, 40, 56\)"),
        ({"frame": _frame(1)[[0, 1, 2, 0]]}, r"shape \(4, 40, 56\)"),
        ({"frame": (_frame(1) * 255).byte()}, "uint8"),
        ({"frame": _frame(1), "mask": _mask()}, "without objects"),
        ({"frame": _frame(1), "mask": _mask(o3=(0, 9))[:20]}, r"mask of shape \(20, 56\)"),
        ({"frame": _frame(1), "mask": _mask(o3=(0, 9)).float()}, "float32"),
        ({"frame": _frame(1), "mask": _mask(o3=(0, 9)).long() * 100}, "0..300"),
        ({"frame": _frame(1), "remember": _mask(o5=(0, 9))}, r"\[5\] that are not followed"),
        (
            {"frame": _frame(1), "mask": _mask(o3=(0, 9)), "remember": _mask(o3=(0, 9))},
            "mask and remember",
        ),
    ],
)
def test_a_wrong_step_is_refused_and_changes_nothing(
    model: VideoModel, arguments: dict[str, Any], message: str
):
    wronged, spared = VideoSegmenter(model), VideoSegmenter(model)
    for segmenter in (wronged, spared):
        segmenter.step(_frame(), _mask(o3=(0, 20)))
    with pytest.raises(ValueError, match=message):
        wronged.step(**arguments)
    assert torch.equal(wronged.step(_frame(2)), spared.step(_frame(2)))
    assert torch.equal(wronged.probabilities, spared.probabilities)


def test_a_first_frame_without_a_mask_is_refused_and_the_segmenter_goes_on(
    segmenter: VideoSegmenter, model: VideoModel
):
    with pytest.raises(ValueError, match="no frame yet"):
        _ = segmenter.probabilities
    with pytest.raises(ValueError, match="first frame needs a mask"):
        segmenter.step(_frame())
    with pytest.raises(ValueError, match="without objects"):
        segmenter.step(_frame(), _mask())
    spared = VideoSegmenter(model)
    for each in (segmenter, spared):
        assert torch.equal(each.step(_frame(), _mask(o3=(0, 20))), _mask(o3=(0, 20)).long())
        each.step(_frame(1))
    assert torch.equal(segmenter.probabilities, spared.probabilities)


def test_removing_an_unknown_object_names_those_there_are(segmenter: VideoSegmenter):
    segmenter.step(_frame(), _mask(o3=(0, 20)))
    with pytest.raises(ValueError, match=r"object 7 is not followed; there are \[3\]"):
        segmenter.remove(7)


@pytest.mark.parametrize("objects", [1, 3])
def test_best_is_the_argmax(objects: int):
    maps = torch.rand(objects + 1, 20, 30, generator=torch.Generator().manual_seed(0))
    assert torch.equal(best(maps), maps.argmax(0))
    assert best(torch.ones(3, 2, 2)).max() == 0  # the first of equals
