"""Test which trials a sweep consists of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.config import RunConfig, SweepConfig, load
from orchestrator.config.loss import LossConfig
from orchestrator.config.sections import SweepSection
from orchestrator.planning.plan import plan_sweep
from orchestrator.planning.trials import idle_keys, trials
from vosmodels import registry

SCORED = ("select", "report")
SWEEPS = Path(__file__).resolve().parents[2] / "sweeps"


def swept(
    parameters: dict[str, Any],
    seeds: int = 1,
    points: dict[str, dict[str, Any]] | None = None,
    **further: Any,
) -> SweepConfig:
    section = SweepSection(parameters=parameters, seeds=seeds, points=points or {}, **further)
    return SweepConfig(name="s", sweep=section)


ATTENTION_ROWS = {  # rows of the sweeps on distilled attention
    "deformable": ["vanilla", "deformable", "KL", "logits only", "masks"],
    "lambda": ["lambda=0.5", "lambda=1.0", "lambda=1.5", "lambda=2.0"],
    "attention": ["map 3", "map 2", "map 1"],
    "attention_loss": ["CKA", "KL", "KL of weights"],
    "kd_method": ["DIST", "PEFD", "MobileVOS", "ours"],
    "loss_terms": ["inter", "inter + intra", "inter + intra + attention"],
    "generality": [
        f"{k} student=aott{m}" for k in ("conventional", "ours") for m in ("", "_deformable")
    ],
    "objects": ["MobileVOS", "logits only", "ours"],
    "paper/deformable": ["distilled"],
}


@pytest.mark.parametrize("name", ATTENTION_ROWS)
def test_a_sweep_on_distilled_attention_has_its_rows_and_no_row_reads_a_later_mask(name):
    rows = trials(load(SWEEPS / f"{name}.yaml"))
    assert [row.name for row in rows] == ATTENTION_ROWS[name]
    for row in rows:
        if row.name == "masks":  # what the others are compared with
            continue
        assert row.config.loss.needs_teacher, row.name
        assert not row.config.loss.needs_labels, row.name
        assert row.config.train.given_masks == 0, row.name


def test_sweeps_with_one_recipe_share_their_teacher_and_stem():
    kin = [SWEEPS / f"{n}.yaml" for n in ("deformable", "lambda", "attention", "loss_terms")]
    plans = [plan_sweep(load(path), "s", 1) for path in [*kin, SWEEPS / "kd_method.yaml"]]
    assert len({plan.teacher.key for plan in plans if plan.teacher}) == 1
    assert all(plan.teacher for plan in plans)
    stems = [{stem.key for stem in plan.stems} for plan in plans]
    assert len(set.intersection(*stems)) == 1
    assert len(set.union(*stems)) == 2  # deformable.yaml has a vanilla student too


def test_every_shipped_sweep_loads_and_has_the_trials_it_promises():
    whole = [path for path in SWEEPS.rglob("*.yaml") if path.parent.name != "overlays"]
    names = {path: path.relative_to(SWEEPS).with_suffix("").as_posix() for path in whole}
    counts = {name: len(trials(load(path))) for path, name in names.items()}
    promised = {"omega": 5, "tau": 4, "sampling": 3, "full": 48}
    promised |= {"table5": 3, "table6": 10, "figure5": 4, "few_labels": 3, "adapt": 1}
    promised |= {name: len(rows) for name, rows in ATTENTION_ROWS.items()}
    assert promised.items() <= counts.items()
    omega = trials(load(SWEEPS / "omega.yaml"))
    assert [t.values.get("loss.omega") for t in omega] == [None, 0.0, 0.2, 0.8, 1.0]
    assert [t.baseline for t in omega] == [None, *["cross-entropy"] * 4]


@pytest.mark.parametrize(
    ("overlay", "below"),
    [
        ("davis", "table5"),
        ("davis", "table6"),
        ("davis", "figure5"),
        ("h200", "davis16"),
    ],
)
def test_every_shipped_overlay_fits_what_it_is_for(overlay, below):
    path = SWEEPS / f"{below}.yaml"
    laid = load(path, [str(SWEEPS / "overlays" / f"{overlay}.yaml")])
    assert [t.name for t in trials(laid)] == [t.name for t in trials(load(path))]
    assert laid.stages != load(path).stages


@pytest.mark.parametrize("count", [2, 4, 8, 16])
def test_few_labels_splits_the_videos_into_labelled_and_further_ones(count):
    overlays = [f"few{count}", "few-terms"] if count != 4 else ["few-terms"]
    overlays = [str(SWEEPS / "overlays" / f"{name}.yaml") for name in overlays]
    rows = {t.name: t.config.data for t in trials(load(SWEEPS / "few_labels.yaml", overlays))}

    def videos(row: str, labels: str) -> list[str]:
        sources, kinds = rows[row].train, rows[row].labels_of(rows[row].train)
        assert isinstance(sources, tuple)
        files = [
            SWEEPS.parent / s.split for s, k in zip(sources, kinds, strict=True) if k == labels
        ]
        return sorted(name for file in files for name in file.read_text().split())

    every = videos("all labelled", "truth")
    assert len(every) == 20
    labelled = videos("labelled only", "truth")
    assert len(labelled) == count
    for row, further in (("pseudo labels", "teacher"), ("soft logits", "none"), ("CKA", "none")):
        assert videos(row, "truth") == labelled
        assert sorted(labelled + videos(row, further)) == every
    scored = [(SWEEPS / "splits" / f"davis16-{name}.txt").read_text().split() for name in SCORED]
    assert not set(every) & {name for names in scored for name in names}


def test_overlays_of_few_labels_add_rows_and_change_none():
    plain = trials(load(SWEEPS / "few_labels.yaml"))
    for overlay, rows in (("few-seen", 1), ("few-terms", 5), ("few-thresholds", 2)):
        wide = trials(load(SWEEPS / "few_labels.yaml", [str(SWEEPS / f"overlays/{overlay}.yaml")]))
        assert [(t.name, t.config) for t in wide[:3]] == [(t.name, t.config) for t in plain]
        assert len(wide) == 3 + rows
        assert len({t.config.model_dump_json() for t in wide}) == 3 + rows


def test_every_attention_sweep_takes_the_composites():
    overlay = str(SWEEPS / "overlays" / "composites.yaml")
    for name in set(ATTENTION_ROWS) - {"objects", "paper/deformable"}:
        path = SWEEPS / f"{name}.yaml"
        laid = load(path, [overlay])
        assert [row.name for row in trials(laid)] == [row.name for row in trials(load(path))]
        assert laid.data.composites == 1
        assert laid.train.paste == 1


def test_trials_are_the_product_in_order_with_short_names():
    made = trials(swept({"loss.omega": [0, 1], "loss.sampling": ["all", "random"]}))
    assert [trial.name for trial in made] == [
        "omega=0.0 sampling=all",
        "omega=0.0 sampling=random",
        "omega=1.0 sampling=all",
        "omega=1.0 sampling=random",
    ]
    assert all(trial.config.loss.omega == trial.values["loss.omega"] for trial in made)
    assert all(type(trial.config) is RunConfig for trial in made)


def test_equal_last_names_are_told_apart_by_their_whole_key():
    made = trials(swept({"train.lr": [0.1], "stem.lr": [0.2]}))
    assert [trial.name for trial in made] == ["train.lr=0.1 stem.lr=0.2"]


def test_a_swept_model_is_called_by_its_section():
    (trial,) = trials(swept({"student.name": ["mobilevos_resnet18"]}))
    assert trial.name == "student=mobilevos_resnet18"


def test_seeds_repeat_every_point_with_the_same_config():
    made = trials(swept({"loss.omega": [0.0, 1.0]}, seeds=3))
    assert [(t.values["loss.omega"], t.seed_index) for t in made] == [
        (omega, index) for omega in (0.0, 1.0) for index in range(3)
    ]
    assert {t.config.seed for t in made} == {0}
    assert len({t.name for t in made}) == 6


def test_student_options_can_be_swept():
    made = trials(swept({"student.options.key_gain": [0.5, 1.0]}))
    assert [trial.config.student.options for trial in made] == [
        {"key_gain": 0.5},
        {"key_gain": 1.0},
    ]


POINTS: dict[str, dict[str, Any]] = {
    "plain": {"loss.logit": 0.0, "loss.representation": 0.0},
    "+ logit": {"loss.kl": "reverse"},
}


def test_points_vary_several_keys_together_and_stand_at_every_place_of_the_grid():
    made = trials(swept({"loss.tau": [0.1, 1.0]}, points=POINTS))
    assert [trial.name for trial in made] == [
        "plain tau=0.1",
        "plain tau=1.0",
        "+ logit tau=0.1",
        "+ logit tau=1.0",
    ]
    assert [trial.config.loss.logit for trial in made] == [0.0, 0.0, 1.0, 1.0]
    assert made[3].values == {"loss.kl": "reverse", "loss.tau": 1.0}
    assert swept({"loss.tau": [1.0]}, points=POINTS).sweep.keys == {
        "loss.tau",
        "loss.logit",
        "loss.representation",
        "loss.kl",
    }


def test_a_trial_is_compared_with_the_first_point_that_shares_place_and_repeat():
    made = trials(swept({"loss.tau": [0.1, 1.0]}, seeds=2, points=POINTS))
    assert {trial.baseline for trial in made[:4]} == {None}
    assert [trial.baseline for trial in made[4:]] == [trial.name for trial in made[:4]]
    assert trials(swept({"loss.tau": [0.1]}))[0].baseline is None


@pytest.mark.parametrize(
    ("key", "loss", "idle"),
    [
        ("loss.tau", {"logit": 0.0}, "loss.logit is 0"),
        ("loss.tau", {"logit": 1.0}, None),
        ("loss.norm", {"representation": 0.0}, "loss.representation is 0"),
        ("loss.z", {"representation": 0.0}, "loss.representation and loss.cka are 0"),
        ("loss.z", {"representation": 0.0, "cka": 1.0}, None),
        ("loss.jaccard", {"dice": 0.0}, "loss.dice is 0"),
        ("loss.poly", {"ce": 0.0}, "loss.ce is 0"),
        ("loss.poly", {"dice": 0.0}, None),
        ("loss.sampling", {"logit": 0.0, "representation": 0.0}, "are 0 in every trial"),
        ("loss.boundary_width", {"sampling": "all"}, "all pixels are compared"),
        ("loss.boundary_width", {"sampling": "all", "kl_pixels": "boundary"}, None),
        ("train.lr", {"logit": 0.0}, None),
        ("loss.sampling", {"logit": 0.0, "representation": 0.0, "inter": 1.0}, "are 0 in every"),
        ("loss.relation_tau", {}, "loss.inter and loss.intra are 0"),
        ("loss.relation_tau", {"intra": 1.0}, None),
        ("loss.attention_part", {}, "loss.attention is 0"),
        ("loss.attention_part", {"attention": 1.0}, None),
        ("loss.attention_tau", {"attention": 1.0}, "no outputs are compared by the KL"),
        ("loss.attention_tau", {"attention": 1.0, "attention_loss": "kl"}, None),
        ("loss.projectors", {"attention": 1.0}, "loss.attention_loss is not projectors"),
        ("loss.projectors", {"attention": 1.0, "attention_loss": "projectors"}, None),
    ],
)
def test_a_swept_key_that_no_trial_reads_is_named(
    key: str, loss: Any, idle: str | None, monkeypatch: pytest.MonkeyPatch
):
    for name in ("mobilevos_mobilenetv2", "stcn_mobilenetv2"):  # as if they had attentions
        entry = replace(registry.entry(name), watchable=lambda _: ("self.id.1", "self.output.1"))
        monkeypatch.setitem(registry.REGISTRY, name, entry)
    swept_values: dict[str, list[Any]] = {
        "loss.tau": [0.1, 1.0],
        "loss.jaccard": ["objects", "classes"],
        "loss.poly": [0.0, 1.0],
        "loss.norm": ["n"],
        "loss.boundary_width": [1, 2],
        "loss.relation_tau": [1.0, 2.0],
        "loss.attention_tau": [1.0, 2.0],
        "loss.projectors": [1, 3],
        "loss.z": ["pre_relu", "post_relu"],
    }
    every = {**swept_values, "loss.sampling": ["all", "random"], "train.lr": [1e-4, 1e-3]}
    every["loss.attention_part"] = ["id", "output"]
    config = swept({key: every[key]}).model_copy(update={"loss": LossConfig(**loss)})
    lines = idle_keys(config)
    assert bool(lines) == (idle is not None)
    for line in lines:
        assert line.startswith(f"sweep: {key} has no effect: ")
        assert str(idle) in line


def test_a_random_search_names_its_trials_by_what_they_drew():
    made = trials(swept({"loss.tau": {"loguniform": [0.1, 10]}}, search="random", max_trials=3))
    assert len({trial.name for trial in made}) == 3
    for trial in made:
        assert trial.name == f"tau={trial.config.loss.tau}"


def test_a_budget_cuts_a_grid():
    made = trials(swept({"loss.tau": [1.0, 2.0, 3.0]}, seeds=2, max_trials=2))
    assert [trial.values["loss.tau"] for trial in made] == [1.0, 1.0, 2.0, 2.0]


def test_a_swept_key_that_one_trial_reads_has_an_effect():
    parameters = {"loss.tau": [0.1, 1.0], "loss.logit": [0.0, 1.0]}
    assert idle_keys(swept(parameters)) == []


@pytest.mark.parametrize(
    ("key", "values", "data", "loss", "idle"),
    [
        ("teacher.threshold", [0.0, 0.5], {}, {}, "no folder has labels: teacher in any trial"),
        ("teacher.threshold", [0.0, 0.5], {"labels": "teacher"}, {}, None),
        ("teacher.targets", ["hard", "soft"], {"labels": "teacher"}, {"dice": 1.0}, None),
        (
            "teacher.targets",
            ["hard", "soft"],
            {"labels": "teacher"},
            {"ce": 0.0},
            "loss.ce and loss.dice are 0 in every trial",
        ),
    ],
)
def test_a_swept_key_of_labels_that_no_trial_reads_is_named(key, values, data, loss, idle):
    config = SweepConfig.model_validate(
        {
            "name": "x",
            "data": {"root": "/data/DAVIS", **data},
            "teacher": {"weights": "w.pt"},
            "loss": loss,
            "sweep": {"parameters": {key: values}},
        }
    )
    assert idle_keys(config) == ([f"sweep: {key} has no effect: {idle}"] if idle else [])
