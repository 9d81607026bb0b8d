import logging
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from vosmodels.data import static_clips
from vosmodels.data.affine import to_float
from vosmodels.data.clips import collate
from vosmodels.data.static_clips import StaticClips
from vosmodels.data.static_images import StaticImage, StaticImages
from vosmodels.errors import InputError
from vosmodels.types import U8

PRESETS = ["light", "stcn"]


def write(
    root: Path, count: int = 4, radius: int = 28, empty: tuple[int, ...] = ()
) -> StaticImages:
    """Images of 160x120: a white disc on black, or nothing."""
    root.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        mask = np.zeros((120, 160), dtype=np.uint8)
        if i not in empty:
            cv2.circle(mask, (60 + 10 * i, 60), radius, 255, -1)
        Image.fromarray(mask).save(root / f"{i}.png")
        Image.fromarray(np.repeat(mask[..., None], 3, axis=2)).save(root / f"{i}.jpg", quality=95)
    return StaticImages(root)


def clips(*sources: tuple[StaticImages, int], **changes: Any) -> StaticClips:
    return StaticClips(sources, **({"clip_length": 3, "crop": 64, "seed": 0} | changes))


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Set and name of every image that is read."""
    names: list[str] = []
    frame = StaticImage.frame

    def recorded(self: StaticImage) -> U8:
        names.append(f"{self.image.parent.name}/{self.image.stem}")
        return frame(self)

    monkeypatch.setattr(StaticImage, "frame", recorded)
    return names


@pytest.mark.parametrize("preset", PRESETS)
def test_a_clip_has_the_shapes_and_types_that_models_expect(tmp_path: Path, preset: str) -> None:
    source = clips((write(tmp_path), 1), clip_length=4, max_objects=3, augmentation=preset)
    clip = source.sample(7)
    assert clip.frames.shape == (1, 4, 3, 64, 64)
    assert clip.frames.dtype == torch.float32
    assert 0 <= clip.frames.min() < clip.frames.max() <= 1
    assert clip.masks.shape == (1, 4, 64, 64)
    assert clip.masks.dtype == torch.int64
    assert clip.masks.unique().tolist() == [0, 1]
    assert clip.present.tolist() == [[True, False, False]]
    assert collate([clip, source.sample(3)]).samples == (7, 3)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_clip_is_a_function_of_seed_and_index_alone(tmp_path: Path, preset: str) -> None:
    images = write(tmp_path)
    forwards = [clips((images, 1), augmentation=preset).sample(i) for i in range(5)]
    again = clips((images, 1), augmentation=preset)
    for i in reversed(range(5)):
        clip = again.sample(i)
        assert clip.frames.equal(forwards[i].frames)
        assert clip.masks.equal(forwards[i].masks)
    other = clips((images, 1), augmentation=preset, seed=1).sample(0)
    assert not other.frames.equal(forwards[0].frames)
    alone = clips((write(tmp_path / "one", 1), 1), augmentation=preset)
    assert not alone.sample(0).frames.equal(alone.sample(1).frames)


def test_an_epoch_visits_each_image_as_often_as_its_folder_repeats(
    tmp_path: Path, read: list[str]
) -> None:
    source = clips((write(tmp_path / "many", 4), 1), (write(tmp_path / "fine", 2), 3))
    epochs = []
    for epoch in range(3):
        read.clear()
        for place in range(4 + 2 * 3):
            source.sample(10 * epoch + place)
        assert Counter(read) == {f"many/{i}": 1 for i in range(4)} | {
            f"fine/{i}": 3 for i in (0, 1)
        }
        epochs.append(tuple(read))
    assert len(set(epochs)) == 3


def test_an_image_without_object_gives_its_turn_to_the_next_and_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = clips((write(tmp_path, 3, empty=(1,)), 1))
    with caplog.at_level(logging.WARNING, logger="vosmodels.data.static_clips"):
        assert all((source.sample(i).masks[0, 0] == 1).any() for i in range(3))
    assert [f"{tmp_path / '1.png'}" in message for message in caplog.messages] == [True]
    with pytest.raises(InputError, match=f"showed no object; .* in {tmp_path / 'void'}"):
        clips((write(tmp_path / "void", 2, empty=(0, 1)), 1)).sample(0)


@pytest.mark.parametrize("preset", PRESETS)
def test_the_first_frame_shows_the_object_and_a_small_one_too(tmp_path: Path, preset: str) -> None:
    """The small object lies near the image's edge, which many crops of stcn miss."""
    mask = np.zeros((60, 100), dtype=np.uint8)
    mask[28:31, 18:21] = 255
    Image.fromarray(mask).save(tmp_path / "a.png")
    Image.fromarray(mask).convert("RGB").save(tmp_path / "a.jpg")
    source = clips((StaticImages(tmp_path), 1), augmentation=preset)
    shown = torch.cat([source.sample(i).masks for i in range(10)]).flatten(2).any(dim=2)  # (10, T)
    assert shown[:, 0].all()
    if preset == "stcn":
        assert not shown[:, 1:].all()  # the others are free to lose it


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("crop", [48, 160])  # fewer and more pixels than the image has
@pytest.mark.parametrize("bent", [0.0, 1.0])
def test_frames_and_masks_are_moved_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, preset: str, crop: int, bent: float
) -> None:
    """The object is the light: a shift of a third of a pixel would differ on more of the rim."""
    monkeypatch.setattr(static_clips, "_BENT", bent)
    for kind in (static_clips._Light, static_clips._Stcn):
        monkeypatch.setattr(kind, "colours", lambda self, rng, frames: to_float(frames))
    source = clips((write(tmp_path), 1), crop=crop, augmentation=preset)
    odd = rim = 0
    for clip in (source.sample(i) for i in range(5)):
        for frame, ids in zip(clip.frames[0], clip.masks[0], strict=True):
            lit = (frame.mean(dim=0) > 0.5).numpy()
            mask = ids.numpy().astype(np.uint8)
            odd += int((lit != mask).sum())
            rim += int((cv2.dilate(mask, np.ones((3, 3))) != mask).sum())
    assert rim > 700
    assert odd < 0.15 * rim


def test_frames_of_a_clip_differ_in_motion(tmp_path: Path) -> None:
    for preset in PRESETS:
        clip = clips((write(tmp_path), 1), augmentation=preset).sample(0)
        assert not clip.masks[0, 0].equal(clip.masks[0, 1])
        assert not clip.masks[0, 1].equal(clip.masks[0, 2])


def test_stcns_motions_fill_their_ranges_and_no_more() -> None:
    """Angle, slope, scale and place are read off the maps again."""
    rng = np.random.default_rng(0)
    height, width, crop = 120, 200, 96
    fit, long = crop / height, width * crop / height
    angles, slopes, scales, ratios, lefts, mirrored = [], [], [], [], [], 0
    for _ in range(400):
        warps = static_clips._Stcn().warps(rng, np.ones((height, width), bool), crop, 3)
        mirror = np.sign(np.linalg.det(warps[0][:, :2]))
        mirrored += mirror < 0
        sizes = []
        for warp in warps:
            linear = warp[:, :2] @ np.diag([mirror, 1])
            sizes.append(np.hypot(*linear[:, 0]) / fit)
            angle = np.arctan2(linear[1, 0], linear[0, 0])
            angles.append(np.degrees(angle))
            turned_back = np.array(
                [[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]
            )
            slope = (turned_back @ linear)[0, 1] / np.hypot(*linear[:, 0])
            slopes.append(np.degrees(np.arctan(slope)))
            x, y = warp @ [(width - 1) / 2, (height - 1) / 2, 1]
            assert y == pytest.approx((crop - 1) / 2)
            lefts.append(x - (crop - 1) / 2)
        scales += sizes
        ratios.append(max(sizes) / min(sizes))
    for values, bound in ((angles, 20), (slopes, 10), (lefts, (long - crop) / 2)):
        assert -bound <= min(values) < -0.97 * bound
        assert bound >= max(values) > 0.97 * bound
    assert 0.8 * 0.9 <= min(scales) < 0.76
    assert 1.5 * 1.1 >= max(scales) > 1.6
    assert 1.15 < max(ratios) <= 1.1 / 0.9  # the zoom is the clip's
    assert 150 < mirrored < 250


def test_a_light_view_wanders_within_its_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    for still in ("rotation_deg", "shear", "scale"):
        monkeypatch.setattr(static_clips._Light, still, 0.0)
    rng = np.random.default_rng(0)
    ways = []
    for _ in range(100):
        warps = static_clips._Light().warps(rng, np.ones((120, 200), bool), 50, 4)
        ways += [warp - warps[0] for warp in warps[1:]]
    assert np.abs(np.stack(ways)[:, :, :2]).max() < 1e-9
    widest = np.abs(np.stack(ways)[:, :, 2]).max(axis=0)
    assert (widest <= 2 * 0.08 * 50).all()
    assert (widest > 1.8 * 0.08 * 50).all()


def test_stcns_colours_change_by_clip_and_less_by_frame() -> None:
    """A flat red: grey clips have no red left, the others as bright a red as two factors allow."""
    rng = np.random.default_rng(0)
    flat = np.full((3, 2, 2, 3), (180, 90, 90), dtype=np.uint8)
    changed = torch.stack([static_clips._Stcn().colours(rng, flat)[..., 0, 0] for _ in range(400)])
    red = changed[..., 0] - changed[..., 1:].mean(dim=2)  # (400, T)
    grey = (red.abs() < 1e-5).all(dim=1)
    assert 8 < grey.sum() < 36
    assert (red[~grey] > 0.2).all()
    level = changed[~grey].mean(dim=2) * 255 / 120  # hue and saturation move it by some percent
    assert 0.9**2 * 0.94 < level.min() < 0.87
    assert 1.15 < level.max() < 1.1**2 * 1.06
    apart = level.amax(dim=1) / level.amin(dim=1)
    assert 1.15 < apart.max() < 1.1 / 0.9 * 1.02
    assert (changed[~grey][..., 1] - changed[~grey][..., 2]).abs().max() > 0.05  # hue has turned


@pytest.mark.parametrize("spread", [0.01, 0.02])
def test_a_third_of_the_frames_is_bent_by_about_the_spread(spread: float) -> None:
    crop = 40
    rng = np.random.default_rng(0)
    bends = [static_clips._bend(rng, spread, crop) for _ in range(600)]
    maps = np.stack([bend for bend in bends if bend is not None])
    assert 0.27 < len(maps) / len(bends) < 0.39
    straight = np.stack(np.meshgrid(np.arange(crop), np.arange(crop)), axis=-1)
    way = np.median(np.abs(maps - straight), axis=(1, 2))  # of one frame: robust to folds at rims
    assert 0.4 * spread * crop < np.median(way) < 1.2 * spread * crop


@pytest.mark.parametrize("change", ["clip_length", "crop", "max_objects"])
def test_sizes_and_repeats_below_one_are_refused(tmp_path: Path, change: str) -> None:
    images = write(tmp_path, 1)
    with pytest.raises(ValueError, match=f"{change} 0"):
        clips((images, 1), **{change: 0})
    with pytest.raises(ValueError, match=r"repeats \[0\]"):
        clips((images, 0))
    with pytest.raises(ValueError, match="0 sources"):
        clips()


def test_problems_of_a_folder_stop_the_clips_before_the_first(tmp_path: Path) -> None:
    images = write(tmp_path)
    (tmp_path / "2.png").unlink()
    with pytest.raises(InputError, match=r"2\.jpg: image without mask"):
        clips((images, 1))
