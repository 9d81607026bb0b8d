"""Test MLflow's pages in a real browser: what a person who opens them reads."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

from orchestrator.tracking.mlflow_reader import MlflowReader
from orchestrator.tracking.mlflow_store import Connection, locate
from tests.stores import WARNING

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings(WARNING)]

WAIT_MS = 60_000


@pytest.fixture(scope="module")
def address(finished):
    """The user interface over the finished sweep's store, on a free port of 127.0.0.1."""
    sweep, _ = finished
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = ["ui", "--host", "127.0.0.1", "--port", str(port)]
    server = subprocess.Popen(
        [sys.executable, "-m", "mlflow", *words, "--backend-store-uri", sweep.store],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
    )
    try:
        url = f"http://127.0.0.1:{port}"
        _wait_for(f"{url}/health", server)
        yield url
    finally:
        server.terminate()
        server.wait(timeout=60)


def _wait_for(url, server):
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        assert server.poll() is None, "mlflow ui ended"
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.5)
    raise AssertionError(f"{url}: no answer in 180 s")


@pytest.fixture(scope="module")
def browser():
    """Headless Chromium."""
    program = shutil.which("chromium")
    if program is None:
        missing = "no chromium; install it with: apt-get install chromium"
        assert not os.environ.get("REQUIRE_BROWSER"), missing
        pytest.skip(missing)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        chromium = driver.chromium.launch(
            executable_path=program, args=["--no-sandbox", "--disable-gpu"]
        )
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser):
    """A new page, wide enough that no column is left out; it remembers nothing of the last one."""
    opened = browser.new_page(viewport={"width": 3200, "height": 1200})
    opened.set_default_timeout(WAIT_MS)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def connection(finished):
    sweep, _ = finished
    return Connection(locate(sweep.store, sweep.storage), create=False)


@pytest.fixture(scope="module")
def reader(connection):
    return MlflowReader(connection)


@pytest.fixture(scope="module")
def experiment_page(address, connection):
    experiment = connection.client.get_experiment_by_name("tiny")
    return f"{address}/#/experiments/{experiment.experiment_id}"


def test_the_runs_page_shows_the_sweep_and_below_it_its_jobs(page, experiment_page, reader):
    page.goto(f"{experiment_page}/runs")
    parent = f"sweep {reader.newest_sweep('tiny')[:8]}"
    page.get_by_text(parent).first.wait_for()
    assert page.get_by_text("teacher stcn_mobilenetv2").count() == 0
    page.locator("[class*=ag-cell] button").first.click()
    for name in ("teacher stcn_mobilenetv2", "lr=1e-06", "lr=1e+30", "greedy soup of 2"):
        page.get_by_text(name, exact=True).first.wait_for()


def test_the_run_of_the_best_checkpoint_stands_first_when_runs_are_sorted_by_score(
    page, experiment_page, reader, connection
):
    """MLflow 3.17 sorts runs by a metric; its list of models only by creation."""
    order = "orderByKey=metrics.%60select%2Fjf%60&orderByAsc=false"
    page.goto(f"{experiment_page}/runs?workflowType=machine_learning&{order}&startTime=ALL")
    page.get_by_text("greedy soup").first.wait_for()
    links = page.locator("[role=row] a[href*='/runs/']")
    for _ in range(30):  # the rows come first, their order a moment later
        shown = links.all_inner_texts()
        if shown and shown[0].startswith("greedy soup"):
            break
        page.wait_for_timeout(1000)
    runs = connection.client.search_runs(
        [experiment_page.rsplit("/", 1)[1]], order_by=["metrics.`select/jf` DESC"]
    )
    scored = {r.info.run_name: r.data.metrics.get("select/jf") for r in runs}
    best = reader.best_checkpoint("tiny")
    assert scored[shown[0]] == best.scores["jf"]
    values = [scored[name] for name in shown if scored[name] is not None]
    assert values == sorted(values, reverse=True)
    assert len(values) == 4  # soup, trial, stem, teacher


def test_the_models_page_lists_every_checkpoint_ready_with_its_score(page, experiment_page, reader):
    page.goto(f"{experiment_page}/models")
    page.get_by_text("-step-").first.wait_for()
    for record in reader.checkpoints("tiny", roles=("trial", "teacher", "stem", "soup")):
        row = page.locator("[role=row]", has_text=record.name).first
        assert "Ready" in row.inner_text()
        page.get_by_text(str(record.scores["jf"])).first.wait_for()


def test_a_trial_page_holds_its_whole_configuration_and_its_pictures(
    page, experiment_page, reader, connection
):
    records = reader.checkpoints("tiny")
    run_id = connection.client.get_logged_model(records[0].model_id).source_run_id
    page.goto(f"{experiment_page}/runs/{run_id}")
    for text in ("loss.omega", "train.lr", "data.select_height", "select/jf"):
        page.get_by_text(text, exact=True).first.wait_for()
    page.goto(f"{experiment_page}/runs/{run_id}/artifacts/images")
    page.get_by_text("0000020.png").first.wait_for()
