"""Test the schema of the YAML and its errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from orchestrator.config import ConfigError, RunConfig, SweepConfig, load, load_run
from orchestrator.config.data import DataConfig
from orchestrator.config.fields import NOT_BUILT
from orchestrator.config.loading import changed
from orchestrator.config.stages import VideosConfig
from orchestrator.planning.datasets import staged
from orchestrator.planning.plan import plan_sweep
from orchestrator.planning.trials import trials

SWEEPS = Path(__file__).resolve().parents[2] / "sweeps"
GRID = "sweep: {parameters: {loss.omega: [0.0, 1.0]}}\n"


def write(tmp_path: Path, text: str, name: str = "s.yaml") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def refused(path: Path, *overrides: str) -> list[str]:
    """Lines of the error, without the file's name."""
    with pytest.raises(ConfigError) as caught:
        load(path, overrides)
    assert str(caught.value).splitlines() == list(caught.value.problems)
    return [line.removeprefix(f"{path}: ") for line in caught.value.problems]


def folders(config: RunConfig) -> tuple[VideosConfig, ...]:
    """Return the folders that data.train lists."""
    assert isinstance(config.data.train, tuple)
    return config.data.train


def test_shipped_sweeps_take_a_davis_folder_by_data_root_alone():
    for path in (*SWEEPS.glob("*.yaml"), *SWEEPS.glob("paper/*.yaml")):
        words = ["data.root=/data/DAVIS"]
        if load(path).data.scene_objects != DataConfig().scene_objects:  # of drawn scenes alone
            assert "data.scene_objects: 5 is for generated clips" in refused(path, *words)[0]
            words.append(f"data.scene_objects={DataConfig().scene_objects}")
        if load(path).data.labelled is not None:
            (line,) = refused(path, *words)
            assert line.startswith("data.labelled: 16 counts generated clips; with a folder set ")
            words += [word.rstrip(",") for word in line.split() if "=" in word]
        assert not load(path, words).data.generated
    for trial in trials(load(SWEEPS / "few_labels.yaml", ["data.root=/data/DAVIS"])):
        assert {(f.root, f.year) for f in folders(trial.config)} == {("/data/DAVIS", 2016)}


def test_a_folder_of_data_train_without_a_root_is_the_runs_own(tmp_path: Path):
    text = (
        "data: {root: /data/DAVIS, year: 2016, train: [{split: four.txt}, {root: /data/B}]}\n"
        "sweep: {points: {a: {}, b: {data.train: [{split: rest.txt, year: 2017}]}}}\n"
    )
    first, second = trials(load(write(tmp_path, text), ["data.root=/data/C", "data.layout=davis"]))
    read = [
        [(f.root, f.layout, f.year, f.split) for f in folders(trial.config)]
        for trial in (first, second)
    ]
    other = ("/data/B", "auto", "auto", "train")
    assert read[0] == [("/data/C", "davis", 2016, "four.txt"), other]
    assert read[1] == [("/data/C", "davis", 2017, "rest.txt")]
    drawn = "data: {train: [{root: /data/B}, {split: four.txt}]}\n"
    (line,) = refused(write(tmp_path, drawn + GRID))
    assert line.startswith("data.train: folder 1 has no root, and data.root is generated; give it")


def test_a_minimal_file_has_the_defaults_of_the_contract(tmp_path: Path):
    config = load(write(tmp_path, GRID, "mini.yaml"))
    assert config.name == "mini"
    assert config.student.name == "mobilevos_mobilenetv2"
    assert config.teacher.model_dump() == {
        "name": "stcn_mobilenetv2",
        "weights": None,
        "backbone": None,
        "options": {},
        "steps": 200,
        "masks": None,
        "segments": "video",
        "rows": None,
        "targets": "hard",
        "threshold": 0.0,
        "labelled": None,
    }
    assert (config.loss.omega, config.loss.tau, config.loss.max_pixels) == (0.95, 0.1, 1024)
    assert (config.train.steps, config.train.lr, config.train.clip_length) == (200, 1e-4, 5)
    assert (config.cluster.retries, config.cluster.stall_s) == (1, 600)
    assert config.data.max_objects == 2


def test_the_memory_rule_of_the_data_is_an_option_of_the_student_alone(tmp_path: Path):
    text = "data: {memory: 'first, last, 2x5'}\nstudent: {options: {key_gain: 0.5}}\n"
    config = load(write(tmp_path, text + GRID))
    assert config.student.options == {"key_gain": 0.5, "memory": "first,last,2x5"}
    assert config.teacher.options == {}


def test_memory_rules_can_be_swept_and_each_trains_a_stem_of_its_own(tmp_path: Path):
    rules = ["first,last", "first,last,2x5"]
    config = load(write(tmp_path, f"sweep: {{parameters: {{data.memory: {rules}}}}}\n"))
    assert [t.config.student.options["memory"] for t in trials(config)] == rules
    assert len(plan_sweep(config, "any", 1).stems) == 2


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "data: {memory: last}",
            "data.memory: 'last': is no rule of memory; first,last[,KxE]: K older",
        ),
        (
            "data: {memory: 'first,last,2x5'}\nstudent: {options: {queue: 4}}",
            "data.memory: first,last,2x5 and student.options.queue are two rules; give one",
        ),
        (
            "student: {options: {queue: 4, memory: 'first,last'}}",
            "student.options: memory and queue are two rules; give one",
        ),
        (
            "data: {memory: first}\nstudent: {name: aott}\nteacher: {name: aott}\n"
            "loss: {representation: 0}\ntrain: {crop: 129}",
            "data.memory: model 'aott': ",
        ),
    ],
)
def test_a_memory_that_cannot_be_followed_is_refused(tmp_path: Path, text: str, line: str):
    (found,) = refused(write(tmp_path, f"{text}\n{GRID}"))
    assert found.startswith(line)


def test_a_stems_nulls_are_trains_values_as_written_never_swept_ones(tmp_path: Path):
    path = write(
        tmp_path, "train: {lr: 0.5, crop: 96}\nsweep: {parameters: {train.lr: [0.1, 0.2]}}\n"
    )
    config = load(path)
    assert (config.stem.lr, config.stem.crop, config.stem.batch_size) == (0.5, 96, 4)
    assert [(t.config.train.lr, t.config.stem.lr) for t in trials(config)] == [
        (0.1, 0.5),
        (0.2, 0.5),
    ]


def test_a_number_written_1e_5_is_a_number(tmp_path: Path):
    assert load(write(tmp_path, GRID + "train: {lr: 1e-5}\n")).train.lr == 1e-5
    assert load(write(tmp_path, GRID + "train: {lr: '1e-5'}\n")).train.lr == 1e-5
    assert load(write(tmp_path, GRID), ["train.lr=1e-5"]).train.lr == 1e-5


def test_configurations_are_frozen(tmp_path: Path):
    config = load(write(tmp_path, GRID))
    with pytest.raises(ValidationError, match="frozen"):
        config.train.lr = 1.0


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("train: {Lr: 1.0}", "train.Lr: unknown key; did you mean 'lr'?"),
        ("trian: {lr: 1.0}", "trian: unknown key; did you mean 'train'?"),
        ("omega: 1.0", "omega: unknown key; did you mean 'loss.omega'?"),
        ("train: {tau: 1.0}", "train.tau: unknown key; did you mean 'loss.tau'?"),
        ("train: {zzz: 1.0}", "train.zzz: unknown key"),
        ("train: {lr: fast}", "train.lr: 'fast': must be a valid number, unable to parse"),
        ("train: {steps: true}", "train.steps: True: must be a number"),
        ("train: {steps: 1.5}", "train.steps: 1.5: must be a valid integer"),
        ("train: {lr: .inf}", "train.lr: inf: must be a finite number"),
        ("train: {lr: 0}", "train.lr: 0: must be greater than 0"),
        ("train: {crop: 100}", "train.crop: 100: must be a multiple of 16"),
        ("loss: {omega: 1.5}", "loss.omega: 1.5: must be less than or equal to 1"),
        ("data: {max_objects: 256}", "data.max_objects: 256: must be less than or equal to 255"),
        ("train: {batch_size: 100000000}", "100000000: must be less than or equal to 65536"),
        ("train: {crop: 100000}", "train.crop: 100000: must be less than or equal to 8193"),
        ("train: {clip_length: 5000}", "clip_length: 5000: must be less than or equal to 1024"),
        ("train: {steps: 10000000000}", "steps: 10000000000: must be less than or equal to"),
        ("cluster: {workers: 1000000}", "workers: 1000000: must be less than or equal to 4096"),
        ("cluster: {storage: 's3://'}", "is no URL; give a shared path, s3://BUCKET/PREFIX or gs"),
        ("cluster: {loaders: 99999}", "loaders: 99999: must be less than or equal to 1024"),
        ("cluster: {stall_s: 1e30}", "stall_s: 1e+30: must be less than or equal to"),
        (
            "stages: [{name: video, steps: 1, batch_size: 70000}]",
            "stages.0.batch_size: 70000: must",
        ),
        ("student: {options: {key_channels: 9000}}", "option 'key_channels' is 9000: "),
        ("loss: {sampling: edge}", "loss.sampling: 'edge': must be 'boundary', 'random' or 'all'"),
        ("loss: {kl: foward}", "'foward': must be 'forward' or 'reverse'; did you mean 'forward'?"),
        ("loss: 3", "loss: 3 is not a section"),
        ("stem:", "stem: None is not a section"),
        ("name: a b", "name: 'a b': must be letters, digits, _ and -"),
        ("data: {report: val}", "data.report: 'val' is also data.select; report must be"),
        ("data: {select: test, report: train}", "data.report: 'train' is also data.train"),
        ("data: {select: vall}", "data.select: 'vall' is no split of generated clips"),
        ("student: {name: mobilvos_resnet18}", "did you mean 'mobilevos_resnet18'?"),
        ("student: {options: {aspp: 3}}", "'mobilevos_mobilenetv2': unknown option 'aspp'"),
        ("cluster: {workers: 3}", "cannot share train.batch_size 4 equally"),
    ],
)
def test_each_mistake_has_its_line(tmp_path: Path, text: str, line: str):
    lines = refused(write(tmp_path, GRID + text + "\n"))
    assert len(lines) == 1
    assert line in lines[0]


def test_all_mistakes_are_told_at_once_each_with_its_place(tmp_path: Path):
    path = write(
        tmp_path,
        "train: {Lr: 1}\nloss: {tau: -1}\nsweep: {parameters: {loss.omeg: [0], loss.kl: [up]}}\n",
    )
    with pytest.raises(ConfigError) as caught:
        load(path, ["word", "train.steps=many"])
    assert [line.split(":")[0] for line in caught.value.problems] == [
        "command line",
        *[str(path)] * 1,
        "command line",
        *[str(path)] * 3,
    ]
    for key in ("word", "train.Lr", "loss.tau", "train.steps", "loss.omeg", "loss.kl"):
        assert any(key in line for line in caught.value.problems), key


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("train", "keep", "last"),
        ("train", "keep", "soup"),
    ],
)
def test_what_is_not_built_is_refused_by_name(tmp_path: Path, section: str, key: str, value: Any):
    assert (section, key) in NOT_BUILT
    dotted = f"{section}.{key}".strip(".")
    lines = refused(write(tmp_path, GRID), f"{dotted}={json.dumps(value)}")
    assert len(lines) == 1
    assert lines[0].startswith(f"command line: {dotted}: {value!r:.60}")
    assert lines[0].endswith("is not built yet")


@pytest.mark.parametrize("name", ["pbt", "pb2", "hyperband", "bohb"])
def test_schedulers_that_need_checkpoints_of_ray_are_refused_with_the_reason(
    tmp_path: Path, name: str
):
    (line,) = refused(write(tmp_path, GRID), f"sweep.scheduler={name}")
    assert line.startswith(f"command line: sweep.scheduler: {name!r}: ")
    assert line.endswith("trials here resume from the ledger's; take asha")


def test_asha_is_refused_where_trials_report_no_scores(tmp_path: Path):
    words = ("sweep.scheduler=asha", "cluster.workers=2")
    (line,) = refused(write(tmp_path, GRID), *words)
    assert "sweep.scheduler: scheduler asha: trials of cluster.workers 2 report no" in line
    load(write(tmp_path, GRID), ["sweep.scheduler=asha"])


def test_points_are_for_a_grid_and_a_search_has_an_end(tmp_path: Path):
    path = write(tmp_path, "sweep: {search: random, points: {a: {}, b: {loss.tau: 1}}}\n")
    assert any("sweep.points are for search grid" in line for line in refused(path))
    (line,) = refused(write(tmp_path, GRID), "sweep.search=random")
    assert "sweep.max_trials: missing: search random draws without end" in line


def test_classwise_is_refused_wherever_omega_is_not_zero(tmp_path: Path):
    path = write(tmp_path, GRID.replace("loss.omega", "loss.tau").replace("0.0", "0.3"))
    (line,) = refused(path, "loss.method=classwise")
    assert line.endswith("loss.omega: 0.95: loss.method classwise is exact for 0 only")
    load(path, ["loss.method=classwise", "loss.omega=0"])
    swept = write(tmp_path, "sweep: {parameters: {loss.omega: [0, 0.5]}}\n")
    lines = refused(swept, "loss.method=classwise", "loss.omega=0")
    assert lines[-1].endswith("omega: 0.5: loss.method classwise is exact for 0 only")


def test_every_unbuilt_feature_has_its_test():
    marks = [
        mark
        for mark in test_what_is_not_built_is_refused_by_name.pytestmark
        if mark.name == "parametrize"
    ]
    assert {tuple(values[:2]) for values in marks[0].args[1]} == set(NOT_BUILT)


@pytest.mark.parametrize(
    ("parameters", "line"),
    [
        ("{}", "sweep.parameters: empty"),
        ("{loss.omega: []}", "sweep.parameters.loss.omega: [] is an empty list"),
        ("{loss.omega: 0.5}", "sweep.parameters.loss.omega: 0.5 is not a list"),
        ("{loss.omega: [0, 0.0]}", "sweep.parameters.loss.omega: 0.0 is there twice"),
        ("{loss.omega: [0, 2]}", "sweep.parameters.loss.omega: 2: must be less than or equal"),
        ("{loss.omegaa: [0]}", "loss.omegaa: unknown key; did you mean 'omega'?"),
        ("{omega: [0]}", "sweep.parameters.omega: unknown key; did you mean 'loss.omega'?"),
        ("{loss: [0]}", "sweep.parameters.loss: a section cannot be swept"),
        ("{loss.omega.x: [0]}", "unknown key; 'loss.omega' is a value, not a section"),
        ("{data.select: [train]}", "sweep.parameters.data.select: cannot be swept"),
        ("{cluster.threads: [1]}", "sweep.parameters.cluster.threads: cannot be swept"),
        ("{loss.method: [tiles]}", "did you mean 'tiled'?"),
        ("{loss.method: [classwise]}", "loss.method classwise is exact for 0 only"),
        ("{train.crop: [128, 129]}", "train.crop: crop 129: mobilevos_mobilenetv2 takes sides of"),
        ("{student.options.asp: [1]}", "asp"),
        ("{loss.tau: {uniform: [0, 1]}}", "a range needs sweep.search=random"),
    ],
)
def test_each_mistake_in_a_grid_has_its_line(tmp_path: Path, parameters: str, line: str):
    lines = refused(write(tmp_path, f"sweep: {{parameters: {parameters}}}\n"))
    assert len(lines) == 1
    assert line in lines[0]


def test_a_sweep_that_switches_the_last_term_off_is_refused(tmp_path: Path):
    text = "loss: {logit: 0, representation: 0}\nsweep: {parameters: {loss.ce: [1, 0]}}\n"
    (line,) = refused(write(tmp_path, text))
    assert "sweep.parameters.loss.ce: every weight is 0" in line


@pytest.mark.parametrize(
    ("base", "swept", "line"),
    [
        (
            "{omega: 0}",
            "{loss.method: [classwise, tiled], loss.omega: [0, 0.5]}",
            "sweep.parameters: loss.method=classwise, loss.omega=0.5: 0.5: loss.method classwise",
        ),
        (
            "{logit: 0}",
            "{loss.ce: [1, 0], loss.representation: [1, 0]}",
            "sweep.parameters: loss.ce=0, loss.representation=0: every weight is 0",
        ),
    ],
)
def test_values_that_are_valid_alone_and_not_together_are_told_before_a_trial_meets_them(
    tmp_path: Path, base: str, swept: str, line: str
):
    text = f"loss: {base}\nsweep: {{parameters: {swept}}}\n"
    (told,) = refused(write(tmp_path, text))
    assert line in told


def test_a_point_and_a_swept_value_that_do_not_fit_are_told_with_the_points_name(tmp_path: Path):
    text = """
loss: {omega: 0}
sweep:
  points: {one: {loss.method: classwise}, two: {}}
  parameters: {loss.omega: [0, 0.5]}
"""
    (told,) = refused(write(tmp_path, text))
    assert "sweep.parameters: one, loss.omega=0.5: 0.5: loss.method classwise" in told


def test_a_rule_that_the_file_breaks_without_its_sweep_is_told_once(tmp_path: Path):
    text = "loss: {ce: 0, logit: 0, representation: 0}\n" + GRID
    (told,) = refused(write(tmp_path, text))
    assert "sweep" not in told


def test_a_rule_that_the_file_breaks_is_not_told_again_for_each_swept_value(tmp_path: Path):
    swept = "sweep: {parameters: {loss.representation: [1.0, 0.5]}}\n"
    (told,) = refused(write(tmp_path, "train: {crop: 129}\n" + swept))
    assert told.startswith("train.crop: crop 129: ")


def test_a_crop_that_no_model_takes_is_told_where_it_was_written(tmp_path: Path):
    path = write(tmp_path, "train: {crop: 129}\n" + GRID)
    assert refused(path)[0].startswith("train.crop: crop 129: ")
    path = write(tmp_path, GRID)
    assert refused(path, "train.crop=129")[0].startswith("command line: train.crop: crop 129: ")


def test_braces_of_a_value_are_printed_as_they_were_typed(tmp_path: Path):
    """Names of pydantic's own context too, which it would fill in."""
    (told,) = refused(write(tmp_path, "student: {options: {'a{prefix}b': 1}}\n" + GRID))
    assert "unknown option 'a{prefix}b'" in told


def test_a_report_split_is_compared_by_the_file_it_is(tmp_path: Path):
    (tmp_path / "v.txt").write_text("ant\n")
    data = f"{{root: /d, select: {tmp_path}/v.txt, report: {tmp_path}/./v.txt}}"
    (told,) = refused(write(tmp_path, f"data: {data}\n" + GRID))
    assert "is also data.select" in told


@pytest.mark.parametrize(
    ("points", "line"),
    [
        ("{a: {loss.omega: 0}, b: {loss.omega: 2}}", "points.b.loss.omega: 2: must be less than"),
        ("{a: {loss.omegaa: 0}}", "points.a.loss.omegaa: unknown key; did you mean 'omega'?"),
        ("{a: {data.select: test}}", "points.a.data.select: cannot be swept"),
        ("{a: {loss.tau: 0.1}, b: {}}", "sweep.points.b: is the same run as 'a'"),
        ("{a: 3}", "sweep.points.a: 3 is not a section"),
        ("[a]", "sweep.points: ['a'] is not a section"),
        ("{a: {loss.method: classwise}}", "loss.method classwise is exact for 0 only"),
    ],
)
def test_each_mistake_in_points_has_its_line(tmp_path: Path, points: str, line: str):
    lines = refused(write(tmp_path, f"sweep: {{points: {points}}}\n"))
    assert len(lines) == 1
    assert line in lines[0]


def test_keys_that_only_work_together_are_a_valid_point(tmp_path: Path):
    points = "{all: {}, classes: {loss.method: classwise, loss.omega: 0}}"
    config = load(write(tmp_path, f"sweep: {{points: {points}}}\n"))
    assert [trial.config.loss.method for trial in trials(config)] == ["auto", "classwise"]


def test_a_key_varies_in_one_place(tmp_path: Path):
    text = "sweep: {parameters: {loss.tau: [1.0]}, points: {a: {}, b: {loss.tau: 0.5}}}\n"
    (line,) = refused(write(tmp_path, text))
    assert line.endswith("loss.tau: is also set by point 'b'; a key varies in one place")


def test_overriding_what_every_point_sets_is_refused_and_what_one_leaves_open_is_not(
    tmp_path: Path,
):
    path = write(
        tmp_path, "sweep: {points: {a: {loss.tau: 1, loss.kl: reverse}, b: {loss.tau: 2}}}\n"
    )
    assert "loss.tau: is set by every point" in refused(path, "loss.tau=3")[0]
    made = trials(load(path, ["loss.kl=forward"]))
    assert [trial.config.loss.kl for trial in made] == ["reverse", "forward"]


def test_overriding_a_swept_key_is_refused_since_it_would_do_nothing(tmp_path: Path):
    path = write(tmp_path, GRID)
    assert "is swept; use sweep.parameters.loss.omega=" in refused(path, "loss.omega=0.3")[0]
    config = load(path, ["sweep.parameters.loss.omega=[0.3]"])
    assert [trial.config.loss.omega for trial in trials(config)] == [0.3]


def test_a_single_job_refuses_a_sweep_file_and_says_what_runs_it(tmp_path: Path):
    path = write(tmp_path, GRID)
    with pytest.raises(ConfigError, match=r"not one job; run it with: python -m orchestrator.swe"):
        load_run(path)


def test_a_sweep_refuses_a_file_without_sweep_and_says_what_runs_it(tmp_path: Path):
    path = write(tmp_path, "train: {steps: 3}\n")
    assert "python -m orchestrator.train" in refused(path)[0]
    assert load_run(path).train.steps == 3


def test_changed_checks_again_and_names_the_place():
    run = RunConfig(name="a")
    assert changed(run, {"data.select": "test"}, "command line").data.select == "test"
    with pytest.raises(ConfigError, match=r"command line: data\.select: 'x' is no split"):
        changed(run, {"data.select": "x"}, "command line")


def test_storage_is_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert RunConfig(name="a").storage_root == tmp_path / "results"
    assert RunConfig(name="a", storage="x").storage_root == tmp_path / "x"


def test_a_sweep_section_without_parameters_is_refused(tmp_path: Path):
    lines = refused(write(tmp_path, "sweep: {seeds: 2}\n"))
    assert lines == ["sweep.parameters: empty; give at least one key, or sweep.points"]
    assert "not a section" in refused(write(tmp_path, "sweep:\n"))[0]


def test_sweep_config_is_a_run_config_with_a_sweep():
    assert set(SweepConfig.model_fields) - set(RunConfig.model_fields) == {"sweep"}


STAGES = """
data: {static: stills}
stages:
  - {name: static, steps: 6, clip_length: 3}
  - {name: bl30k, steps: 5, data: [{root: a, repeat: 2}, {root: b}]}
  - {name: video, steps: 4, max_skip: curriculum}
sweep: {parameters: {loss.omega: [0.0, 1.0]}}
"""


def test_stages_are_read_in_order_each_with_its_data(tmp_path: Path):
    config = load(write(tmp_path, STAGES), ["stages.2.steps=9"])
    assert config.stages is not None
    assert [(s.name, s.steps, s.max_skip) for s in config.stages] == [
        ("static", 6, 5),
        ("bl30k", 5, 5),
        ("video", 9, "curriculum"),
    ]
    assert [(d.root, d.repeat) for d in config.stages[1].data or ()] == [("a", 2), ("b", 1)]
    assert config.data.static is not None
    assert config.data.static[0].root == "stills"


def test_an_overlay_replaces_the_values_it_has_and_later_words_replace_its(tmp_path: Path):
    path, overlay = write(tmp_path, STAGES), tmp_path / "big.yaml"
    overlay.write_text(
        "seed: 3\ntrain: {ema: 0.9, clip_norm: 2.0}\nstages: [{name: video, steps: 7}]\n"
    )
    config = load(
        path, ["data.static=null", str(overlay), "train.clip_norm=1.0", "stages.0.lr=2.0"]
    )
    assert (config.seed, config.train.ema, config.train.clip_norm) == (3, 0.9, 1.0)
    assert config.stages is not None
    assert [(s.steps, s.lr) for s in config.stages] == [(7, 2.0)]
    assert config.sweep.parameters == {"loss.omega": [0.0, 1.0]}


def test_a_mistake_in_an_overlay_is_told_with_its_file(tmp_path: Path):
    path, overlay = write(tmp_path, STAGES), tmp_path / "big.yaml"
    overlay.write_text("train: {emma: 0.9}\nseed: x\nsweep: {parameters: {loss.omega: [7]}}\n")
    lines = refused(path, str(overlay), "seed=y")
    assert any(line.startswith(f"{overlay}: train.emma: unknown key") for line in lines)
    assert any(line.startswith("command line: seed: 'y'") for line in lines)
    assert any(line.startswith(f"{overlay}: sweep.parameters.loss.omega: 7") for line in lines)
    assert refused(path, "no.yaml") == ["no.yaml: no such file"]


def test_the_last_stage_can_be_swept_and_the_others_are_shared(tmp_path: Path):
    points = "sweep={points: {a: {stages.2.steps: 3, loss.tau: 1.0}, b: {stages.2.lr: 1e-5}}}"
    made = trials(load(write(tmp_path, STAGES), [points]))
    assert [[s.steps for s in t.config.stages or ()] for t in made] == [[6, 5, 3], [6, 5, 4]]
    assert made[1].values == {"stages.2.lr": 1e-5}
    longer = load(write(tmp_path, STAGES), [points, "sweep.points.b.stages.2.steps=8"])
    assert longer.sweep.points["b"] == {"stages.2.lr": 1e-5, "stages.2.steps": 8}
    swept = "sweep.parameters={stages.1.steps: [1]}"
    (line,) = refused(write(tmp_path, STAGES), swept)
    assert line.endswith("trials of one sweep share it (of the stages, stages.2.KEY can)")


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("train.steps=3", "train.steps: with `stages` every stage sets its own steps"),
        ("stem.lr=1e-3", "stem.lr: with `stages` every stage sets its own lr"),
        ("sweep.parameters.train.lr=[1e-3]", "every stage sets its own lr"),
        ("stages=[]", "stages: is empty; it needs at least one stage"),
        ("stages=null", "data.static is for a stage named static; give stages"),
        ("stages.3.steps=1", "stages.3.steps: stages (a list of 3) has no such key"),
        ("stages.1.data=null", "stage 1 (bl30k) has no videos; give its data"),
        ("data.static=null", "stage 0 (static) has no images; give data.static"),
        ("stages.0.name=video", "has no stage named static, which data.static is for"),
        ("stages.0.data=[{root: a, split: b}]", "stage 0 (static): still images have root and"),
        ("stages.2.max_skip=often", "stages.2.max_skip: 'often'"),
        ("stages.2.stepz=1", "stages.2.stepz: unknown key; did you mean 'steps'?"),
        ("cluster.workers=3", "workers 3 cannot share stages.0.batch_size 4 equally"),
    ],
)
def test_each_mistake_in_stages_has_its_line(tmp_path: Path, override: str, line: str):
    lines = refused(write(tmp_path, STAGES), override)
    assert any(line in told for told in lines), lines


def test_report_must_be_no_split_that_a_list_trains_on(tmp_path: Path):
    train = "data.train=[{root: here, split: val}]"
    (line,) = refused(
        write(tmp_path, GRID), train, "data.root=here", "data.report=val", "data.select=s"
    )
    assert "data.report: 'val' is also data.train" in line


def test_drawn_clips_are_not_to_be_augmented(tmp_path: Path):
    (line,) = refused(write(tmp_path, GRID), "train.augmentation=stcn")
    assert "train: augmentation stcn: generated clips are learnt from as they are drawn" in line
    (line,) = refused(write(tmp_path, GRID), "sweep.parameters.train.augmentation=[light, stcn]")
    assert "stcn" in line
    load(write(tmp_path, GRID), ["train.augmentation=stcn", "data.root=somewhere"])


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('storage: "a\\0b"', "storage: 'a\\x00b': holds '\\x00'"),
        ('data: {root: "a\\ud800"}', "data.root: 'a\\ud800': holds '\\ud800'"),
        ("storage: ~no-such-user/x", "storage: '~no-such-user/x': no home folder"),
        ("data: {train: [{root: ~no-such-user/x}]}", "data.train.0.root: '~no-such-user/x': no"),
        ("student: {weights: ~no-such-user/x}", "student.weights: '~no-such-user/x': no home"),
        ("stages: 1", "stages: 1: must be"),
        ("name: 12", "name: 12: must be a valid string; in quotes it is one: '\"12\"'"),
        ("student: {options: {name: stcn}}", "student.options: model 'mobilevos_mobilenetv2': unk"),
    ],
)
def test_words_that_no_path_and_no_section_can_be_are_told(tmp_path: Path, text: str, line: str):
    path = tmp_path / "s.yaml"
    path.write_text(f"{text}\nsweep: {{parameters: {{loss.omega: [0.0]}}}}\n")
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert f"{path}: {line}" in str(caught.value)


def test_a_lowest_rate_is_that_of_poly_and_below_every_rate(tmp_path: Path):
    path = write(tmp_path, GRID + "train: {schedule: poly, lr: 1e-4, lr_min: 1e-5}\n")
    assert load(path).train.lr_min == 1e-5
    assert (
        "train.lr_min: 1e-05: schedule cosine has a lowest rate"
        in refused(path, "train.schedule=cosine")[0]
    )
    (line,) = refused(path, "train.lr_min=2e-4", "stem.lr=1e-3")
    assert line.endswith("lr_min 0.0002 is above train.lr 0.0001")
    assert refused(path, "stem.lr=1e-6")[0].endswith("lr_min 1e-05 is above stem.lr 1e-06")


def test_a_stage_has_its_own_lowest_rate_and_decay_or_those_of_train(tmp_path: Path):
    stages = "[{name: video, steps: 1}, {name: video, steps: 1, lr_min: 2e-5, weight_decay: 0.07}]"
    train = "train: {schedule: poly, lr_min: 1e-5, weight_decay: 0.03}\n"
    path = write(tmp_path, f"{GRID}{train}stages: {stages}\n")
    trained = [(s.train.lr_min, s.train.weight_decay) for s in staged(load(path))]
    assert trained == [(1e-5, 0.03), (2e-5, 0.07)]
    assert "lr_min 1e-05 is above stages.0.lr 1e-06" in refused(path, "stages.0.lr=1e-6")[0]


def test_bootstrapping_ends_after_it_begins(tmp_path: Path):
    path = write(tmp_path, GRID)
    load(path, ["train.bootstrap_from=0", "train.bootstrap_until=0.5"])
    (line,) = refused(path, "train.bootstrap_from=0.5")
    assert "0.233333" in line
    assert "is not after train.bootstrap_from 0.5" in line


def test_a_stem_of_labels_needs_a_loss_of_labels(tmp_path: Path):
    path = write(tmp_path, GRID + "stem: {loss: supervised}\nloss: {ce: 0}\n")
    assert refused(path)[0].startswith("stem.loss: loss supervised: loss.ce and loss.dice are 0")
    assert load(path, ["loss.dice=0.5"]).stem.loss == "supervised"


def test_scenes_are_set_for_generated_clips_alone(tmp_path: Path):
    path = write(tmp_path, GRID + "data: {scene_objects: 5, scene_scale: 4}\n")
    assert load(path).data.scene_objects == 5
    lines = refused(path, "data.root=/data/DAVIS")
    assert [line.split(": ")[0] for line in lines] == ["data.scene_objects", "data.scene_scale"]
    assert all("is for generated clips; leave it out" in line for line in lines)


def test_pasting_needs_a_slot_for_what_is_pasted(tmp_path: Path):
    path = write(tmp_path, GRID + "data: {max_objects: 1}\n")
    (line,) = refused(path, "train.paste=0.3")
    assert "train.paste: paste 0.3: data.max_objects 1 leaves no slot" in line
    stages = "stages=[{name: video, steps: 1, paste: 1.0}]"
    assert "paste 1: data.max_objects 1" in refused(path, stages)[0]
    config = load(path, ["data.max_objects=2", "train.paste=0.3", stages])
    assert [s.train.paste for s in staged(config)] == [1.0]


UNLABELLED = "{root: /data/DAVIS, split: more.txt, labels: teacher}"
SUPERVISED = "loss: {logit: 0, representation: 0}\n"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "teacher: {masks: M}",
            "loss: logit 1 and representation 1 compare with a network's output, and teacher.masks",
        ),
        (
            SUPERVISED + "teacher: {masks: M, threshold: 0.5}",
            "teacher.threshold: threshold 0.5: teacher.masks is a folder of finished masks",
        ),
        (SUPERVISED + "teacher: {masks: M, segments: clip}", "teacher.segments: segments clip: te"),
        (SUPERVISED + "teacher: {masks: M, targets: soft}", "teacher.targets: targets soft: teach"),
        (SUPERVISED + "teacher: {masks: M, rows: 240}", "teacher.rows: rows 240: teacher.masks is"),
        (SUPERVISED + "teacher: {masks: M, weights: w.pt}", "masks and weights are two teachers"),
        (
            SUPERVISED + "data: {labels: teacher}",
            "stages: labels teacher: generated clips are drawn",
        ),
        (
            SUPERVISED + "data: {labels: teacher, labelled: 8}",
            "teacher.segments: labels teacher: generated clips are of no video",
        ),
        (
            SUPERVISED + "teacher: {labelled: 8}",
            "teacher.labelled: labelled 8: the teacher learns from the clips that the student has",
        ),
        (
            SUPERVISED + "data: {root: /data/DAVIS, labelled: 8}",
            "data.labelled: 8 counts generated clips; with a folder set data.labelled=null",
        ),
        (
            f"{SUPERVISED}data: {{root: /data/DAVIS, train: [{UNLABELLED}]}}",
            "data.labels: labels teacher: the teacher is trained here, and no folder is left",
        ),
        (
            "data: {root: /data/DAVIS, labels: none}",
            "data.labels: labels none: the teacher is trained here, and no folder is left",
        ),
        (
            f"{SUPERVISED}teacher: {{segments: clip, weights: w.pt}}\n"
            f"data: {{root: /data/DAVIS, labels: none, train: [{{root: /data/A}}, {UNLABELLED}]}}",
            "data.labels: labels none beside labels teacher: with teacher.segments clip",
        ),
        (
            SUPERVISED + "stages: [{name: static, steps: 1, data: [{root: A, labels: none}]},"
            " {name: video, steps: 1}]\ndata: {root: /data/DAVIS}",
            "stages: stage 0 (static): still images have root and repeat alone",
        ),
        ("data: {root: /data/DAVIS, labels: tracker}", "data.labels: 'tracker': must be 'truth', "),
    ],
)
def test_labels_that_nothing_could_make_are_refused(tmp_path: Path, text: str, line: str):
    lines = refused(write(tmp_path, f"{text}\n{GRID}"))
    assert len(lines) == 1
    assert line in lines[0]


def test_labels_of_a_teacher_are_a_choice_for_each_folder_or_for_all(tmp_path: Path):
    train = f"[{{root: A, labels: truth}}, {{root: B}}, {UNLABELLED}]"
    data = f"data: {{root: /data/DAVIS, labels: none, train: {train}}}"
    config = load(write(tmp_path, SUPERVISED + data + "\n" + GRID))
    assert config.data.labels_of(config.data.train) == ("truth", "none", "teacher")
    whole = "teacher: {weights: w.pt}\ndata: {root: /data/DAVIS, labels: teacher}\n"
    assert load(write(tmp_path, whole + GRID)).data.labels == "teacher"
    masks = "teacher: {masks: M}\ndata: {root: /data/DAVIS, labels: teacher}\n"
    assert load(write(tmp_path, SUPERVISED + masks + GRID)).teacher.masks == "M"


def test_a_list_of_folders_is_a_value_that_can_be_swept(tmp_path: Path):
    text = (
        "data: {root: /data/DAVIS}\nsweep: {points: {a: {data.train: [{root: /data/A}]},"
        " b: {data.train: [{root: /data/A}, {root: /data/B, repeat: 2}]}}}\n"
    )
    config = load(write(tmp_path, text))
    swept = [trial.config.model_dump()["data"]["train"] for trial in trials(config)]
    assert [[source["root"] for source in sources] for sources in swept] == [
        ["/data/A"],
        ["/data/A", "/data/B"],
    ]
    told = refused(write(tmp_path, text.replace("repeat: 2", "repeat: 0")))
    assert "sweep.points.b.data.train: " in told[-1]
    assert "must be greater than or equal to 1" in told[-1]


@pytest.mark.parametrize(
    "how",
    [
        ("sweep.search=optuna", "sweep.max_trials=3"),
        ("sweep.scheduler=asha",),
    ],
)
def test_students_in_lockstep_are_refused_where_trials_begin_or_end_one_by_one(tmp_path, how):
    path = write(tmp_path, GRID)
    assert load(path, [*how, "cluster.lockstep=auto"]).students == 1
    assert load(path, ["cluster.lockstep=auto"]).students == "auto"
    assert (
        load(path, ["cluster.lockstep=3", "sweep.search=random", "sweep.max_trials=3"]).students
        == 3
    )
    (line,) = refused(path, *how, "cluster.lockstep=3")
    assert "cluster.lockstep" in line
    assert "students in lock-step begin and end together; set cluster.lockstep=1 or auto" in line


@pytest.mark.parametrize("value", ["0", "-1", "2.5", "all"])
def test_lockstep_is_a_number_of_students_or_auto(tmp_path, value):
    lines = refused(write(tmp_path, GRID), f"cluster.lockstep={value}")
    assert all(line.startswith("command line: cluster.lockstep: ") for line in lines)
    assert any("'auto'" in line for line in lines)


@pytest.mark.parametrize(
    ("given", "remote"),
    [("null", None), ("s3://bucket/a/", "s3://bucket/a"), ("shared", f"{Path.cwd()}/shared")],
)
def test_a_store_is_a_url_or_an_absolute_path(tmp_path, given, remote):
    assert load(write(tmp_path, GRID), [f"cluster.storage={given}"]).remote == remote
