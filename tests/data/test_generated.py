"""Test generated clips: exact masks, motion, and equal clips for every caller."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from vosmodels.data import generated
from vosmodels.data.generated import (
    GeneratedClips,
    Scene,
    cover,
    object_texture,
    painted,
    pattern,
    sequences,
)
from vosmodels.support.seeding import numpy_generator
from vosmodels.types import IGNORED


def clips(**changes: Any) -> GeneratedClips:
    settings: dict[str, Any] = {"seed": 0, "clip_length": 3, "crop": 64, "max_objects": 2}
    return GeneratedClips(**settings | changes)


def copy_first_mask_j(split: generated.Split, seed: int = 0) -> float:
    """Mean J of the first mask copied to every third later frame, over the objects of a split."""
    scores = []
    for sequence in sequences(split, seed=seed, count=12):
        for number in sequence.ids:
            truth = np.stack([sequence.mask(t) for t in range(1, len(sequence) - 1, 3)]) == number
            copy = sequence.mask(0) == number
            union = (truth | copy).sum((1, 2))
            scores.append(((truth & copy).sum((1, 2)) / union).mean())
    return float(np.mean(scores))


def test_a_few_labelled_clips_come_again_and_again() -> None:
    few, all_of_them = clips(labelled=3), clips()
    for index in range(7):
        clip, same = few.sample(index), all_of_them.sample(index % 3)
        assert torch.equal(clip.frames, same.frames)
        assert torch.equal(clip.masks, same.masks)
        assert (clip.samples, clip.labelled) == ((index,), True)


def test_every_second_clip_beside_a_few_labelled_ones_has_a_first_mask_alone() -> None:
    mixed, all_of_them = clips(labelled=3, unlabelled=True), clips()
    numbers = [0, 3, 1, 4, 2, 5, 0, 6]
    for index, number in enumerate(numbers):
        clip, same = mixed.sample(index), all_of_them.sample(number)
        assert torch.equal(clip.frames, same.frames)
        assert torch.equal(clip.masks[:, 0], same.masks[:, 0])
        assert clip.labelled is (number < 3)
        assert torch.equal(clip.masks[:, 1:] == IGNORED, torch.full((1, 2, 64, 64), number >= 3))


@pytest.mark.parametrize("max_objects", [1, 2])
def test_sample_has_the_shapes_of_a_clip(max_objects: int) -> None:
    clip = clips(max_objects=max_objects).sample(5)
    assert clip.frames.shape == (1, 3, 3, 64, 64)
    assert clip.frames.dtype == torch.float32
    assert 0.0 <= clip.frames.min() < 0.4 < clip.frames.max() <= 1.0
    assert clip.masks.shape == (1, 3, 64, 64)
    assert clip.masks.dtype == torch.int64
    assert clip.present.shape == (1, max_objects)
    assert clip.samples == (5,)


def test_present_says_which_ids_the_first_frame_holds() -> None:
    counts = set()
    for index in range(40):
        clip = clips().sample(index)
        held = [bool((clip.masks[0, 0] == slot).any()) for slot in (1, 2)]
        assert held == clip.present[0].tolist()
        assert clip.masks.max() <= 2
        counts.add(sum(held))
    assert counts == {1, 2}


def test_sample_is_the_same_whoever_asks_and_in_any_order() -> None:
    there, back = clips(), clips()
    forward = [there.sample(i) for i in range(4)]
    backward = [back.sample(i) for i in reversed(range(4))][::-1]
    for one, other in zip(forward, backward, strict=True):
        torch.testing.assert_close(one.frames, other.frames, rtol=0, atol=0)
        assert torch.equal(one.masks, other.masks)


def test_another_index_and_another_seed_are_other_clips() -> None:
    frames = [clips(seed=s).sample(i).frames for s, i in ((0, 0), (0, 1), (1, 0))]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert (frames[one] - frames[other]).abs().mean() > 0.05


def test_the_target_of_a_scene_with_distractors_is_drawn_at_random() -> None:
    """With one slot, scenes of three shapes give masks of back, middle and front shapes."""
    chosen = set()
    for index in range(40):
        clip = clips(max_objects=1, clip_length=1).sample(index)
        scene = Scene(numpy_generator(0, "generated-train-clip", index), 64, 64)
        _, ids = scene.draw(0)
        inside = np.unique(ids[clip.masks[0, 0].numpy() == 1])
        assert len(inside) == 1, "the target's mask is exactly one shape's"
        if len(scene.shapes) == 3:
            chosen.add(int(inside[0]))
    assert chosen == {1, 2, 3}


def test_every_object_of_the_first_frame_is_visible_with_a_sensible_area() -> None:
    for index in range(40):
        scene = Scene(numpy_generator("visible", index), 48, 60)
        _, ids = scene.draw(0)
        for number, shape in enumerate(scene.shapes, start=1):
            alone = cover(shape.contour(0) * 48, 48, 60).coverage > 0.5
            visible = (ids == number).sum()
            assert visible >= 0.02 * 48 * 60
            assert visible >= 0.5 * alone.sum()


def test_the_front_shape_is_labelled_where_it_covers_more_than_half_a_pixel() -> None:
    for index in range(10):
        scene = Scene(numpy_generator("front", index), 48, 48)
        _, ids = scene.draw(2)
        layer = cover(scene.shapes[-1].contour(2) * 48, 48, 48)
        front = np.zeros((48, 48), bool)
        front[layer.window] = layer.coverage > 0.5
        assert np.array_equal(ids == len(scene.shapes), front)


def test_scenes_hold_one_to_three_objects_that_hide_each_other() -> None:
    counts, hidden = set(), 0
    for index in range(40):
        scene = Scene(numpy_generator("count", index), 48, 48)
        counts.add(len(scene.shapes))
        for t in range(8):
            whole = sum(
                int((cover(s.contour(t) * 48, 48, 48).coverage > 0.5).sum()) for s in scene.shapes
            )
            hidden += whole > (scene.draw(t)[1] > 0).sum()
    assert counts == {1, 2, 3}
    assert hidden > 40, "occlusion is common"


def test_cover_is_the_area_of_a_polygon() -> None:
    """Shoelace formula, for polygons inside the picture with edges off the pixel grid."""
    rng = np.random.default_rng(3)
    for _ in range(20):
        angle = np.sort(rng.uniform(0, 2 * np.pi, 12))
        radius = rng.uniform(5, 12, 12)[:, None]
        points = np.array([16.3, 18.7]) + radius * np.stack([np.cos(angle), np.sin(angle)], 1)
        x, y = points.T
        area = 0.5 * abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))))
        layer = cover(points, 40, 36)
        assert layer.coverage.sum() == pytest.approx(area, rel=0.06)
        assert layer.coverage.min() >= 0
        assert layer.coverage.max() <= 1


def test_cover_puts_an_axis_aligned_box_where_it_lies() -> None:
    box = np.array([[4.0, 6.0], [9.0, 6.0], [9.0, 14.0], [4.0, 14.0]])
    layer = cover(box, 20, 20)
    ids = np.zeros((20, 20), bool)
    ids[layer.window] = layer.coverage > 0.5
    rows, columns = np.nonzero(ids)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (6, 13, 4, 8)
    assert ids.sum() == 40


def test_cover_is_cut_at_the_picture_and_empty_outside() -> None:
    box = np.array([[-5.0, -5.0], [4.0, -5.0], [4.0, 3.0], [-5.0, 3.0]])
    assert (cover(box, 20, 20).coverage > 0.5).sum() == 12
    assert cover(box - 30, 20, 20).coverage.size == 0
    assert cover(box + 60, 20, 20).coverage.size == 0


def test_drawn_pixels_are_the_object_inside_its_mask_and_the_ground_outside() -> None:
    """Objects are saturated, the ground is nearly grey: colour alone finds the mask again."""
    agreement = []
    for index in range(12):
        frame, ids = Scene(numpy_generator("colour", index), 96, 96).draw(3)
        smooth = cv2.medianBlur(frame, 3).astype(int)
        saturated = smooth.max(2) - smooth.min(2) > 0.42 * smooth.max(2)
        both = saturated | (ids > 0)
        agreement.append((saturated & (ids > 0)).sum() / both.sum())
    assert np.mean(agreement) > 0.85


def test_objects_of_a_scene_have_hues_that_are_told_apart() -> None:
    for index in range(20):
        scene = Scene(numpy_generator("hues", index), 48, 48)
        if len(scene.shapes) < 2:
            continue
        hues = []
        for shape in scene.shapes:
            mean = shape.texture.reshape(-1, 3).mean(0).astype(np.uint8)
            hues.append(int(cv2.cvtColor(mean[None, None], cv2.COLOR_RGB2HSV)[0, 0, 0]) * 2)
        apart = [
            min((a - b) % 360, (b - a) % 360) for k, a in enumerate(hues) for b in hues[k + 1 :]
        ]
        assert min(apart) > 40


def test_texture_moves_with_its_shape() -> None:
    """The same piece of texture is found under the centre before and after a move and a turn."""
    scene = next(
        s
        for s in (Scene(numpy_generator("texture", k), 128, 128) for k in range(50))
        if len(s.shapes) == 1
    )
    shape = scene.shapes[0]

    def unwarped(t: float) -> generated.F32:
        centre, size, turn = shape.placement(t)
        cos, sin = np.cos(turn) * size, np.sin(turn) * size
        x, y = centre * 128
        matrix = np.array([[cos, -sin, x - 8 * (cos - sin)], [sin, cos, y - 8 * (sin + cos)]])
        frame = scene.draw(t)[0].astype(np.float32)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        patch: generated.F32 = cv2.warpAffine(frame, matrix, (16, 16), flags=flags)
        return patch

    assert np.linalg.norm(shape.placement(5)[0] - shape.placement(0)[0]) > 0.05
    assert np.abs(unwarped(5) - unwarped(0)).mean() < 12


def test_pattern_has_contrast_and_painted_goes_from_dark_to_light() -> None:
    grey = pattern(numpy_generator("pattern"), 64)
    assert grey.shape == (64, 64)
    assert grey.std() > 50
    ramp = np.array([[0, 255]], np.uint8)
    dark, light = np.array([10.0, 20.0, 30.0]), np.array([200.0, 100.0, 50.0])
    np.testing.assert_array_equal(painted(ramp, dark, light)[0], [dark, light])
    texture = object_texture(numpy_generator("red"), 0.0).reshape(-1, 3).mean(0)
    assert texture[0] > 1.8 * max(texture[1], texture[2])


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_copying_the_first_mask_scores_below_035(split: generated.Split) -> None:
    assert 0.05 < copy_first_mask_j(split) < 0.30


def test_every_object_moves_deforms_and_turns() -> None:
    areas, shifts = [], []
    for sequence in sequences("val", count=8):
        for number in sequence.ids:
            masks = [sequence.mask(t) == number for t in range(len(sequence))]
            assert sum(m.any() for m in masks) > 10, "an object is seen in most frames"
            areas.append(max(m.sum() for m in masks) / masks[0].sum())
            centres = [np.argwhere(m).mean(0) for m in masks if m.any()]
            shifts.append(max(np.linalg.norm(c - centres[0]) for c in centres))
    assert np.mean(areas) > 1.1
    assert np.mean(shifts) > 30


def test_val_and_test_are_the_same_for_every_seed_and_train_is_not() -> None:
    fixed: dict[generated.Split, bool] = {"val": True, "test": True, "train": False}
    for split, same in fixed.items():
        one, other = (sequences(split, seed=s, count=1)[0] for s in (0, 1))
        assert np.array_equal(one.frame(3), other.frame(3)) is same


def test_splits_and_training_clips_share_no_scene() -> None:
    splits: tuple[generated.Split, ...] = ("train", "val", "test")
    frames = [s.frame(0)[:, :128] for p in splits for s in sequences(p, count=4)]
    source = GeneratedClips(seed=0, clip_length=1, crop=128, max_objects=1)
    clips = [source.sample(i).frames[0, 0].permute(1, 2, 0).numpy() * 255 for i in range(4)]
    frames += [clip.astype(np.uint8) for clip in clips]
    for k, one in enumerate(frames):
        for other in frames[k + 1 :]:
            assert np.abs(one.astype(float) - other).mean() > 8


def test_sequence_is_a_video_of_uint8_frames_and_ids() -> None:
    sequence = sequences("test", count=1, size=(48, 64), length=5)[0]
    assert len(sequence) == 5
    assert sequence.name == "generated-test-00"
    assert sequence.frame(4).shape == (48, 64, 3)
    assert sequence.frame(4).dtype == sequence.mask(4).dtype == np.uint8
    assert list(sequence.ids) == list(range(1, int(sequence.mask(0).max()) + 1))
    assert np.array_equal(sequence.frame(2), sequence.frame(2))


def test_split_counts_and_names_are_fixed() -> None:
    assert [len(sequences(s)) for s in ("val", "test")] == [12, 24]
    assert len({s.name for s in sequences("test")}) == 24


def test_an_unknown_split_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="'validation'"):
        sequences("validation")  # type: ignore[arg-type]  # on purpose: the value is wrong


def test_a_clip_takes_a_few_milliseconds() -> None:
    source = GeneratedClips(seed=0, clip_length=3, crop=128, max_objects=1)
    source.sample(0)
    times = []
    for index in range(10):
        start = time.thread_time()
        source.sample(index)
        times.append(time.thread_time() - start)
    assert min(times) < 0.04, "of the processor; 7 ms on an idle machine"


def test_scenes_of_up_to_five_objects_show_each_of_them() -> None:
    counts = set()
    for sequence in sequences("test", objects=5, size=(96, 120), length=1):
        ids = sequence.mask(0)
        areas = np.bincount(ids.ravel())[1:]
        assert (areas >= 0.02 * ids.size).all()
        counts.add(len(areas))
    assert counts == {1, 2, 3, 4, 5}
    shapes = Scene(numpy_generator("five", 0), 96, 96, objects=5).shapes
    assert len(shapes) == 5
    assert max(shape.radius for shape in shapes) < generated.RADIUS[1] * (3 / 5) ** 0.5
    clip = clips(max_objects=5, scene_objects=5, clip_length=1).sample(0)
    assert clip.present.shape == (1, 5)


def test_a_scene_of_strong_scale_change_has_objects_whose_size_changes_as_said() -> None:
    """Uncut and unhidden outlines, without the small swings that every shape has."""
    grows = set()
    for index in range(8):
        calm, strong = (
            Scene(numpy_generator("scale", index), 64, 64, objects=1, scale=scale).shapes[0]
            for scale in (1.0, 3.0)
        )
        ends = [
            strong.placement(t)[1] / replace(strong, growth=0.0).placement(t)[1]
            for t in (0.0, 15.0)
        ]
        assert calm.growth == 0
        assert max(ends) / min(ends) == pytest.approx(3.0)
        assert ends[0] * ends[1] == pytest.approx(1.0)
        grows.add(ends[1] > ends[0])
    assert grows == {True, False}


def test_objects_change_their_area_more_in_videos_of_strong_scale_change() -> None:
    def change(scale: float) -> float:
        ratios = []
        for sequence in sequences("test", count=8, size=(64, 80), objects=2, scale=scale):
            for number in sequence.ids:
                areas = [int((sequence.mask(t) == number).sum()) for t in (0, 15)]
                ratios.append((max(areas) + 1) / (min(areas) + 1))
        return float(np.median(ratios))

    assert change(4.0) > 2 * change(1.0)
