"""Stopwatch, peak and verdicts against a given clock, allocations and sums done by hand."""

import mmap
from itertools import islice
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from compound.errors import UserError
from compound.profiling.bottleneck import judge_inference, judge_training
from compound.profiling.loading import KEPT, Loader, measure_loader
from compound.profiling.machine import pick_device
from compound.profiling.memory import STATUS, Peak
from compound.profiling.settings import Settings
from compound.profiling.steps import Stopwatch, Timed


def timed(**parts: float) -> Timed:
    whole = sum(parts.values())
    return Timed(8, (64, 64), parts, median=whole, p90=whole, peak_gib=1.0)


# 0.8 s for 8 pictures: 10 a second.
STEP = timed(forward=0.2, loss=0.04, backward=0.5, optimizer=0.06)


def test_laps_follow_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter((5.0, 5.25, 5.25, 6.5))
    time = SimpleNamespace(perf_counter=lambda: next(clock))
    monkeypatch.setattr("compound.profiling.steps.time", time)
    watch = Stopwatch("cpu")
    for _ in range(3):
        watch.lap()
    assert watch.seconds() == [0.25, 0.0, 1.25]


def touched(size: int) -> mmap.mmap:
    """Return memory of the system's: malloc would hand out what earlier tests gave back to it."""
    pages = mmap.mmap(-1, size)
    for _ in range(size // 2**20):
        pages.write(bytes(2**20))
    return pages


@pytest.mark.skipif(not STATUS.is_file(), reason="the system does not tell")
def test_peak_counts_what_was_given_back_and_begins_anew() -> None:
    peak = Peak("cpu")
    with touched(2**28):  # 0.25 GiB, given back at once
        pass
    assert peak.gibibytes() == pytest.approx(0.25, abs=0.03)
    peak.begin_anew()
    assert peak.gibibytes() == pytest.approx(0, abs=0.03)
    with touched(2**27) as pages:
        assert Peak("cpu", own=len(pages)).gibibytes() == pytest.approx(0.125, abs=0.03)


@pytest.mark.parametrize(
    ("rates", "part", "words"),
    [
        ({"loader": 5.0}, "data", "the loader alone gives 5 images/s, the step alone takes 10"),
        ({"loader": 5.0}, "data", "more data.num_workers (now 2)"),
        ({"loader": 1532.6}, "backward", "the loader alone gives 1533 images/s"),
        ({"loader": 50.0}, "backward", "backward binds, 62% of the step"),  # 0.5 of 0.8 s
        # Taking turns 8 pictures take 0.8 + 8 / 50 = 0.96 s.
        ({"loader": 50.0, "together": 8.3, "num_workers": 0}, "backward", "they take turns"),
        # One after the other they would take 1 / (1 / 10 + 1 / 50) = 8.3 images/s.
        ({"loader": 50.0, "together": 8.0}, "backward", "both at once 8, as they share the cores"),
    ],
)
def test_what_binds_a_training(rates: dict[str, Any], part: str, words: str) -> None:
    given: dict[str, Any] = {"together": min(10.0, rates["loader"]), "num_workers": 2}
    verdict = judge_training(STEP, device="cpu", **(given | rates))
    assert verdict.part == part
    assert words in verdict.reason


@pytest.mark.parametrize(("loader", "device"), [(50, "cuda"), (500, "cpu")])
def test_cores_are_not_blamed_for_more_than_they_do(loader: float, device: str) -> None:
    verdict = judge_training(STEP, loader=loader, together=7, num_workers=2, device=device)
    assert "share the cores" not in verdict.reason


def test_what_binds_an_inference() -> None:
    verdict = judge_inference(timed(forward=0.03, postprocessing=0.01))
    assert verdict.part == "forward"
    assert verdict.reason == "forward binds, 75%; postprocessing 25%"
    assert judge_inference(timed(forward=0.01, postprocessing=0.03)).part == "postprocessing"


def collate(pictures: list[int]) -> SimpleNamespace:
    return SimpleNamespace(images=torch.zeros(len(pictures), 3, 2, 2), first=pictures[0])


def test_a_loader_is_measured_over_epochs() -> None:
    pictures: Any = list(range(12))
    loader = DataLoader(pictures, batch_size=4, collate_fn=collate)  # three batches an epoch
    found = measure_loader(loader, Settings(device="cpu", rounds=10, warmup=5))
    assert found.images_per_second > 0
    assert len(found.kept) == KEPT
    # 15 batches are 5 epochs.
    assert [batch.first for batch in islice(found.batches, 3)] == [0, 4, 8]


@pytest.mark.parametrize(("workers", "rounds", "counted"), [(0, 10, 10), (4, 10, 12), (2, 1, 2)])
def test_every_worker_counts_alike(workers: int, rounds: int, counted: int) -> None:
    assert Loader(iter(()), workers, 1.0, ()).counted(rounds) == counted


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rounds": 0}, "rounds=0: expected a whole number of 1 or more"),
        ({"rounds": 1.5}, "rounds=1.5: expected a whole number"),
        ({"warmup": -1}, "warmup=-1: expected a whole number of 0 or more"),
        ({"precision": "int8"}, "precision 'int8' is unknown"),
        ({"precision": "16-mixed"}, "precision=16-mixed needs a GPU"),
    ],
)
def test_mistaken_settings(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Settings(device="cpu", **fields)


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert pick_device("auto") == pick_device("cpu") == "cpu"
    with pytest.raises(UserError, match="device=cuda: PyTorch sees no GPU here; take device=cpu"):
        pick_device("cuda")
    with pytest.raises(UserError, match="device 'tpu' is unknown"):
        pick_device("tpu")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert pick_device("auto") == pick_device("gpu") == "cuda"
