import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from tests import youtubevos
from tests.conftest import FRAMES, HEIGHT, WIDTH
from vosmodels.data.davis import DavisDataset
from vosmodels.data.frames import frame_tensor, given_mask, scaled_frame, visited_frames
from vosmodels.data.overlay import overlay, strip
from vosmodels.data.youtubevos import YouTubeVosDataset
from vosmodels.evaluation.overlay import OverlayStrip
from vosmodels.inference.segmenter import HasPropagator, VideoSegmenter
from vosmodels.types import Prediction, ScoredVideo

FRAME = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)


def boxes() -> np.ndarray:
    ids = np.zeros((30, 40), dtype=np.int64)
    ids[5:15, 5:15] = 1
    ids[5:15, 15:25] = 2
    return ids


def test_overlay_leaves_the_background_as_it_is() -> None:
    painted = overlay(FRAME, boxes())
    assert painted.dtype == np.uint8
    np.testing.assert_array_equal(painted[boxes() == 0], FRAME[boxes() == 0])
    np.testing.assert_array_equal(overlay(FRAME, boxes() * 0), FRAME)


def test_overlay_tints_objects_and_draws_their_contours_in_full() -> None:
    painted = overlay(FRAME, boxes()).astype(int)
    contour = [[255, 0, 0], [0, 255, 0]]
    assert painted[5, 10].tolist() == painted[10, 5].tolist() == contour[0]
    assert painted[10, 14].tolist() == contour[0]  # where two objects touch, each has its own
    assert painted[10, 15].tolist() == contour[1]
    assert np.abs(painted[8:12, 8:12] - (FRAME[8:12, 8:12] / 2 + [127.5, 0, 0])).max() <= 1


def test_overlay_refuses_unequal_sizes() -> None:
    with pytest.raises(ValueError, match=r"frame \(30, 40, 3\) and ids \(30, 39\)"):
        overlay(FRAME, boxes()[:, 1:])


def test_strip_lays_pictures_side_by_side_with_white_between() -> None:
    row = strip([FRAME, FRAME[:, :10]])
    assert row.shape == (30, 40 + 4 + 10, 3)
    np.testing.assert_array_equal(row[:, :40], FRAME)
    np.testing.assert_array_equal(row[:, 44:], FRAME[:, :10])
    assert (row[:, 40:44] == 255).all()


@pytest.mark.parametrize("pictures", [[], [FRAME, FRAME[1:]]])
def test_strip_refuses_unequal_heights_and_nothing(pictures: list[np.ndarray]) -> None:
    with pytest.raises(ValueError, match="wanted one height"):
        strip(pictures)


class Copy(nn.Module):
    """A model whose every prediction is the first mask."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def propagator(self, *args: Any, **kwargs: Any) -> "Copy":
        return self

    def begin(self, frame: Tensor, ids: Tensor) -> Tensor:
        count = int(ids.max()) + 1
        return torch.nn.functional.one_hot(ids, count).permute(2, 0, 1).float()

    def predict(self, state: Tensor, frame: Tensor) -> Prediction:
        return Prediction(state, None)

    def commit(self, state: Tensor, prediction: Prediction, mask: Tensor | None = None) -> Tensor:
        return state

    def add(self, state: Tensor, frame: Tensor, ids: Tensor) -> Tensor:
        raise AssertionError("no object appears late")

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
        return super().parameters(recurse)


def save_strip(
    path: Path,
    model: HasPropagator,
    video: ScoredVideo,
    *,
    height: int | None = None,
    stride: int = 1,
    frames: int = 4,
) -> None:
    """Run a model over a video by hand and save the strip of its answers."""
    collected = OverlayStrip(video, height=height, stride=stride, frames=frames)
    segmenter = VideoSegmenter(model)
    for number in visited_frames(video, stride):
        frame = frame_tensor(scaled_frame(video, number, height))
        answer = segmenter.step(frame, given_mask(video, number, height))
        collected.add(video.name, number, answer.numpy().astype(np.uint8))
    collected.save(path)


def test_a_strip_shows_predictions_above_the_truth(davis_root: Path, tmp_path: Path) -> None:
    (cat,) = DavisDataset(davis_root).sequences("val")
    save_strip(tmp_path / "new" / "s.png", Copy(), cat, frames=3)
    with Image.open(tmp_path / "new" / "s.png") as image:
        picture = np.asarray(image.convert("RGB"))
    assert picture.shape == (2 * HEIGHT + 4, 3 * WIDTH + 2 * 4, 3)
    for column, number in enumerate((0, 2, FRAMES - 1)):
        left = column * (WIDTH + 4)
        above, below = (picture[top : top + HEIGHT, left : left + WIDTH] for top in (0, HEIGHT + 4))
        frame = cat.frame(number)
        np.testing.assert_array_equal(above, overlay(frame, cat.mask(0)))
        np.testing.assert_array_equal(below, overlay(frame, cat.mask(number)))


def test_a_strip_scales_and_strides_as_scoring_does(davis_root: Path, tmp_path: Path) -> None:
    (cat,) = DavisDataset(davis_root).sequences("val")
    save_strip(tmp_path / "s.png", Copy(), cat, height=24, stride=4, frames=4)
    with Image.open(tmp_path / "s.png") as image:
        assert image.size == (2 * 32 + 4, 2 * 24 + 4)  # frames 0 and 4 are all there is


class Adding(Copy):
    """Takes in objects that appear late."""

    def add(self, state: Tensor, frame: Tensor, ids: Tensor) -> Tensor:
        return self.begin(frame, ids)


def test_a_strip_has_late_objects_and_leaves_frames_without_truth_bare(
    youtubevos_root: Path, tmp_path: Path
) -> None:
    fox = YouTubeVosDataset(youtubevos_root).sequences("valid_all_frames")[0]
    save_strip(tmp_path / "s.png", Adding(), fox, frames=3)
    with Image.open(tmp_path / "s.png") as image:
        picture = np.asarray(image.convert("RGB"))
    old, new = youtubevos.ids("fox", 0), youtubevos.ids("fox", 10)
    both = np.where(new == 2, 2, old)
    rows = {0: (old, old), 10: (both, old * 0), 20: (both, old * 0)}
    for column, (number, (predicted, truth)) in enumerate(rows.items()):
        left = column * (WIDTH + 4)
        above, below = (picture[top : top + HEIGHT, left : left + WIDTH] for top in (0, HEIGHT + 4))
        np.testing.assert_array_equal(above, overlay(fox.frame(number), predicted))
        np.testing.assert_array_equal(below, overlay(fox.frame(number), truth))


def test_a_strip_holds_the_frames_that_it_shows_and_no_others(davis_root: Path) -> None:
    (cat,) = DavisDataset(davis_root).sequences("val")
    collected = OverlayStrip(cat, frames=3)
    alive = []
    for number in range(FRAMES):
        ids = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
        alive.append(weakref.ref(ids))
        collected.add("dog", number, ids)  # another video's
        collected.add("cat", number, ids)
        del ids
    assert [number for number, ids in enumerate(alive) if ids() is not None] == [0, 2, FRAMES - 1]


def test_a_strip_is_not_saved_before_its_last_frame_is_there(
    davis_root: Path, tmp_path: Path
) -> None:
    (cat,) = DavisDataset(davis_root).sequences("val")
    collected = OverlayStrip(cat, frames=2)
    collected.add("cat", 0, np.zeros((HEIGHT, WIDTH), dtype=np.uint8))
    with pytest.raises(ValueError, match=r"s\.png: cat: no masks of frames \[5\] yet"):
        collected.save(tmp_path / "s.png")
