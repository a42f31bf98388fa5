"""An epoch is a function of seed and epoch."""

import pytest

from compound.data import sampler as sampler_module
from compound.data.sampler import Draw, EpochSampler, PartSampler


def test_epoch_shows_every_picture_once() -> None:
    draws = list(EpochSampler(12, seed=0, batch_size=4))
    assert sorted(draw.index for draw in draws) == list(range(12))
    assert len({draw.seed for draw in draws}) == 12


def test_what_fills_no_batch_is_left_out() -> None:
    sampler = EpochSampler(11, seed=0, batch_size=4)
    assert len(sampler) == len(list(sampler)) == 8  # 11 // 4 * 4


def test_epochs_and_seeds_differ_and_repeat() -> None:
    def epoch(seed: int, number: int) -> list[Draw]:
        sampler = EpochSampler(32, seed=seed, batch_size=1)
        sampler.set_epoch(number)
        return list(sampler)

    assert epoch(3, 5) == epoch(3, 5)
    assert epoch(3, 5) != epoch(3, 6)
    assert epoch(3, 5) != epoch(4, 5)
    # The same picture is augmented in another way in the next epoch.
    seeds = [{draw.index: draw.seed for draw in epoch(3, number)} for number in (5, 6)]
    assert seeds[0] != seeds[1]


def test_draws_carry_their_epoch() -> None:
    sampler = EpochSampler(4, seed=0, batch_size=1)
    sampler.set_epoch(7)
    draws = iter(sampler)
    first = next(draws)
    sampler.set_epoch(8)  # as Lightning does while workers still read ahead
    assert [draw.epoch for draw in (first, *draws)] == [7] * 4


def test_processes_share_out_the_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    seen, validated = [], []
    for rank in range(2):
        monkeypatch.setattr(sampler_module, "_rank_and_world", lambda rank=rank: (rank, 2))
        seen += [draw.index for draw in EpochSampler(9, seed=0, batch_size=2)]
        validated += [draw.index for draw in PartSampler(9)]
    assert len(seen) == len(set(seen)) == 8  # two processes x two batches of two
    assert sorted(validated) == list(range(9))  # nothing twice, nothing lost
