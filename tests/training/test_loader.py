"""Test batches made ahead."""

import signal
import subprocess
import sys
import time
from dataclasses import dataclass

import psutil
import pytest
import torch

from orchestrator.config.loss import LossConfig
from orchestrator.training.distill_step import DistillStep
from orchestrator.training.loader import MOST, Batches, automatic, prefetch
from tests.tiny import SquareClips
from vosmodels.data.clips import batch
from vosmodels.errors import InputError

SELECT = DistillStep(LossConfig(sampling="random"), seed=3).select
ONE = (SELECT,)
SQUARES = Batches(SquareClips(objects=2), ONE, batch_size=2)


@dataclass(frozen=True)
class Torn:
    """Clips of which one cannot be read."""

    at: int

    def sample(self, index):
        if index == self.at:
            raise InputError(f"clip {index}: corrupt picture; restore the file")
        return SquareClips().sample(index)


def assert_same(left, right):
    assert left.clip.samples == right.clip.samples
    (chosen,), (other,) = left.selections, right.selections
    assert chosen.counts == other.counts
    for pair, names in (
        ((left.clip, right.clip), ("frames", "masks", "present")),
        ((chosen, other), ("rows", "labels", "logit_pixels")),
    ):
        for name in names:
            assert torch.equal(*(getattr(part, name) for part in pair)), name


def test_a_step_gets_its_clips_and_their_pixels():
    (made,) = prefetch(SQUARES, range(5, 6), workers=0)
    clip = batch(SquareClips(objects=2), 5, 2)
    assert made.clip.samples == (10, 11)
    assert torch.equal(made.clip.frames, clip.frames)
    selection = SELECT(clip)
    assert selection is not None
    (chosen,) = made.selections
    assert chosen is not None
    assert torch.equal(chosen.rows, selection.rows)


def test_every_student_gets_the_pixels_that_it_would_choose_alone():
    other = DistillStep(LossConfig(sampling="boundary"), seed=3).select
    squares = Batches(SquareClips(objects=2), (SELECT, other, SELECT), batch_size=2)
    (made,) = prefetch(squares, range(5, 6), workers=0)
    clip = batch(SquareClips(objects=2), 5, 2)
    for select, chosen in zip((SELECT, other, SELECT), made.selections, strict=True):
        alone = select(clip)
        assert alone is not None
        assert chosen is not None
        assert torch.equal(chosen.rows, alone.rows)
    first, second, _ = made.selections
    assert first is not None
    assert second is not None
    assert not torch.equal(first.rows, second.rows)


def test_without_distillation_there_is_no_selection_to_move():
    none = DistillStep(LossConfig(logit=0, representation=0), seed=0).select
    (made,) = prefetch(Batches(SquareClips(), (none,), 2), range(1), workers=0)
    assert made.selections == (None,)
    assert made.to(torch.device("cpu")).selections == (None,)


def test_loading_draws_nothing_from_the_process():
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    list(prefetch(SQUARES, range(3), workers=0))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_batch_that_cannot_be_shared_is_refused():
    with pytest.raises(ValueError, match="batch_size 2 for rank 0 of 3"):
        next(prefetch(Batches(SquareClips(), ONE, 2, 0, 3), range(1), workers=0))


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_what_cannot_be_read_is_told_at_its_step_in_one_line(workers):
    made = prefetch(Batches(Torn(at=5), ONE, 2), range(9), workers=workers)
    assert [next(made).clip.samples for _ in range(2)] == [(0, 1), (2, 3)]
    with pytest.raises(InputError) as raised:
        next(made)
    assert str(raised.value) == "clip 5: corrupt picture; restore the file"


def test_a_cpu_gets_no_workers_and_a_gpu_the_cores_its_trainer_has():
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert [automatic(cpu, threads) for threads in (1, 64)] == [0, 0]
    assert [automatic(gpu, threads) for threads in (1, 2, 4, 64)] == [1, 1, 3, MOST]


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_workers_make_the_batches_of_no_workers_from_any_step_on(workers):
    expected = list(prefetch(SQUARES, range(7), workers=0))
    for start in (0, 4):
        made = list(prefetch(SQUARES, range(start, 7), workers=workers))
        for one, other in zip(expected[start:], made, strict=True):
            assert_same(one, other)


@pytest.mark.slow
def test_workers_end_with_the_iterator():
    made = prefetch(SQUARES, range(1000), workers=2)
    next(made)
    working = living_workers(psutil.Process())
    assert len(working) == 2
    made.close()
    assert not living(working, within_s=10)


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_workers_do_not_outlive_the_process_that_wanted_them(how):
    code = (
        "from tests.training.test_loader import SQUARES, prefetch\n"
        "for step, _ in enumerate(prefetch(SQUARES, range(10**9), workers=2)):\n"
        "    step or print('first', flush=True)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as trainer:
        assert trainer.stdout is not None
        assert trainer.stdout.readline() == b"first\n"
        started = psutil.Process(trainer.pid).children(recursive=True)
        assert len(living_workers(psutil.Process(trainer.pid))) == 2
        trainer.send_signal(how)
        trainer.wait(20)
        assert trainer.returncode != 0
        assert not living(started, within_s=30)


def living_workers(process):
    """The processes that make batches: those below the server that they are forked from."""
    return [child for server in process.children() for child in server.children()]


def living(processes, within_s):
    """List the processes that still run after at most `within_s` seconds."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        left = [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
        if not left:
            return []
        time.sleep(0.1)
    return left
