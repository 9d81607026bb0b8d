"""Test a table of two seeds: interrupted, continued, printed again."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from orchestrator.reporting.seeds import SeedTable
from orchestrator.tracking.events import Evaluated
from orchestrator.tracking.ledger import Ledger
from orchestrator.tracking.mlflow_reader import MlflowReader
from orchestrator.tracking.mlflow_store import Connection, locate
from tests.conftest import FRAMES, write_davis
from tests.integration.conftest import ROOT, answer, command, environment, make_sweep
from tests.stores import WARNING

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings(WARNING)]

POINTS = "sweep={points: {cross-entropy: {loss.logit: 0, loss.representation: 0}, both: {}}}"
SHORT = (
    "train.steps=4",
    "train.checkpoint_every=2",
    "soup.after_sweep=false",
    "data.select_stride=1",
)


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    sweep = make_sweep(tmp_path_factory.mktemp("a table"))
    out = sweep.file.with_name("t.json")
    data = write_davis(sweep.file.with_name("davis"), 2016)
    (data / "ImageSets" / "2016" / "test.txt").write_text("ant\nbee\n")
    given = [f"storage={sweep.storage}", f"data.root={data}", "data.leave_out=[]", POINTS, *SHORT]
    return sweep, out, [str(sweep.file), *given, "--out", str(out)]


def test_a_table_that_was_interrupted_keeps_its_rows_and_is_completed(words):
    _, out, line = words
    process = subprocess.Popen(
        [sys.executable, "-m", "orchestrator.table", *line, "--seeds", "0,1"],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environment(),
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 600
    while not out.exists():  # the first job has ended
        assert process.poll() is None, process.communicate()[1].decode()[-3000:]
        assert time.monotonic() < deadline, "no file in 600 s"
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)
    told = process.communicate(timeout=300)[1].decode()
    assert "run the same command again to continue" in told
    assert list(SeedTable.read(out).runs) == [0]
    before = {row.name for row in SeedTable.read(out).runs[0].rows}
    assert before
    done = answer(command("orchestrator.table", *line, "--seeds", "0,1", "--json", timeout=1200))
    rows = {row["name"]: row for row in done["rows"]}
    assert before < rows.keys()
    assert {"first-frame copy", "untrained student", "stem: cross-entropy only"} < rows.keys()
    assert all(row["seeds"] == [0, 1] for row in rows.values())
    assert rows["both"]["baseline"] == "cross-entropy"
    assert len(rows["both"]["difference"]["per_sequence"]) == 2
    assert rows["both"]["report"]["boundary"]["masks"] == 2 * 2 * (FRAMES - 2)  # seeds, videos


def test_seeds_have_their_own_teacher_and_stem_in_one_experiment(words):
    sweep, out, _ = words
    runs = SeedTable.read(out).runs
    stems = {row.sha256 for run in runs.values() for row in run.rows if row.name.startswith("stem")}
    teachers = {row.sha256 for run in runs.values() for row in run.rows if row.role == "teacher"}
    assert len(stems) == len(teachers) == 2
    reader = MlflowReader(Connection(locate(sweep.store, sweep.storage), create=False))
    for run in runs.values():
        assert reader.results_of("tiny", run.sweep)["config"]["seed"] == run.config["seed"]


def test_report_is_scored_for_the_checkpoint_that_select_chose_and_no_other(words):
    sweep, _, _ = words
    started = [(job, job.started()) for job in Ledger(sweep.storage).jobs()]
    trials = [job for job, start in started if start and start.role == "trial"]
    assert len(trials) == 4
    for job in trials:
        best = max(job.checkpoints(), key=lambda made: (made.scores["jf"], made.sha256))
        assert [e.step for e in job.of(Evaluated) if e.split == "report"] == [best.step]
    kept = [json.loads(path.read_text()) for path in (sweep.storage / "scores").glob("*.json")]
    reports = [scores for scores in kept if "boundary" in scores]
    assert len(reports) == 2 * len(("untrained", "stem", "cross-entropy", "both")) + len(("copy",))


def test_a_table_that_is_there_trains_nothing_and_goes_into_a_readme(words, tmp_path):
    _, out, line = words
    before = out.read_bytes()
    answer(command("orchestrator.table", *line, "--seeds", "0,1", "--json"))
    assert out.read_bytes() == before
    readme = tmp_path / "README.md"
    readme.write_text("<!-- results: begin -->\n<!-- results: end -->\n")
    told = command("orchestrator.report", str(Path(out).parent), "--readme", str(readme))
    assert told.returncode == 0, told.stderr
    assert "| both | 2 of 3 seeds |" in readme.read_text()
    assert "t.png" in readme.read_text()
