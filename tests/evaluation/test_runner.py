import itertools
import json
import pickle
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from tests import youtubevos
from tests.conftest import FRAMES, HEIGHT, WIDTH
from vosmodels.data.davis import DavisDataset
from vosmodels.data.frames import frame_tensor, scaled_frame, scaled_mask
from vosmodels.data.masks import read_mask, write_palette
from vosmodels.data.youtubevos import YouTubeVosDataset, YouTubeVosSequence
from vosmodels.errors import InputError
from vosmodels.evaluation import runner
from vosmodels.evaluation.metrics import boundary_f, jaccard, statistics
from vosmodels.evaluation.runner import FirstFrameCopy, evaluate, score_folders
from vosmodels.evaluation.scores import ObjectScore, PartialScores, Scores, SequenceScore, Tally
from vosmodels.support.processes import helpers

ORACLE = Path(__file__).resolve().parents[3] / "shared" / "data" / "jf_oracle"


class Script:
    """Answers with masks prepared beforehand and keeps what it was given."""

    def __init__(self, answers: Iterable[np.ndarray]) -> None:
        self.answers = iter(answers)
        self.seen: list[tuple[Tensor, Tensor | None]] = []

    def step(self, frame: Tensor, mask: Tensor | None = None) -> Tensor:
        self.seen.append((frame, mask))
        return torch.from_numpy(next(self.answers).astype(np.int64))


def test_the_truth_scores_one_and_only_the_first_mask_is_given(davis17_root: Path) -> None:
    (cat,) = DavisDataset(davis17_root).sequences("val")
    script = Script([cat.mask(t) for t in range(FRAMES)])
    scores = evaluate(lambda: script, [cat])
    assert (scores.j, scores.f, scores.jf) == (1.0, 1.0, 1.0)
    assert set(scores.sequences[0].objects) == {1, 2}
    frame, given = script.seen[0]
    assert given is not None
    assert given.dtype == torch.int64
    np.testing.assert_array_equal(given, cat.mask(0))
    torch.testing.assert_close(frame * 255, torch.from_numpy(cat.frame(0)).permute(2, 0, 1).float())
    assert all(mask is None for _, mask in script.seen[1:])


def test_first_and_last_frames_do_not_count(davis_root: Path) -> None:
    (cat,) = DavisDataset(davis_root).sequences("val")
    answers = [cat.mask(t) for t in range(FRAMES)]
    answers[0], answers[-1] = answers[0] * 0, answers[-1] * 0
    assert evaluate(lambda: Script(answers), [cat]).jf == 1.0
    answers[-2] = answers[-2] * 0
    scores = evaluate(lambda: Script(answers), [cat])
    assert scores.sequences[0].objects[1].j_frames == (1.0, 1.0, 1.0, 0.0)


def test_the_first_frame_copy_scores_what_its_geometry_says(davis_root: Path) -> None:
    scores = evaluate(FirstFrameCopy, DavisDataset(davis_root).sequences("train"))
    overlaps = [(18 - 4 * t) / (18 + 4 * t) for t in range(1, FRAMES - 1)]
    for sequence in scores.sequences:
        assert sequence.objects[1].j_frames == pytest.approx(overlaps)
    assert [s.name for s in scores.sequences] == ["ant", "bee"]
    assert scores.j == pytest.approx(np.mean(overlaps))
    assert scores.fps is not None and scores.fps > 0


def test_each_video_gets_a_segmenter_of_its_own(davis_root: Path) -> None:
    made: list[FirstFrameCopy] = []

    def factory() -> FirstFrameCopy:
        made.append(FirstFrameCopy())
        return made[-1]

    evaluate(factory, DavisDataset(davis_root).sequences("train"))
    assert len(made) == 2


def test_stride_leaves_frames_out_altogether(davis_root: Path) -> None:
    (cat,) = DavisDataset(davis_root).sequences("val")
    seen: list[tuple[str, int]] = []
    scores = evaluate(
        FirstFrameCopy, [cat], stride=2, on_mask=lambda name, t, ids: seen.append((name, t))
    )
    assert seen == [("cat", 0), ("cat", 2), ("cat", 4)]
    assert scores.sequences[0].objects[1].j_frames == pytest.approx([(18 - 8) / (18 + 8)])


def test_height_scales_frames_masks_and_answers_alike(davis_root: Path) -> None:
    (cat,) = DavisDataset(davis_root).sequences("val")
    answers: list[np.ndarray] = []
    scores = evaluate(
        FirstFrameCopy, [cat], height=24, on_mask=lambda name, t, ids: answers.append(ids)
    )
    assert {a.shape for a in answers} == {(24, 32)}
    assert {a.dtype for a in answers} == {np.dtype(np.uint8)}
    assert scores.sequences[0].objects[1].j_frames[0] == pytest.approx((18 - 4) / (18 + 4))
    frame, ids = scaled_frame(cat, 0, 24), scaled_mask(cat, 0, 24)
    assert (frame.shape, ids.shape) == ((24, 32, 3), (24, 32))
    blocks = cat.frame(0).reshape(24, 2, 32, 2, 3).mean(axis=(1, 3))
    assert np.abs(frame - blocks).max() <= 0.5
    assert scaled_frame(cat, 0, 480).shape == (48, 64, 3)


def fox_of(root: Path, split: str) -> YouTubeVosSequence:
    return YouTubeVosDataset(root).sequences(split)[0]


@pytest.mark.parametrize("split", ["train", "valid_all_frames"])
def test_an_object_that_begins_later_is_given_there_and_alone(
    youtubevos_root: Path, split: str
) -> None:
    truth = [youtubevos.ids("fox", t) for t in range(21)]
    script = Script(truth)
    evaluate(lambda: script, [fox_of(youtubevos_root, split)])
    given = {t: mask for t, (_, mask) in enumerate(script.seen) if mask is not None}
    assert len(script.seen) == 21
    assert set(given) == {0, 10}
    np.testing.assert_array_equal(given[0], truth[0])
    np.testing.assert_array_equal(given[10], np.where(truth[10] == 2, 2, 0))
    assert (truth[10] == 1).any()  # which is followed already, so it is not given again


def test_an_object_counts_on_the_labelled_frames_after_the_one_where_it_begins(
    youtubevos_root: Path,
) -> None:
    fox = fox_of(youtubevos_root, "train")
    nothing = np.zeros((youtubevos.HEIGHT, youtubevos.WIDTH), dtype=np.uint8)
    answers = [youtubevos.ids("fox", t) if t in (5, 10, 15) else nothing for t in range(21)]
    answers[10] = np.where(answers[10] == 1, 1, 0)
    (scores,) = evaluate(lambda: Script(answers), [fox]).sequences
    assert scores.objects[1].j_frames == scores.objects[1].f_frames == (1.0, 1.0, 1.0, 0.0)
    assert scores.objects[2].j_frames == scores.objects[2].f_frames == (1.0, 0.0)


def test_the_first_frame_copy_takes_in_objects_that_begin_later(youtubevos_root: Path) -> None:
    (scores,) = evaluate(FirstFrameCopy, [fox_of(youtubevos_root, "train")]).sequences
    overlaps = {
        i: [max(0, side - t) / (side + min(t, side)) for t in gaps]
        for i, side, gaps in ((1, 14, (5, 10, 15, 20)), (2, 10, (5, 10)))
    }
    for i, expected in overlaps.items():
        assert scores.objects[i].j_frames == pytest.approx(expected)


def test_stride_keeps_the_frames_where_objects_begin(youtubevos_root: Path) -> None:
    seen: list[int] = []
    fox = fox_of(youtubevos_root, "train")
    scores = evaluate(FirstFrameCopy, [fox], stride=15, on_mask=lambda n, t, ids: seen.append(t))
    assert seen == [0, 10, 15]
    assert {i: len(o.j_frames) for i, o in scores.sequences[0].objects.items()} == {1: 2, 2: 1}


def test_a_new_object_of_a_pixel_is_given_at_any_height(youtubevos_root: Path) -> None:
    path = youtubevos.mask(youtubevos_root, "train", "fox", 10)
    ids = youtubevos.ids("fox", 10)
    ids[ids == 2] = 0
    ids[0, 0] = 2
    write_palette(path, ids)
    script = Script([np.zeros((6, 8))] * 21)
    evaluate(lambda: script, [fox_of(youtubevos_root, "train")], height=6)
    given = {t: mask for t, (_, mask) in enumerate(script.seen) if mask is not None}
    assert set(given) == {0, 10}
    assert (given[10] == 2).nonzero().tolist() == [[0, 0]]
    assert not scaled_mask(fox_of(youtubevos_root, "train"), 10, 6)[0, 0]


def test_a_split_whose_masks_only_give_objects_has_speed_but_no_scores(
    youtubevos_root: Path,
) -> None:
    videos = YouTubeVosDataset(youtubevos_root).sequences("valid")
    scores = evaluate(FirstFrameCopy, videos)
    assert scores.sequences == ()
    assert scores.as_dict() == {"mean": None, "sequences": {}, "fps": scores.fps}
    assert Scores.from_dict(scores.as_dict()) == scores
    with pytest.raises(InputError, match="scores come from the benchmark's server"):
        _ = scores.jf


def test_a_video_without_an_object_in_its_first_mask_is_refused(davis_root: Path) -> None:
    path = davis_root / "Annotations/480p/cat/00000.png"
    write_palette(path, np.zeros((48, 64), dtype=np.uint8))
    with pytest.raises(InputError, match="cat: no object in the mask of frame 0"):
        evaluate(FirstFrameCopy, DavisDataset(davis_root).sequences("val"))


def test_a_video_too_short_to_be_scored_is_refused(davis_root: Path) -> None:
    with pytest.raises(InputError, match="cat: 6 frames at stride 3 leave nothing to score"):
        evaluate(FirstFrameCopy, DavisDataset(davis_root).sequences("val"), stride=3)


def test_all_that_cannot_be_scored_is_told_before_a_video_is_run(davis17_root: Path) -> None:
    masks, images = (davis17_root / kind / "480p" for kind in ("Annotations", "JPEGImages"))
    write_palette(masks / "ant" / "00000.png", np.zeros((HEIGHT, WIDTH)))
    for t in range(2, FRAMES):
        (masks / "bee" / f"{t:05d}.png").unlink()
        (images / "bee" / f"{t:05d}.jpg").unlink()
    torn = read_mask(masks / "cat" / "00004.png")
    torn[0, 0] = 255
    write_palette(masks / "cat" / "00004.png", torn)
    dataset = DavisDataset(davis17_root)
    videos = [video for split in ("val", "train") for video in dataset.open(dataset.names(split))]
    with pytest.raises(InputError, match="3 of 3 videos cannot be scored") as caught:
        evaluate(lambda: pytest.fail("a video was run"), videos)
    assert "ant: no object in the mask of frame 0" in str(caught.value)
    assert "bee: 2 frames at stride 1 leave nothing to score" in str(caught.value)
    assert "cat/00004.png: value 1 beside 255" in str(caught.value)


def test_a_video_that_fails_on_the_way_is_named_and_the_others_keep_their_scores(
    davis17_root: Path,
) -> None:
    videos = DavisDataset(davis17_root).sequences("train")
    whole = evaluate(FirstFrameCopy, videos)
    picture = davis17_root / "JPEGImages" / "480p" / "ant" / "00003.jpg"
    picture.write_bytes(picture.read_bytes()[:600])
    with pytest.raises(PartialScores, match=r"1 of 2 videos done.*: ant: .*00003\.jpg") as caught:
        evaluate(FirstFrameCopy, videos)
    assert caught.value.scores.sequences == whole.sequences[1:]
    assert (caught.value.wanted, caught.value.failed) == (2, ("ant",))


def later(root: Path, name: str, number: int, first: int) -> None:
    """Let object `number` of a DAVIS video be seen from frame `first` on."""
    for t in range(first):
        path = root / "Annotations" / "480p" / name / f"{t:05d}.png"
        ids = read_mask(path)
        write_palette(path, np.where(ids == number, 0, ids))


def test_an_object_of_the_davis_layout_that_appears_later_is_given_and_scored_after_it(
    davis17_root: Path,
) -> None:
    later(davis17_root, "cat", 2, 3)
    (cat,) = DavisDataset(davis17_root).sequences("val")
    script = Script([cat.mask(t) for t in range(FRAMES)])
    (scores,) = evaluate(lambda: script, [cat]).sequences
    given = {t: mask for t, (_, mask) in enumerate(script.seen) if mask is not None}
    assert {t: mask.unique().tolist() for t, mask in given.items()} == {0: [0, 1], 3: [0, 2]}
    assert {i: len(score.j_frames) for i, score in scores.objects.items()} == {1: 4, 2: 1}


def test_an_object_that_appears_later_scores_the_same_on_disk(
    davis17_root: Path, tmp_path: Path
) -> None:
    later(davis17_root, "cat", 2, 2)
    (cat,) = DavisDataset(davis17_root).sequences("val")

    def write(name: str, number: int, ids: np.ndarray) -> None:
        (tmp_path / "out" / name).mkdir(parents=True, exist_ok=True)
        write_palette(tmp_path / "out" / name / f"{number:05d}.png", ids)

    scores = evaluate(FirstFrameCopy, [cat], on_mask=write)
    on_disk = score_folders(tmp_path / "out", davis17_root / "Annotations" / "480p")
    assert on_disk.sequences == scores.sequences
    assert [len(score.j_frames) for score in scores.sequences[0].objects.values()] == [4, 2]


def test_evaluate_refuses_no_videos_and_sizes_below_one(davis_root: Path) -> None:
    videos = DavisDataset(davis_root).sequences("val")
    with pytest.raises(ValueError, match="0 sequences"):
        evaluate(FirstFrameCopy, [])
    with pytest.raises(ValueError, match="stride 0"):
        evaluate(FirstFrameCopy, videos, stride=0)
    with pytest.raises(ValueError, match="height 0"):
        evaluate(FirstFrameCopy, videos, height=0)


def test_first_frame_copy_wants_a_mask_first() -> None:
    with pytest.raises(ValueError, match=r"mask is None on the first frame, of shape \(3, 4, 5\)"):
        FirstFrameCopy().step(torch.zeros(3, 4, 5))


def test_means_are_over_objects_not_over_videos() -> None:
    one, zero = ObjectScore((1.0, 1.0), (1.0, 0.5)), ObjectScore((0.0, 0.0), (0.0, 0.0))
    many = SequenceScore("many", {1: one, 2: one, 5: one})
    few = SequenceScore("few", {1: zero})
    scores = Scores((many, few))
    assert (many.j, few.j) == (1.0, 0.0)
    assert scores.j == 0.75
    assert scores.f == pytest.approx(0.75 * 0.75)
    assert scores.jf == pytest.approx((0.75 + 0.5625) / 2)
    assert many.jf == pytest.approx((1 + 0.75) / 2)


def test_scores_survive_json_and_have_the_published_shape() -> None:
    score = ObjectScore((1.0, 0.25, 0.5), (0.1, 0.2, 0.3))
    scores = Scores((SequenceScore("cat", {3: score}),), fps=12.5)
    text = json.dumps(scores.as_dict())
    assert Scores.from_dict(json.loads(text)) == scores
    written = json.loads(text)
    assert written["mean"] == {"j": score.j, "f": score.f, "jf": scores.jf}
    assert written["fps"] == 12.5
    found = written["sequences"]["cat"]["objects"]["3"]
    assert found["J_frames"] == [1.0, 0.25, 0.5]
    expected = statistics(np.array([0.1, 0.2, 0.3]))
    assert found["F"] == {
        "mean": expected.mean,
        "recall": expected.recall,
        "decay": expected.decay,
    }
    assert "fps" not in Scores(scores.sequences).as_dict()
    assert Scores.from_dict(Scores(scores.sequences).as_dict()).fps is None


def four_of(scores: Scores) -> dict[str, float]:
    four = scores.seen_unseen
    assert four is not None
    return four


def test_seen_and_unseen_are_means_over_their_objects_and_g_that_of_the_four() -> None:
    one, half, zero = (ObjectScore((j,), (f,)) for j, f in ((1.0, 0.8), (0.5, 0.4), (0.0, 0.0)))
    both = SequenceScore("both", {1: one, 2: half, 3: half}, frozenset({3, 9}))
    seen = SequenceScore("seen", {1: zero}, frozenset())
    scores = Scores((both, seen))
    wanted = {"j_seen": 0.5, "f_seen": 0.4, "j_unseen": 0.5, "f_unseen": 0.4, "g": 0.45}
    assert four_of(scores) == pytest.approx(wanted)
    written = json.loads(json.dumps(scores.as_dict()))
    assert written["seen_unseen"] == four_of(scores)
    assert Scores.from_dict(written) == scores
    assert Scores((seen,)).seen_unseen is None
    assert Scores((both, SequenceScore("unknown", {1: one}))).seen_unseen is None
    assert "seen_unseen" not in Scores((seen,)).as_dict()


def test_offline_val_knows_its_unseen_objects_also_on_disk(
    youtubevos_root: Path, tmp_path: Path
) -> None:
    meta = youtubevos_root / "train" / "meta.json"
    youtubevos.write_meta(meta, youtubevos.BEGINS, youtubevos.CATEGORY | {2: "bus"})
    scores = noise_in(youtubevos_root, tmp_path / "out")
    fox, owl = scores.sequences
    assert (fox.unseen, owl.unseen) == (frozenset({2}), frozenset({7}))
    four = four_of(scores)
    assert four["j_seen"] == fox.objects[1].j
    assert four["j_unseen"] == pytest.approx((fox.objects[2].j + owl.objects[7].j) / 2)
    annotations = youtubevos_root / "train" / "Annotations"
    assert score_folders(tmp_path / "out" / "Annotations", annotations).seen_unseen == four


def test_a_tally_scores_each_of_its_objects_as_jaccard_and_boundary_f_do() -> None:
    rng = np.random.default_rng(0)
    truth, prediction = rng.integers(0, 4, (2, 5, 12, 14))
    tally = Tally()
    for of_truth, of_prediction in zip(truth[1:-1], prediction[1:-1], strict=True):
        tally.add(of_truth, of_prediction, [1, 3])
    scores = tally.scores()
    assert set(scores) == {1, 3}
    for i, score in scores.items():
        inner = truth[1:-1] == i, prediction[1:-1] == i
        assert score.j_frames == tuple(jaccard(*inner))
        assert score.f_frames == tuple(boundary_f(*inner))


def test_masks_written_by_evaluate_score_the_same_on_disk(
    davis17_root: Path, tmp_path: Path
) -> None:
    def write(name: str, number: int, ids: np.ndarray) -> None:
        (tmp_path / "out" / name).mkdir(parents=True, exist_ok=True)
        write_palette(tmp_path / "out" / name / f"{number:05d}.png", ids)

    dataset = DavisDataset(davis17_root)
    scores = evaluate(FirstFrameCopy, dataset.sequences("train"), on_mask=write)
    on_disk = score_folders(tmp_path / "out", davis17_root / "Annotations" / "480p")
    assert on_disk.sequences == scores.sequences
    merged = score_folders(tmp_path / "out", davis17_root / "Annotations" / "480p", merge=True)
    assert set(merged.sequences[0].objects) == {1}


def noise_in(root: Path, out: Path) -> Scores:
    """Scores of random ids on the train split, whose masks are written in the official layout."""
    videos = {video.name: video for video in YouTubeVosDataset(root).sequences("train")}
    rng = np.random.default_rng(0)
    shape = (youtubevos.HEIGHT, youtubevos.WIDTH)
    choices = [0, 1, 2, 7]

    def write(name: str, number: int, ids: np.ndarray) -> None:
        answer = videos[name].answer(number)
        if answer is not None:
            (out / answer).parent.mkdir(parents=True, exist_ok=True)
            write_palette(out / answer, ids)

    noise = (rng.choice(choices, shape) for _ in itertools.count())
    return evaluate(lambda: Script(noise), list(videos.values()), on_mask=write)


def test_youtubevos_masks_written_by_evaluate_score_the_same_on_disk(
    youtubevos_root: Path, tmp_path: Path
) -> None:
    scores = noise_in(youtubevos_root, tmp_path / "out")
    masks = tmp_path / "out" / "Annotations"
    assert sorted(path.relative_to(masks).as_posix() for path in masks.rglob("*.png")) == [
        *(f"fox/{stem}.png" for stem in youtubevos.stems(0)),
        *(f"owl/{stem}.png" for stem in youtubevos.stems(5)),
    ]
    (masks / "owl" / "00005.png").unlink()  # given, so it does not count
    on_disk = score_folders(masks, youtubevos_root / "train" / "Annotations")
    assert on_disk.sequences == scores.sequences
    assert 0 < on_disk.j < 1


def test_score_folders_refuses_youtubevos_masks_that_nothing_judges(
    youtubevos_root: Path, tmp_path: Path
) -> None:
    noise_in(youtubevos_root, tmp_path / "out")
    masks = tmp_path / "out" / "Annotations"
    (masks / "yak").mkdir()
    with pytest.raises(
        InputError, match=r"fox: 2 PNG for 5 frames .*only by the benchmark's server"
    ) as caught:
        score_folders(masks, youtubevos_root / "valid" / "Annotations")
    assert "owl: 1 PNG for 4 frames" in str(caught.value)
    assert f"{masks / 'yak'}: belongs to no annotated video" in str(caught.value)
    (masks / "yak").rmdir()
    (masks / "fox" / "00020.png").unlink()
    with pytest.raises(
        InputError, match=r"out/Annotations/fox: no mask of 1 of 4 scored frames \(00020\.png\)$"
    ):
        score_folders(masks, youtubevos_root / "train" / "Annotations")


def test_score_folders_names_all_that_is_missing(davis_root: Path, tmp_path: Path) -> None:
    annotations = davis_root / "Annotations" / "480p"
    with pytest.raises(InputError, match="out: no folder with a folder of PNG masks"):
        score_folders(tmp_path / "out", annotations)
    for name in ("cat", "dog"):
        (tmp_path / "out" / name).mkdir(parents=True)
    with pytest.raises(InputError, match="dog: belongs to no annotated video") as caught:
        score_folders(tmp_path / "out", annotations)
    frames = ", ".join(f"{t:05d}.png" for t in (1, 2, 3, 4))
    assert f"out/cat: no mask of 4 of 4 scored frames ({frames})" in str(caught.value)


def test_score_folders_refuses_masks_of_another_size(davis_root: Path, tmp_path: Path) -> None:
    (tmp_path / "out" / "cat").mkdir(parents=True)
    for t in range(FRAMES):
        write_palette(tmp_path / "out" / "cat" / f"{t:05d}.png", np.zeros((20, 10)))
    with pytest.raises(InputError, match=r"cat/00001\.png: 10x20 pixels, its annotation has 64x48"):
        score_folders(tmp_path / "out", davis_root / "Annotations" / "480p")


class PoolHere:
    """A process pool that works in this process, on copies as another process would get, and
    tells for how many workers it was asked."""

    asked: ClassVar[list[int]] = []

    def __init__(self, workers: int) -> None:
        self.asked.append(workers)

    def __enter__(self) -> "PoolHere":
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def map(self, work: Any, *items: Sequence[Any]) -> Iterator[Any]:
        for row in zip(*items, strict=True):
            task, copies = pickle.loads(pickle.dumps((work, row)))
            yield task(*copies)


@pytest.mark.parametrize("pool", [PoolHere, pytest.param(helpers, marks=pytest.mark.slow)])
def test_score_folders_gives_the_same_in_the_same_order_with_two_workers(
    davis17_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pool: Any
) -> None:
    monkeypatch.setattr(runner, "helpers", pool)
    annotations = davis17_root / "Annotations" / "480p"
    for shift, name in enumerate(("ant", "bee", "cat")):
        (tmp_path / "out" / name).mkdir(parents=True)
        for path in (annotations / name).glob("*.png"):
            moved = np.roll(read_mask(path), shift, axis=1)
            write_palette(tmp_path / "out" / name / path.name, moved)
    alone = score_folders(tmp_path / "out", annotations, workers=1)
    assert [s.name for s in alone.sequences] == ["ant", "bee", "cat"]
    assert len({s.j for s in alone.sequences}) == 3
    assert score_folders(tmp_path / "out", annotations, workers=2) == alone


@pytest.mark.parametrize(
    ("workers", "cores", "a_worker", "asked"),
    [
        (None, 4, 4, [3]),  # 12 frames pay for three
        (None, 2, 4, [2]),
        (None, 4, 7, []),  # one: this process
        (None, 4, 13, []),
        (None, 9, 1, [3]),  # three videos
        (2, 1, 13, [2]),  # as was asked, whatever it costs
        (1, 4, 4, []),
        (5, 1, 13, [3]),
    ],
)
def test_score_folders_takes_as_many_workers_as_pay(
    davis_root: Path, monkeypatch: pytest.MonkeyPatch, workers, cores, a_worker, asked
) -> None:
    annotations = davis_root / "Annotations" / "480p"
    monkeypatch.setattr(runner, "helpers", PoolHere)
    monkeypatch.setattr(PoolHere, "asked", [])
    monkeypatch.setattr("os.sched_getaffinity", lambda process: range(cores))
    monkeypatch.setattr(runner, "FRAMES_A_WORKER", a_worker)
    assert score_folders(annotations, annotations, workers=workers).jf == 1.0
    assert PoolHere.asked == asked


def test_score_folders_refuses_fewer_workers_than_one(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="workers 0: at least 1"):
        score_folders(tmp_path, tmp_path, workers=0)


def test_frame_tensor_is_planar_float_between_zero_and_one() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    tensor = frame_tensor(frame)
    assert (tensor.shape, tensor.dtype) == ((3, 4, 6), torch.float32)
    assert tensor.is_contiguous()
    np.testing.assert_allclose(tensor.permute(1, 2, 0), frame / 255, rtol=1e-6)


def test_score_folders_equals_the_official_toolkit() -> None:
    if not ORACLE.is_dir():
        pytest.skip("the toolkit's scores (shared/data/jf_oracle) are not beside this checkout")
    expected = json.loads((ORACLE / "expected.json").read_text())
    scores = score_folders(ORACLE / "osvos", ORACLE / "Annotations" / "480p")
    assert {s.name for s in scores.sequences} == set(expected)
    for sequence in scores.sequences:
        score, wanted = sequence.objects[1], expected[sequence.name]
        np.testing.assert_allclose(score.j_frames, wanted["J_frames"], rtol=0, atol=1e-9)
        np.testing.assert_allclose(score.f_frames, wanted["F_frames"], rtol=0, atol=1e-9)
        np.testing.assert_allclose(score.j_statistics.decay, wanted["J"][2], rtol=0, atol=1e-9)
