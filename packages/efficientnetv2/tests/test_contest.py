"""The rows' sizes and recipes against the paper's and the official code's numbers."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from compound.compare.contest import Part, Row
from compound.compare.rows import read_rows
from efficientnetv2.contest import V1AgainstV2

CARDS = Path(__file__).parents[3] / "configs/rows"
COUNTS = {"epochs": 350, "images": 1000, "batch_size": 4}
CONTEST = V1AgainstV2()


def card(name: str) -> tuple[Row, ...]:
    return read_rows(yaml.safe_load((CARDS / f"{name}.yaml").read_text()), CONTEST, **COUNTS)


def row(**fields: object) -> Row:
    return read_rows({"mine": {"model": "efficientnetv2_s", **fields}}, CONTEST, **COUNTS)[0]


def test_rows_train_at_the_published_sizes() -> None:
    def parts(row: Row, source: str = "official") -> tuple[Part, ...]:
        return CONTEST.parts(row, source)

    sizes = {r.name: [p.size for p in parts(r)] for r in (*card("table7"), *card("table10"))}
    assert sizes["b4"] == [380]  # as V1 was originally trained
    assert sizes["v2_s"] == [171, 214, 257, 300]  # official main.py
    assert sizes["v2_m"] == [192, 256, 320, 384]
    assert sizes["b7"] == [216, 304, 392, 480]  # 128 + (480 - 128) * (i + 1) / 4
    assert sum(p.share for p in parts(row(progressive=True))) == 1
    # Algorithm 1 and Table 6.
    paper = parts(row(progressive=True), "paper")
    assert [p.size for p in paper] == [128, 185, 243, 300]
    assert parts(row()) == (Part(300, 1.0),)
    assert parts(row(size=96, recipe="v1")) == (Part(96, 1.0),)
    assert parts(row(size=48, progressive=True), "paper")[0].size == 32  # two thirds


def test_recipes_differ_in_what_is_measured(tmp_path: Path) -> None:
    small: dict[str, Any] = {"model": "efficientnetv2_b0", "batch_size": 2}
    one, two = row(recipe="v1", **small), row(recipe="v2", **small)
    assert CONTEST.reading(one, "official") != CONTEST.reading(two, "official")
    assert CONTEST.reading(row(), "official").policy.startswith("rand-m10-")
    assert CONTEST.reading(row(recipe="v1"), "official").train_size == 384
    modules = [CONTEST.module(r, "official", channels_last=True) for r in (one, two)]
    assert [module.optim.decay_biases for module in modules] == [True, False]
    assert modules[0].batch_size == 2
    batch = CONTEST.batch(one, 64, channels_last=True)
    loader = CONTEST.loader(one, "official", 64, batch_size=2, num_workers=0, folder=tmp_path)
    read = next(iter(loader))
    for random, real in zip(batch[:3], read[:3], strict=True):
        assert (random.shape, random.dtype) == (real.shape, real.dtype)
    assert read.images.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("source", ["official", "paper"])
def test_dropout_is_the_recipes(source: str) -> None:
    module = CONTEST.module(row(), source, channels_last=False)
    assert module.model.spec.dropout == (0.2 if source == "official" else 0.3)
