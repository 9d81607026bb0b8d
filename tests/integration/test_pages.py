"""Test MLflow's pages in a real browser: what a person who opens them reads."""

import os
import shutil
import socket

import pytest

from orchestrator.tracking.ledger import Ledger
from orchestrator.tracking.mlflow_names import run_page
from orchestrator.tracking.mlflow_pages import pages_of, served
from orchestrator.tracking.mlflow_reader import MlflowReader
from orchestrator.tracking.mlflow_store import Connection, locate
from orchestrator.tracking.mlflow_writer import Tracker
from tests.published import publish_omega
from tests.stores import WARNING

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings(WARNING)]

WAIT_MS = 60_000
ROLES = ("trial", "teacher", "stem", "soup")


@pytest.fixture(scope="module")
def store(finished, tmp_path_factory):
    """A copy of the finished sweep's store, beside it a sweep of omega that was not trained."""
    storage = tmp_path_factory.mktemp("pages") / "results"
    shutil.copytree(finished[0].storage, storage)
    store = locate(f"sqlite:///{storage / 'mlflow.db'}", storage)
    assert not publish_omega(Tracker(Connection(store)), Ledger(storage.parent / "omega"))
    return store


@pytest.fixture(scope="module")
def address(store):
    """The user interface over the store, on a free port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with served(store, port):
        yield f"http://127.0.0.1:{port}"


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
def connection(store):
    return Connection(store, create=False)


@pytest.fixture(scope="module")
def reader(connection):
    return MlflowReader(connection)


@pytest.fixture(scope="module")
def experiment_page(address, connection):
    experiment = connection.client.get_experiment_by_name("tiny")
    return f"{address}/#/experiments/{experiment.experiment_id}"


def test_the_runs_page_shows_the_sweep_and_below_it_its_jobs(page, experiment_page, reader):
    page.goto(f"{experiment_page}/runs")
    page.get_by_text("tiny: generated, best lr=1e-06 J&F ").first.wait_for()
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
    runs = connection.client.search_runs([experiment_page.rsplit("/", 1)[1]])
    scored = {r.info.run_name: r.data.metrics.get("select/jf") for r in runs}
    best = max(jf for jf in scored.values() if jf is not None)
    links = page.locator("[role=row] a[href*='/runs/']")
    for _ in range(30):  # the rows come first, their order a moment later
        shown = links.all_inner_texts()
        if shown and scored[shown[0]] == best:
            break
        page.wait_for_timeout(1000)
    students = [jf for name, jf in scored.items() if jf and not name.startswith("teacher")]
    assert reader.best_checkpoint("tiny").scores["jf"] == max(students)
    assert scored[shown[0]] == best
    values = [scored[name] for name in shown if scored[name] is not None]
    assert values == sorted(values, reverse=True)
    assert len(values) == 4  # soup, trial, stem, teacher


def test_the_deep_link_shows_swept_keys_and_scores_and_the_best_run_first(page, address, store):
    page.goto(pages_of(store, int(address.rpartition(":")[2]))["omega"])
    page.locator("[role=row] a[href*='/runs/']").nth(2).wait_for()
    head = page.locator("[role=columnheader]").all_inner_texts()
    assert {"loss.omega", "select/jf", "train/loss_total"} <= set(head)
    for _ in range(30):  # the rows come first, their order a moment later
        shown = page.locator("[role=row] a[href*='/runs/']").all_inner_texts()
        if shown[:1] == ["omega=1.0"]:
            break
        page.wait_for_timeout(1000)
    assert shown[:2] == ["omega=1.0", "omega=0.0"]
    assert "omega: generated, best omega=1.0 J&F .681" in shown[2:]


def test_the_page_of_a_sweep_shows_its_best_row_first_and_its_response_curve(
    page, address, connection
):
    experiment = connection.client.get_experiment_by_name("omega").experiment_id
    (parent,) = connection.sweeps(experiment, "s1")
    page.goto(f"{address}/{run_page(experiment, parent.info.run_id)}")
    title = page.get_by_role("heading", name="omega: generated, best omega=1.0 J&F .681")
    title.first.wait_for()
    curve = page.locator("img[src*='response.png']")
    curve.wait_for()
    width, height = curve.evaluate("image => [image.naturalWidth, image.naturalHeight]")
    assert min(width, height) > 200
    rows = page.locator("table tbody tr").all_inner_texts()
    assert [row.split() for row in rows[:2]] == [  # other tables of the page come after it
        ["omega=1.0", ".681", ".681", ".681"],
        ["omega=0.0", ".400", ".400", ".400"],
    ]
    page.locator("table a", has_text="omega=1.0").first.click()
    page.get_by_role("heading", name="omega=1.0").first.wait_for()


def test_charts_open_on_scores_and_losses_and_not_on_gradients(
    page, experiment_page, reader, connection
):
    model_id = reader.checkpoints("tiny")[0].model_id
    run = connection.client.get_logged_model(model_id).source_run_id
    page.goto(f"{experiment_page}/runs/{run}/model-metrics?workflowType=machine_learning")
    sections = ("report", "select", "train", "train_gradients", "usage")
    heads = [page.get_by_text(section, exact=True).first for section in sections]
    for head in heads:
        head.wait_for()
    heights = [head.bounding_box()["y"] for head in heads]
    assert heights == sorted(heights)


def test_the_page_of_system_metrics_shows_what_a_job_took_of_its_node(
    page, experiment_page, reader, connection
):
    model_id = reader.checkpoints("tiny")[0].model_id
    run = connection.client.get_logged_model(model_id).source_run_id
    page.goto(f"{experiment_page}/runs/{run}/system-metrics?workflowType=machine_learning")
    for name in ("cpu_utilization_percentage", "system_memory_usage_megabytes"):
        page.get_by_text(name).first.wait_for()


def test_the_models_page_lists_every_checkpoint_ready_with_its_score_and_a_best_one_first(
    page, experiment_page, reader
):
    page.goto(f"{experiment_page}/models")
    page.get_by_text("-step-").first.wait_for()
    first = page.locator("[role=row]", has_text="-step-").first.inner_text()
    best = reader.best_checkpoint("tiny").scores["jf"]
    names = {r.name for r in reader.checkpoints("tiny", roles=ROLES) if r.scores["jf"] == best}
    assert any(name in first for name in names)
    for record in reader.checkpoints("tiny", roles=ROLES):
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
