"""Test that the fuzz would notice a command that breaks a rule."""

import os

import pytest

from tests.fuzz import configurations, films
from tests.fuzz.draw import Draw
from tests.fuzz.runner import Case, Command, Reply, as_process, check, problems, snapshot


@pytest.fixture
def case(tmp_path):
    """Make a case with a source file and a folder."""
    (tmp_path / "frames").mkdir()
    (tmp_path / "frames" / "00000.jpg").write_bytes(b"a picture")
    return Case("oracle", 0, tmp_path)


def found(case, change, reply, **expected):
    """List the problems of a command that made `change` and said `reply`."""
    command = Command(**({"module": "m", "words": (), "names": ("frames",)} | expected))
    before = snapshot(case.folder)
    change()
    return list(problems(command, reply, before, snapshot(case.folder)))


def nothing():
    """Leave every file alone."""


DONE, REFUSED = Reply(0, "done", ""), Reply(1, "", "error: frames: no picture")


def test_a_command_that_keeps_the_rules_has_no_problem(case):
    assert found(case, nothing, DONE) == []
    assert found(case, nothing, REFUSED) == []


def test_a_changed_source_is_noticed_and_so_is_one_written_again(case):
    path = case.folder / "frames" / "00000.jpg"
    assert found(case, lambda: path.write_bytes(b"other"), DONE) == ["frames/00000.jpg was changed"]
    assert found(case, lambda: os.utime(path, (1, 1)), DONE) == ["frames/00000.jpg was changed"]
    assert found(case, path.unlink, DONE) == ["frames/00000.jpg is gone"]


def test_a_source_outside_the_folder_is_watched_too(case, tmp_path_factory):
    shared = tmp_path_factory.mktemp("shared") / "weights"
    shared.write_text("1")
    before = snapshot(case.folder, (shared,))
    shared.write_text("2")
    assert snapshot(case.folder, (shared,)) != before


def test_what_a_failure_leaves_is_noticed(case):
    out = case.folder / "out"
    assert found(case, out.mkdir, REFUSED) == ["a failure left out"]
    part = case.folder / "film.part"
    assert found(case, part.touch, DONE) == ["film.part was left half-written"]
    hidden = case.folder / ".film.mp4.0123"
    assert found(case, hidden.touch, DONE) == [".film.mp4.0123 was left half-written"]
    store = case.folder / "store"
    assert found(case, store.mkdir, REFUSED, stores=("store",)) == [
        "a failure left the empty folder store"
    ]


@pytest.mark.parametrize(
    "said",
    [
        "Traceback (most recent call last):",
        "error: KeyError: 'x'",
        "error: [Errno 21] Is a directory: frames",
        "error: SafetensorError while reading frames",
        "cv2.error: OpenCV(4.1) frames",
        "UserWarning: frames",
    ],
)
def test_the_name_of_an_exception_is_noticed(case, said):
    assert any("the output says" in line for line in found(case, nothing, Reply(1, "", said)))


def test_a_wrong_exit_code_and_an_empty_refusal_are_noticed(case):
    assert "exit code -9" in found(case, nothing, Reply(-9, "", "frames"))
    assert found(case, nothing, Reply(1, "frames", "")) == ["exit code 1 without a word on stderr"]
    assert found(case, nothing, Reply(1, "frames", ""), silent=True) == []
    assert found(case, nothing, Reply(2, "", "error: wrong")) == [
        "the refusal names none of frames"
    ]


def test_an_answer_where_there_can_be_none_is_noticed(case):
    assert found(case, nothing, DONE, wrong=("the film is cut",)) == [
        "exit code 0, but the film is cut"
    ]
    assert found(case, nothing, REFUSED, sound=True) == ["a sound input was refused"]


def test_an_answer_for_no_frame_is_noticed(case, tmp_path):
    masks = case.folder / "masks"
    masks.mkdir()
    for stem in ("00000", "00001"):
        (masks / f"{stem}.png").touch()
    assert films.answers(masks) == {"00000", "00001"}
    assert films.answers(case.folder / "nowhere") is None


def test_a_failing_case_says_in_a_line_how_to_run_it_again(case, capfd):
    case.changes.append("no file")
    words = ("nowhere.yaml", "--dry-run")
    case.commands.append(Command(module="orchestrator.sweep", words=words, names=("elsewhere",)))
    with pytest.raises(pytest.fail.Exception) as failure:
        check(case, capfd)
    assert "oracle 0 (no file): python -m orchestrator.sweep nowhere.yaml --dry-run" in str(
        failure.value
    )


def test_a_process_ends_with_the_code_and_the_words_of_its_command(case):
    case.work.mkdir()
    command = Command(module="orchestrator.sweep", words=("nowhere.yaml",), names=("nowhere",))
    reply = as_process(command, case.work)
    assert reply == Reply(2, "", "error: nowhere.yaml: no such file\n")


def test_equal_cases_are_drawn_equal_whichever_come_before(tmp_path):
    first = configurations.case(17, tmp_path / "a")
    configurations.case(3, tmp_path / "b")
    again = configurations.case(17, tmp_path / "c")
    assert first.changes == again.changes
    assert first.commands[0].words == again.commands[0].words
    assert Draw("films", 1).whole(0, 10**9) != Draw("films", 2).whole(0, 10**9)
