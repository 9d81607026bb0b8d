"""Test the exit codes, errors and switches that all commands share."""

from __future__ import annotations

import argparse
import io
import json
import logging
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from orchestrator.config.document import ConfigError
from vosmodels.errors import InputError
from vosmodels.support import cli


def command(work: cli.Work, *argv: str, tracking: bool = False, **options: Any) -> int:
    parser = cli.parser("some.command", "Does it.", "python -m some.command x", tracking=tracking)
    return cli.run(parser, argv, work, **options)


def raising(error: BaseException) -> cli.Work:
    def work(args: argparse.Namespace) -> Mapping[str, Any]:
        raise error

    return work


def test_json_prints_one_object_on_stdout_and_nothing_else(capsys: pytest.CaptureFixture[str]):
    def work(args: argparse.Namespace) -> Mapping[str, Any]:
        logging.getLogger("orchestrator.some").info("step 3")
        print("a library says")
        return {"jf": 0.5}

    assert command(work, "--json") == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == {"jf": 0.5}
    assert "step 3" in err
    assert "a library says" in err


def test_a_message_goes_to_what_stderr_is_when_it_comes(monkeypatch: pytest.MonkeyPatch):
    """A live table puts itself in its place, to print messages above the table."""
    proxy = io.StringIO()

    def work(args: argparse.Namespace) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stderr", proxy)
            logging.getLogger("orchestrator.some").info("step 3")

    assert command(work) == 0
    assert "step 3" in proxy.getvalue()


def test_without_json_the_command_prints_for_itself(capsys: pytest.CaptureFixture[str]):
    assert command(lambda args: {"jf": 0.5}) == 0
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (InputError("a.png: no such\nfile"), 1, "error: a.png: no such file\n"),
        (ConfigError(["a: wrong", "b: wrong"]), 2, "error: a: wrong\nb: wrong\n"),
        (RuntimeError("odd"), 1, "error: RuntimeError: odd; --debug shows where\n"),
        (KeyboardInterrupt(), 130, "interrupted; what is done is kept: say it again\n"),
    ],
)
def test_errors_are_lines_on_stderr_with_their_exit_code(
    capsys: pytest.CaptureFixture[str], error: BaseException, code: int, line: str
):
    assert command(raising(error), "--json", resume="say it again") == code
    assert capsys.readouterr() == ("", line)


def test_sigterm_is_an_interrupt_and_its_handler_of_before_comes_back(
    capsys: pytest.CaptureFixture[str],
):
    def work(args: argparse.Namespace) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("not reached")

    before = signal.getsignal(signal.SIGTERM)
    assert command(work, resume="say it again") == 130
    assert capsys.readouterr().err == "interrupted; what is done is kept: say it again\n"
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_traceback_is_shown_only_with_debug(capsys: pytest.CaptureFixture[str]):
    command(raising(InputError("boom")))
    assert "Traceback" not in capsys.readouterr().err
    command(raising(InputError("boom")), "--debug")
    assert "Traceback" in capsys.readouterr().err


def test_a_command_that_failed_still_gives_its_json(capsys: pytest.CaptureFixture[str]):
    assert command(raising(cli.CommandFailed({"failed": ["omega=1.0"]})), "--json") == 1
    assert json.loads(capsys.readouterr().out) == {"failed": ["omega=1.0"]}


def test_wrong_usage_is_exit_2_and_help_exit_0_with_an_example(
    capsys: pytest.CaptureFixture[str],
):
    assert command(lambda args: None, "--nonsense") == 2
    assert "--nonsense" in capsys.readouterr().err
    assert command(lambda args: None, "--help") == 0
    assert capsys.readouterr().out.endswith("example:\n  python -m some.command x\n")


def test_the_tracking_uri_is_taken_only_where_it_means_something():
    seen = []
    assert command(lambda a: seen.append(a.tracking_uri), "--tracking-uri", "u", tracking=True) == 0
    assert seen == ["u"]
    assert command(lambda args: None, "--tracking-uri", "u") == 2


def test_logging_is_ours_for_the_time_of_the_command_and_the_root_stays_as_it_is():
    root, ours = logging.getLogger(), logging.getLogger("orchestrator")
    before = (root.level, list(root.handlers), ours.level, list(ours.handlers))
    during = []
    command(lambda args: during.append((ours.level, len(ours.handlers), list(root.handlers))))
    assert during == [(logging.INFO, len(before[3]) + 1, before[1])]
    assert (root.level, list(root.handlers), ours.level, list(ours.handlers)) == before


def test_a_path_below_the_home_folder_is_looked_for_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a film.mp4").touch()
    cli.check_exists(Path("~/a film.mp4"), "file", "give one")
    with pytest.raises(InputError, match="no such file; give one"):
        cli.check_exists(Path("~/another.mp4"), "file", "give one")
