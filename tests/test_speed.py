"""The instrument of ``benchmarks/speed.py``; what it measures is run by hand."""

import json
from pathlib import Path

import pytest
import speed

from peers import side_by_side
from peers.side_by_side import Row, compared, interleaved


def test_ratio_is_above_one_where_ours_is_better() -> None:
    assert Row("step", "peer", "ms", ours=20.0, theirs=50.0).ratio == 2.5
    loader = Row("loader", "peer", "img/s", ours=50.0, theirs=20.0, larger_is_better=True)
    assert loader.ratio == 2.5


def test_ways_take_turns_and_the_warm_up_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    clock = iter(float(i) for i in range(100))
    monkeypatch.setattr(side_by_side.time, "perf_counter", lambda: next(clock))
    ways = {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}
    times = interleaved(ways, rounds=3, warmup=1)
    assert calls == ["a", "b"] * 4
    # The clock goes on by a second each time it is asked, twice in the calls that count.
    assert [len(times[name]) for name in "ab"] == [3, 3]
    assert set(times["a"]) == {1000.0}
    row = compared({"a": [1.0, 9.0, 2.0], "b": [4.0, 4.0, 8.0]}, "a", "b", what="x", against="y")
    assert (row.ours, row.theirs, row.ratio) == (2.0, 4.0, 2.0)


def test_page_has_every_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "RESULTS", tmp_path)
    speed._keep("speed_thing_cpu", "A thing.\n\nHow.", [Row("x", "y", "ms", 2.0, 5.0, asked=3.0)])
    content = json.loads((tmp_path / "speed_thing_cpu.json").read_text())
    assert content["rows"][0]["ratio"] == 2.5
    assert {"commit", "machine", "threads", "versions"} <= content.keys()
    page = speed._page()
    assert "## A thing\n\nHow.\n\n`uv run benchmarks/speed.py thing`" in page
    assert "| x | 2 ms | y | 5 ms | 2.5 | 3 |" in page
