import json

import pytest

from tests.benchmarks.rounds import Claim, Timing, parsed, report, rounds
from vosmodels.support import provenance


def test_rounds_call_every_candidate_once_a_round_in_a_turning_order() -> None:
    called: list[str] = []
    candidates = {name: lambda name=name: called.append(name) for name in "abc"}
    timings = rounds(candidates, 4, warm=False)
    assert "".join(called) == "abc" + "bca" + "cab" + "abc"
    assert [len(t.cpu) == len(t.wall) == 4 for t in timings.values()] == [True] * 3
    assert list(timings) == ["a", "b", "c"]


def test_rounds_call_once_untimed_where_warm() -> None:
    called: list[str] = []
    timings = rounds({"a": lambda: called.append("a")}, 2)
    assert called == ["a"] * 3
    assert len(timings["a"].cpu) == 2


def test_rounds_tell_work_from_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    wall, cpu = iter([10.0, 14.0]), iter([1.0, 1.5])
    monkeypatch.setattr("time.perf_counter", lambda: next(wall))
    monkeypatch.setattr("time.process_time", lambda: next(cpu))
    assert rounds({"a": lambda: None}, 1, warm=False) == {"a": Timing([0.5], [4.0])}


def test_rounds_refuse_nothing_to_time() -> None:
    with pytest.raises(ValueError, match="0 candidates"):
        rounds({})
    with pytest.raises(ValueError, match="0 rounds"):
        rounds({"a": lambda: None}, 0)


def test_a_timing_gives_median_and_spread_of_either_clock() -> None:
    timing = Timing([3.0, 1.0, 2.0], [5.0, 9.0, 7.0])
    assert (timing.median(), timing.spread()) == (2.0, (1.0, 3.0))
    assert (timing.median("wall"), timing.spread("wall")) == (7.0, (5.0, 9.0))


@pytest.mark.parametrize(
    ("claim", "holds"),
    [
        (Claim("ratio", 4.99, 5.0), False),
        (Claim("ratio", 5.0, 5.0), True),
        (Claim("MiB", 5.0, 5.0, at_most=True), True),
        (Claim("MiB", 5.01, 5.0, at_most=True), False),
    ],
)
def test_report_prints_and_writes_the_same_verdict(tmp_path, capsys, claim, holds) -> None:
    timings = {"slow": Timing([4.0, 6.0], [8.0, 8.0]), "fast": Timing([1.0], [1.5])}
    path = tmp_path / "made" / "benchmark-x.json"
    always = Claim("always", 1.0, 0.0)
    assert report("x", "python -m x", timings, [always, claim], out=path) == holds
    written = json.loads(path.read_text())
    assert [c["holds"] for c in written["claims"]] == [True, holds]
    assert (written["benchmark"], written["command"]) == ("x", "python -m x")
    assert (written["claims"][1]["value"], written["machine"]) == (
        claim.value,
        provenance.machine(),
    )
    slow, fast = written["rows"]
    assert (slow["name"], slow["cpu"], slow["cpu_median_s"]) == ("slow", [4.0, 6.0], 5.0)
    assert (slow["cpu_min_s"], slow["cpu_max_s"], fast["wall_median_s"]) == (4.0, 6.0, 1.5)
    told = capsys.readouterr().out
    assert "slow: cpu 5 s (4..6); wall 8 s (8..8); 2 rounds" in told
    assert ("MISSED" in told) is not holds


def test_report_writes_nothing_unless_told_where(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    report("x", "python -m x", {"a": Timing([1.0], [1.0])}, [Claim("x", 1.0, 1.0)])
    assert list(tmp_path.iterdir()) == []


def test_parsed_tells_the_command_as_it_would_be_typed_again() -> None:
    args = parsed("tests.benchmarks.x", ["--rounds", "3", "--out", "a b.json"], count=5)
    assert (args.rounds, args.out.name, args.peak) == (3, "a b.json", None)
    assert args.command == "python -m tests.benchmarks.x --rounds 3 --out 'a b.json'"
    assert parsed("x", [], count=5).rounds == 5


def test_parsed_takes_the_peak_of_a_candidate_only() -> None:
    assert parsed("x", ["--peak", "ours"], count=5, peaks=["ours"]).peak == "ours"
    with pytest.raises(SystemExit):
        parsed("x", ["--peak", "theirs"], count=5, peaks=["ours"])
