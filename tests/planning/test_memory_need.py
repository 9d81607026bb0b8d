"""Test the memory that jobs take, against tensors counted on a real step."""

import subprocess
import sys

import pytest
import torch

from orchestrator.config.loading import load
from orchestrator.config.models import StudentConfig
from orchestrator.execution import driver
from orchestrator.planning.memory_need import memory_need, step_bytes
from orchestrator.planning.placement import Placement
from orchestrator.planning.plan import plan_sweep
from vosmodels import registry
from vosmodels.distillation import linear_cka, relation_losses
from vosmodels.distillation.baselines import channels_kl
from vosmodels.errors import InputError
from vosmodels.support.live_bytes import LiveBytes
from vosmodels.support.memory import GIB, Memory
from vosmodels.types import Clip

STUDENT = StudentConfig(name="mobilevos_mobilenetv2_noaspp")
HERE = Placement(at_once=2, workers=1, threads=1, gpus=0)
LAPTOP = Memory(24 * GIB, 20 * GIB)


def saved(name, frames, objects, crop):
    """Bytes that autograd saves in a real forward pass, counted by its hooks."""
    model = registry.build(name, seed=0).train()
    own = {p.untyped_storage().data_ptr() for p in (*model.parameters(), *model.buffers())}
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = (storage.nbytes(), tensor)
        return tensor

    clip = Clip(
        torch.rand(1, frames, 3, crop, crop),
        torch.zeros(1, frames, crop, crop, dtype=torch.int64),
        torch.ones(1, objects, dtype=torch.bool),
        (0,),
    )
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = model(clip)
    assert output.logits.requires_grad
    return sum(size for size, _ in kept.values())


def sweep_file(tmp_path, text=""):
    path = tmp_path / "s.yaml"
    path.write_text(
        "student: {name: mobilevos_mobilenetv2_noaspp}\n"
        f"sweep: {{parameters: {{loss.omega: [0, 1]}}}}\nstorage: {tmp_path / 'store'}\n{text}"
    )
    return path


def alone(plan):
    """The rounds of a plan with every job in a group of its own."""
    return [[(job,) for job in jobs] for jobs in plan.rounds]


def need(tmp_path, *overrides, text="", placement=HERE, machine=LAPTOP, gpu=None):
    config = load(sweep_file(tmp_path, text), overrides)
    plan = plan_sweep(config, "id", 1)
    return memory_need(alone(plan), config, placement, machine, gpu)


@pytest.mark.parametrize("objects", [1, 3])
def test_a_step_holds_what_autograd_saves(objects):
    real = saved(STUDENT.name, 3, objects, 64)
    assert step_bytes(STUDENT, 3, objects, 64) == pytest.approx(real, rel=0.05)


def test_a_long_clip_is_extended_as_if_it_were_traced():
    teacher = StudentConfig(name="stcn_mobilenetv2")
    assert step_bytes(teacher, 8, 1, 32) == pytest.approx(saved(teacher.name, 8, 1, 32), rel=0.05)


def test_what_the_machine_has_no_room_for_is_refused_with_its_sum(tmp_path):
    with pytest.raises(InputError) as caught:
        need(tmp_path, "train.batch_size=4096", "train.crop=384").check()
    text = str(caught.value)
    assert "\n" not in text
    assert "train.batch_size 4096 x train.clip_length 5 x train.crop 384" in text
    assert "this machine has 24 GiB (20 free)" in text
    assert "lower the batch size" in text


def test_more_objects_than_fit_are_refused_and_two_are_not(tmp_path):
    need(tmp_path, "data.max_objects=2").check()
    with pytest.raises(InputError, match=r"data\.max_objects 255"):
        need(tmp_path, "data.max_objects=255").check()


def test_a_job_fits_alone_that_does_not_fit_twice(tmp_path):
    machine = Memory(7 * GIB, 7 * GIB)
    crop = "train.crop=192"
    alone = Placement(at_once=1, workers=1, threads=2, gpus=0)
    need(tmp_path, crop, placement=alone, machine=machine).check()
    with pytest.raises(InputError, match="times 2 workers at once"):
        need(tmp_path, crop, machine=machine).check()


def test_a_stage_is_named_by_its_place_in_the_file(tmp_path):
    stages = "stages: [{name: video, steps: 9}, {name: video, steps: 9, batch_size: 9000}]\n"
    with pytest.raises(InputError, match=r"trial .*, stages\.1\.batch_size 9000"):
        need(tmp_path, text=stages).check()


def test_a_cluster_is_told_of_and_not_refused(tmp_path):
    wide = need(tmp_path, "train.batch_size=60000", machine=None)
    wide.check()
    assert "GiB, over all nodes" in wide.describe()


def test_a_gpu_that_is_here_is_what_counts(tmp_path):
    gpu = Placement(at_once=1, workers=1, threads=1, gpus=0.5)
    need(tmp_path, "train.batch_size=64", placement=gpu, gpu=140.0 * GIB).check()
    with pytest.raises(InputError, match=r"of a GPU.*each GPU has 8\.0 GiB"):
        need(tmp_path, "train.batch_size=64", placement=gpu, gpu=8.0 * GIB).check()


SIDE = 113  # px, 8 x 8 positions
ATTENDING = (
    *("loss.representation=0", f"train.crop={SIDE}", f"stem.crop={SIDE}", "train.batch_size=2"),
    *("student.name=deaott", "teacher.name=deaott"),
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "hold"),
    [
        (("loss.attention=1.0",), lambda s, t, p, q: linear_cka(s, t)),
        (
            ("loss.attention=1.0", "loss.attention_loss=kl"),
            lambda s, t, p, q: channels_kl(s, t),
        ),
        (("loss.inter=1.0", "loss.intra=1.0"), lambda s, t, p, q: relation_losses(p, q)),
    ],
)
def test_attentions_and_relations_are_counted(tmp_path, words, hold):
    """By the tensors that are alive after the forward pass; the backward pass adds to them."""

    def step(*further):
        text = "sweep: {parameters: {train.lr: [0.1]}}\n"
        path = tmp_path / "a.yaml"
        path.write_text(f"{text}storage: {tmp_path / 'store'}\n")
        config = load(path, [*ATTENDING, *further])
        rounds = alone(plan_sweep(config, "id", 1))
        needs = memory_need(rounds, config, HERE, LAPTOP, None).steps
        (trial,) = (need.step for need in needs if need.place.startswith("trial"))
        return trial

    shape = (2, 4, 64, 512)  # clips, frames, positions, width
    pixels = (2, 4, SIDE**2, 3)
    inputs = [torch.rand(shape).requires_grad_(), torch.rand(shape)]
    inputs += [torch.rand(pixels).softmax(-1).requires_grad_(), torch.rand(pixels).softmax(-1)]
    with LiveBytes() as live:
        value = hold(*inputs)
        held = live.now
    del value
    if "loss.attention=1.0" in words:  # the models keep what they return
        held += sum(x.nbytes for x in inputs[:2])
    counted = step(*words) - step()
    assert held <= counted <= 5 * held


def test_a_further_student_in_lockstep_adds_its_weights_and_no_step(tmp_path):
    config = load(sweep_file(tmp_path, ""), ())
    trials = plan_sweep(config, "id", 1).trials
    one = memory_need([[trials[:1]]], config, HERE, LAPTOP, None)
    two = memory_need([[trials]], config, HERE, LAPTOP, None)
    weights = sum(p.numel() for p in registry.build(config.student.name, seed=0).parameters())
    assert two.steps[0].weights - one.steps[0].weights == 6 * 4 * weights
    assert two.steps[0].step == one.steps[0].step
    assert two.steps[0].place.startswith("2 x trial")
    with pytest.raises(InputError, match="2 x trial"):
        memory_need([[trials]], config, HERE, Memory(GIB, GIB), None).check()
    assert not memory_need([[trials]], config, HERE, Memory(GIB, GIB), None).fits
    assert two.fits


@pytest.mark.slow
def test_shipped_sweeps_on_generated_clips_fit_in_eight_gigabytes(tmp_path):
    folder = driver.__file__.replace("orchestrator/execution/driver.py", "sweeps")
    for name in ("omega", "full", "table5", "table6", "figure5"):
        config = load(f"{folder}/{name}.yaml")
        rounds = alone(plan_sweep(config, "id", 1))
        memory_need(rounds, config, HERE, Memory(8 * GIB, 8 * GIB), None).check()


PROBE = """
import resource, sys
from orchestrator.config.models import StudentConfig
from orchestrator.planning.memory_need import step_bytes
model = StudentConfig(name="mobilevos_mobilenetv2_noaspp")
step_bytes(model, 3, 2, 96)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
size = step_bytes(model, 3, 250, 4096)
print(size, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
def test_the_forecast_of_an_absurd_size_allocates_nothing():
    done = subprocess.run([sys.executable, "-c", PROBE], check=True, capture_output=True, text=True)
    size, grown_kib = map(float, done.stdout.split())
    assert size > 1000 * GIB
    assert grown_kib < 100 * 1024
