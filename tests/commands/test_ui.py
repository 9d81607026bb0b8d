"""Test the command that shows a store: its pages, its browser, its server."""

import json
import os
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import psutil
import pytest

from orchestrator import ui
from tests.stores import WARNING, empty_tracker, sweep_config

ROOT = Path(__file__).resolve().parents[2]


def test_a_browser_is_opened_only_where_someone_sees_it():
    assert ui.has_display({"DISPLAY": ":0"}, "linux")
    assert ui.has_display({"WAYLAND_DISPLAY": "wayland-0"}, "linux")
    assert ui.has_display({}, "darwin")
    assert not ui.has_display({"TERM": "xterm"}, "linux")


def test_without_a_store_the_command_says_what_to_run(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert ui.main([]) == 1
    assert "results/mlflow.db: no store here yet; run a sweep first" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.filterwarnings(WARNING)
def test_the_server_has_two_processes_answers_when_its_pages_are_told_and_ends_with_the_command(
    tmp_path,
):
    tracker = empty_tracker(tmp_path)
    tracker.open_sweep(sweep_config(tmp_path), "s")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {k: v for k, v in os.environ.items() if not k.endswith("DISPLAY")}
    words = ["--port", str(port), "--json", "--tracking-uri", tracker.store.uri]
    command = subprocess.Popen(
        [sys.executable, "-m", "orchestrator.ui", *words],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    started = []
    try:
        assert command.stderr is not None
        for line in command.stderr:
            if line.startswith("omega: "):
                break
        page = line.removeprefix("omega: ").strip()
        with urllib.request.urlopen(page, timeout=60) as answer:
            assert b"<title>MLflow</title>" in answer.read()
        started = psutil.Process(command.pid).children(recursive=True)
        assert len(started) == 2, [process.cmdline() for process in started]
    finally:
        command.terminate()  # an interrupt may be ignored where this process was told to
        out, _ = command.communicate(timeout=120)
    assert command.returncode == 0
    assert json.loads(out) == {"pages": {"omega": page}}
    assert not [process for process in started if process.is_running()]
