"""MLflow's pages in a real browser: what a person who opens them reads."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

from orchestrator.tracking import Tracker, locate
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
def page():
    """A page of headless Chromium, wide enough that no column is left out."""
    browser = shutil.which("chromium")
    if browser is None:
        missing = "no chromium; install it with: apt-get install chromium"
        assert not os.environ.get("REQUIRE_BROWSER"), missing
        pytest.skip(missing)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        chromium = driver.chromium.launch(
            executable_path=browser, args=["--no-sandbox", "--disable-gpu"]
        )
        opened = chromium.new_page(viewport={"width": 3200, "height": 1200})
        opened.set_default_timeout(WAIT_MS)
        yield opened
        chromium.close()


@pytest.fixture(scope="module")
def tracker(finished):
    sweep, _ = finished
    return Tracker(locate(sweep.store, sweep.storage), create=False)


@pytest.fixture(scope="module")
def experiment_page(address, tracker):
    experiment = tracker._client.get_experiment_by_name("tiny")
    return f"{address}/#/experiments/{experiment.experiment_id}"


def test_the_runs_page_shows_the_sweep_and_below_it_its_jobs(page, experiment_page, tracker):
    page.goto(f"{experiment_page}/runs")
    parent = f"sweep {tracker.newest_sweep('tiny')[:8]}"
    page.get_by_text(parent).first.wait_for()
    assert page.get_by_text("teacher stcn_mobilenetv2").count() == 0
    page.locator("[class*=ag-cell] button").first.click()
    for name in ("teacher stcn_mobilenetv2", "lr=1e-06", "lr=1e+30", "greedy soup of 2"):
        page.get_by_text(name, exact=True).first.wait_for()


def test_the_best_checkpoint_stands_first_when_models_are_sorted_by_score(
    page, experiment_page, tracker
):
    page.goto(f"{experiment_page}/models")
    page.get_by_text("ckpt-").first.wait_for()
    header = page.get_by_role("columnheader", name="select/jf")
    records = tracker.checkpoints("tiny", roles=("trial", "teacher", "stem", "soup"))
    best = max(record.scores["jf"] for record in records)
    names = {record.name for record in records if record.scores["jf"] == best}
    for _ in range(3):  # unsorted, then one way, then the other
        header.click()
        page.wait_for_timeout(2000)
        first = page.locator("[role=row] a[href*='/models/']").first.inner_text()
        arrow = header.locator("[aria-label*=down], .ag-sort-descending-icon:visible").count()
        if first in names and arrow:
            break
    assert first in names
    scores = page.locator("[role=gridcell][col-id*='select/jf'], [role=gridcell][col-id*='jf']")
    shown = [float(text) for text in scores.all_inner_texts() if text]
    assert shown == sorted(shown, reverse=True)
    assert len(shown) == len(records)


def test_a_trial_page_holds_its_whole_configuration_and_its_pictures(
    page, experiment_page, tracker
):
    records = tracker.checkpoints("tiny")
    run_id = tracker._client.get_logged_model(records[0].model_id).source_run_id
    page.goto(f"{experiment_page}/runs/{run_id}")
    for text in ("loss.omega", "train.lr", "data.select_height", "select/jf"):
        page.get_by_text(text, exact=True).first.wait_for()
    page.goto(f"{experiment_page}/runs/{run_id}/artifacts/images")
    page.get_by_text("0000020.png").first.wait_for()
