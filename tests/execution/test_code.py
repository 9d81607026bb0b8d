"""Test which source files count as shaping weights, against what a job imports."""

from pathlib import Path

import torch

from orchestrator.execution import code
from orchestrator.execution import job as jobs
from orchestrator.planning import calibration
from orchestrator.tracking.events import Code
from orchestrator.tracking.ledger import Ledger
from orchestrator.tracking.storage import Storage
from tests.architecture import House
from tests.execution.test_job import plan_on
from tests.test_architecture import sources

# What a job imports and what shapes no weight: by room, or file by file.
APART = (
    *("orchestrator.execution.failures", "orchestrator.execution.job_log"),
    "orchestrator.execution.usage",
    "orchestrator.config",
    "orchestrator.execution.code",
    "orchestrator.planning.paths",  # makes paths absolute
    "orchestrator.planning.protocol",  # enters keys
    "orchestrator.tracking",
    "vosmodels.data.overlay",
    "vosmodels.demo",  # names a file, whose content enters keys
    "vosmodels.errors",
    "vosmodels.evaluation",
    "vosmodels.inference.edit_list",
    "vosmodels.inference.film",
    "vosmodels.inference.sinks",
    "vosmodels.inference.video",
    "vosmodels.support",
)
INSIDE = {  # of these rooms, what does
    *("orchestrator.config.data", "orchestrator.config.loss"),
    *("vosmodels.evaluation.metrics", "vosmodels.evaluation.runner", "vosmodels.evaluation.scores"),
    *("vosmodels.support.channels", "vosmodels.support.seeding", "vosmodels.support.tensors"),
}


def imported_by(start):
    """All modules of ours that a module imports, at last; a package stands for its own file."""
    house = House(sources())
    reached, todo = set(), [start]
    while todo:
        name = todo.pop()
        if name not in reached:
            reached.add(name)
            todo += house.ours[name]
    return {name for name in reached if not any(o.startswith(f"{name}.") for o in house.trees)}


def test_every_module_that_a_job_imports_is_recorded_or_known_to_shape_nothing():
    recorded = {name.removesuffix(".py").replace("/", ".") for name in code.shaping_files()}
    modules = imported_by("orchestrator.execution.job")
    assert len(modules) > 60
    apart = {
        name
        for name in modules
        if name not in INSIDE and any(f"{name}.".startswith(f"{room}.") for room in APART)
    }
    assert modules - recorded == apart
    assert modules & recorded >= INSIDE


def test_the_sha256_is_that_of_the_file_and_any_change_of_the_file_changes_it(
    tmp_path, monkeypatch
):
    file = tmp_path / "vosmodels" / "losses.py"
    file.parent.mkdir()
    file.write_text("A = 1\n")
    (tmp_path / "vosmodels" / "errors.py").write_text("no loss\n")
    monkeypatch.setattr(code, "ROOT", tmp_path)
    read = code.shaping_files.__wrapped__
    before = read()
    assert before == {  # from sha256sum
        "vosmodels/losses.py": "06edbcf4336165a271e6524025a6439c3caa3246fd0796f116772279707a5325"
    }
    file.write_text("A = 2\n")
    assert read() != before


def test_a_job_records_its_code_from_its_first_step_and_from_where_it_is_resumed(
    davis_root, tmp_path, monkeypatch
):
    monkeypatch.setattr(calibration, "BATCHES", 1)
    stem = plan_on(davis_root).stems[0]
    jobs.run([stem], Storage(tmp_path))
    record = Ledger(tmp_path).job(stem.key)
    assert record.of(Code) == [Code(0, code.shaping_files(), torch.__version__)]
    assert "vosmodels/losses.py" in record.of(Code)[0].files
    assert not [name for name in record.of(Code)[0].files if Path(name).is_absolute()]
