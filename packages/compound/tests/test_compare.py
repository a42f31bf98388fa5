"""Rows against the paper's own words, projections and statistics against arithmetic by hand."""

import json
import os
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
import yaml
from scipy import stats

from compound.compare.contest import Part, Row, find_contest
from compound.compare.outputs import flat, write_comparison
from compound.compare.plots import plot_accuracy, plot_throughput
from compound.compare.processes import failure
from compound.compare.projection import hours, project, ratios
from compound.compare.rows import pairs, paper_inference_ratio, paper_ratio, read_rows
from compound.compare.scores import Curve, Trained, TrainingPlan, overrides, read_curve
from compound.compare.seeds import Estimate, learnt, speed_ups
from compound.compare.tables import Table, throughput_tables, training_tables
from compound.compare.throughput import Outcome, ThroughputPlan
from compound.errors import UserError
from compound.profiling.steps import Timed
from compound.tracking.trackers import wandb_logger
from compound.tracking.wandb_run import log_comparison

CARDS = Path(__file__).parents[3] / "configs/rows"
COUNTS = {"epochs": 350, "images": 1000, "batch_size": 4}
CONTEST = find_contest("efficientnetv2")
THROUGHPUT = {
    "contest": "efficientnetv2", "device": "cpu", "precision": "32-true", "source": "official"
}  # fmt: skip


def card(name: str) -> tuple[Row, ...]:
    return read_rows(yaml.safe_load((CARDS / f"{name}.yaml").read_text()), CONTEST, **COUNTS)


def row(**fields: object) -> Row:
    return read_rows({"mine": {"model": "efficientnetv2_s", **fields}}, CONTEST, **COUNTS)[0]


@pytest.mark.parametrize(
    ("table", "printed"),
    [
        # "V2-M trains 11x faster than B7"; 3.0x and 6.1x are the text's of V2-S; V2-L 139 / 24.
        ("table7", {"v2_s/b4": 3.0, "v2_s/b5": 6.1, "v2_m/b7": 11, "v2_l/b7": 5.8}),
        ("table10", {"v2_m/b7": 4.1}),
        ("table12", {"b4_progressive/b4": 2.2, "b5_progressive/b5": 2.8, "b7_progressive/b7": 2.6}),
    ],
)
def test_hours_give_the_ratios_that_the_paper_prints(table: str, printed: dict[str, float]) -> None:
    found = {f"{a.name}/{b.name}": paper_ratio(a, b) for a, b in pairs(card(table))}
    assert found.keys() == printed.keys()
    for name, ratio in printed.items():
        # The paper cuts off: 54 h / 13 h is 4.15.
        assert found[name] == pytest.approx(ratio, abs=0.5 if ratio == 11 else 0.06), name


def test_inference_gives_the_ratios_of_table_11() -> None:
    found = {a.name: paper_inference_ratio(a, b) for a, b in pairs(card("table11"))}
    printed = {"v2_b0": 2.1, "v2_b1": 2.0, "v2_b3": 2.7, "v2_s": 3.1}
    assert found == pytest.approx(printed, abs=0.05)
    assert not any(paper_ratio(a, b) for a, b in pairs(card("table11")))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model": "efficientnet_b9"}, "rows.mine.model 'efficientnet_b9' is unknown; did you"),
        ({"model": None}, "rows.mine has no model"),
        ({"model": 3}, "rows.mine.model '3' is unknown"),
        ({"modle": "x"}, "field of rows.mine 'modle' is unknown; did you mean model"),
        ({"baseline": "b9"}, "rows.mine.baseline 'b9' is unknown"),
        ({"baseline": "mine"}, "a row compares with another one"),
        ({"size": 31}, "rows.mine.size=31: expected 32 pixels or more"),
        ({"size": 64.5}, "rows.mine.size=64.5"),
        ({"epochs": 0}, "rows.mine.epochs=0: expected 1 or more"),
        ({"images": 1.5}, "rows.mine.images=1.5: expected a whole number"),
        ({"batch_size": 1}, "rows.mine.batch_size=1: expected a whole number of 2"),
        ({"recipe": "v3"}, "rows.mine.recipe 'v3' is unknown"),
        ({"progressive": "maybe"}, "expected true or false"),
        ({"top1": "high"}, "rows.mine.top1=high: expected a number"),
    ],
)
def test_mistaken_rows_are_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        row(**fields)


def test_there_must_be_rows() -> None:
    with pytest.raises(UserError, match="rows: there is none"):
        read_rows({}, CONTEST, **COUNTS)
    given = {"a": {"model": "efficientnet_b0"}, "b": {"model": "efficientnetv2_s", "baseline": "a"}}
    with pytest.raises(UserError, match="row of only 'c' is unknown"):
        read_rows(given, CONTEST, only=["c"], **COUNTS)
    with pytest.raises(UserError, match="a row's name has letters"):
        read_rows({"../a": given["a"]}, CONTEST, **COUNTS)
    with pytest.raises(UserError, match=r"^images=0: expected a whole number of 1"):
        read_rows(given, CONTEST, epochs=1, images=0, batch_size=4)
    only_b = read_rows(given, CONTEST, only=["b"], **COUNTS)
    assert ([r.name for r in only_b], pairs(only_b)) == (["b"], ())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"device": "tpu"}, "device 'tpu' is unknown"),
        ({"precision": "8"}, "precision '8' is unknown"),
        ({"precision": "16-mixed"}, "needs a GPU"),
        ({"rounds": 0}, "rounds=0: expected a whole number of 1"),
        ({"num_workers": -1}, "num_workers=-1"),
        ({"memory_limit": 0}, "memory_limit=0"),
    ],
)
def test_mistaken_settings_are_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        ThroughputPlan(**{**THROUGHPUT, **fields})  # type: ignore[arg-type]


def test_hours_by_hand() -> None:
    # 36,000 pictures on two devices: a quarter at 50/s (180 s), the rest at 25/s (1080 s / 2).
    found = hours([0.25, 0.75], [50.0, 25.0], images=36_000, devices=2)
    assert found == pytest.approx((9_000 / 50 + 27_000 / 25) / 2 / 3600)
    assert found == pytest.approx(0.175)


def times(step: float) -> Timed:
    shares = {"to device": 0.05, "forward": 0.2, "loss": 0.05, "backward": 0.6, "optimizer": 0.1}
    parts = {name: step * share for name, share in shares.items()}
    return Timed(10, (64, 64), parts, step, step, 1.5)


def outcome(name: str, steps: list[list[float]], loader: list[list[float | None]]) -> Outcome:
    fields = {"model": "efficientnet_b0", "epochs": 10, "images": 3600, "batch_size": 10}
    mine = read_rows(
        {"a": fields, "b": fields | {"baseline": "a"}}, CONTEST, only=[name], **COUNTS
    )[0]
    sizes = tuple(Part(64 * (i + 1), 1 / len(steps[0])) for i in range(len(steps[0])))
    return Outcome(mine, sizes, [tuple(map(times, r)) for r in steps], [tuple(r) for r in loader])


def test_a_training_waits_for_the_slower_of_steps_and_loader() -> None:
    # Half of 36,000 pictures at min(100, 50)/s, half at min(20, 40)/s: 360 s + 900 s = 0.35 h.
    # Steps alone: 180 s + 900 s = 0.3 h.
    found = project(outcome("a", [[0.1, 0.5]], [[50.0, 40.0]]), devices=1)
    assert found is not None
    assert found.hours.median == pytest.approx(0.35)
    assert found.step_hours.median == pytest.approx(0.3)
    assert found.forward == pytest.approx(0.3 * (0.1 + 0.5) / 2)
    assert found.images_per_second == pytest.approx(36_000 / 1080)
    alone = project(outcome("a", [[0.1]], [[None]]), devices=4)
    assert alone is not None
    assert alone.loader_images_per_second is None
    assert alone.hours.median == pytest.approx(36_000 / 100 / 3600 / 4)


def test_drift_cancels_in_ratios() -> None:
    # The machine is three times slower in the second round, for both.
    slow = outcome("a", [[0.2], [0.6], [0.2]], [[None]] * 3)
    fast = outcome("b", [[0.1], [0.3], [0.1]], [[None]] * 3)
    (found,) = ratios([slow, fast])
    assert found.training is not None
    assert [found.training.least, found.training.most] == pytest.approx([2, 2])
    fast.failure = "out of memory"
    (failed,) = ratios([slow, fast])
    assert failed.training is None
    text = str(throughput_tables([fast], [project(fast, devices=1)], [], title="x", devices=1))
    assert "out of memory" in text


def test_estimates_are_scipys() -> None:
    values = [0.71, 0.74, 0.69, 0.8]
    found = Estimate.of(values)
    assert found is not None
    assert found.mean == pytest.approx(np.mean(values))
    assert found.error == pytest.approx(stats.sem(values))
    assert Estimate.of([0.5]) == Estimate(0.5, None, 1)
    assert Estimate.of([]) is None


def test_scores_by_time() -> None:
    curve = Curve((1.0, 2.0, 3.0), (0.2, 0.6, 0.5))
    assert (curve.at(0.5), curve.at(2.5), curve.at(9.0)) == (None, 0.6, 0.5)
    assert (curve.reached(0.6), curve.reached(0.7)) == (2.0, None)


def test_rows_are_judged_at_equal_time_and_with_the_same_seed() -> None:
    given = {
        "a": {"model": "efficientnet_b0"},
        "b": {"model": "efficientnetv2_b0", "baseline": "a"},
    }
    one, two = read_rows(given, CONTEST, **COUNTS)
    slow = Trained(one, {0: Curve((2.0, 4.0), (0.3, 0.9)), 1: Curve((3.0, 6.0), (0.5, 0.7))})
    fast = Trained(two, {0: Curve((1.0, 2.0), (0.4, 0.8)), 1: Curve((1.0, 2.0), (0.4, 0.6))})
    first, second = learnt([slow, fast], target=0.8)
    # After 2 minutes the slow row has a score of the first seed alone.
    assert first.score_at_equal_time == Estimate(0.3, None, 1)
    assert first.minutes_to_target == Estimate(4.0, None, 1)
    assert second.score_at_equal_time is not None
    assert second.score_at_equal_time.mean == pytest.approx(0.7)
    (ratio,) = speed_ups([slow, fast])
    assert ratio.ratio is not None
    # 4 / 2 and 6 / 2; their standard error is sqrt(0.5) / sqrt(2).
    assert (ratio.ratio.mean, ratio.ratio.error) == pytest.approx((2.5, 0.5))
    never = learnt([slow, fast], target=0.95)
    tables = training_tables(never, [ratio], metric="val/top1", target=0.95, seeds=2)
    assert tables[0].rows[0][4] == "never"
    assert tables[1].rows == (("b", "a", "2.50x +- 0.50"),)


def plan(**fields: object) -> TrainingPlan:
    given = {
        "command": ("train",), "seeds": (0,), "minutes": None, "target": 0.9, "metric": "val/top1",
        "overrides": (), "source": "official", "accelerator": "cpu", "precision": "32-true",
    }  # fmt: skip
    return TrainingPlan(**given | fields)  # type: ignore[arg-type]


def test_overrides_of_a_training() -> None:
    two = row(progressive=True, size=64, train=["data=cifar10", "data.batch_size=8"])
    words = overrides(
        two, plan(minutes=90.5, source="paper", overrides=("data=figures",)), CONTEST, 3
    )
    assert {
        "model=v2_s", "task=clsv2", "progressive=on", "recipe.source=paper", "data=cifar10",
        "data.batch_size=8", "data.train_size=64", "trainer.max_epochs=350", "seed=3",
        "+trainer.max_time='00:01:30:30'", "trainer.accelerator=cpu",
    } <= set(words)  # fmt: skip
    assert "data=figures" not in words  # the row's own wins
    one = overrides(row(model="efficientnet_b0", recipe="v1"), plan(), CONTEST, 0)
    assert {"model=b0", "task=cls"} <= set(one)
    assert not any("progressive" in word or "train_size" in word for word in one)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"seeds": ()}, "train.seeds"),
        ({"seeds": (1, 1)}, "twice"),
        ({"minutes": 0}, "minutes=0"),
        ({"minutes": "long"}, "minutes=long"),
        ({"target": None}, "train.target=None"),
    ],
)
def test_mistaken_plans_are_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        plan(**fields)


def test_a_curve_is_read_from_a_run(tmp_path: Path) -> None:
    began = datetime(2026, 5, 4, 12, 0, 0).timestamp()
    (tmp_path / "config.yaml").write_text("")
    os.utime(tmp_path / "config.yaml", (began, began))
    (tmp_path / "metrics.csv").write_text(
        "epoch,step,train/loss,val/top1\n0,9,2.5,\n0,10,,0.25\n1,20,,nan\n2,30,,0.75\n"
    )
    (tmp_path / "train.log").write_text(
        "[2026-05-04 12:00:30,000][compound.training.progress][INFO] - epoch 1/3  val/top1 0.250\n"
        "[2026-05-04 12:01:00,000][compound.training.progress][INFO] - epoch 2/3  val/top1 nan\n"
        "[2026-05-04 12:01:30,500][compound.training.progress][INFO] - epoch 3/3  val/top1 0.750\n"
        "[2026-05-04 12:02:00,000][__main__][INFO] - best val/top1 0.7500: best.ckpt\n"
    )
    curve = read_curve(tmp_path, "val/top1")
    assert curve.scores == (0.25, 0.75)
    assert curve.minutes == pytest.approx((0.5, 90.5 / 60))


@pytest.mark.parametrize(
    ("status", "said", "reason"),
    [
        (1, "Traceback\ntorch.OutOfMemoryError: CUDA out of memory. Tried", "out of memory"),
        (1, "RuntimeError: [enforce fail] DefaultCPUAllocator: can't allocate memory", "out of"),
        (-6, "terminate called\n  what():  std::bad_alloc", "out of memory"),
        (-9, "", "killed, probably for want of memory"),
        (2, "warning\nerror: data.root=x: there is no such folder\n", "exit status 2: data.root=x"),
        (-11, "", "exit status -11: it said nothing"),
    ],
)
def test_failures_are_told(status: int, said: str, reason: str) -> None:
    assert failure(status, said).reason.startswith(reason)


def test_wandb_gets_tables_and_plots(tmp_path: Path) -> None:
    logger = wandb_logger(save_dir=str(tmp_path), project="x", name="y", mode="offline")
    outcomes = [outcome("a", [[0.2, 0.3]], [[None, None]])]
    figure = plot_throughput(outcomes)
    assert figure is not None
    figure.savefig(tmp_path / "throughput.png")
    tables = throughput_tables(outcomes, [project(outcomes[0], devices=1)], [], title="", devices=1)
    log_comparison(logger, tables, [tmp_path / "throughput.png"])
    media = list(tmp_path.glob("wandb/offline-run-*/files/media/*/**/*"))
    assert len([path for path in media if path.name.endswith(".table.json")]) == 2
    (table,) = [path for path in media if path.name.startswith("Training steps")]
    assert json.loads(table.read_text())["data"][0][:4] == ["a", "efficientnet_b0", "v2", "64 128"]
    assert any(path.suffix == ".png" for path in media)


def test_nothing_is_drawn_of_nothing() -> None:
    nameless = outcome("a", [[0.2]], [[None]])  # without an accuracy of the paper
    assert plot_accuracy([nameless], [project(nameless, devices=1)]) is None
    failed = replace(nameless, failure="out of memory")
    assert plot_throughput([failed]) is None
    published = replace(nameless, row=replace(nameless.row, top1=78.7))
    assert plot_accuracy([published], [project(published, devices=1)]) is not None


def test_the_page_escapes_what_it_shows(tmp_path: Path) -> None:
    table = Table("<b>", ("row",), (("<script>alert(1)</script>",),))
    path = tmp_path / "a.html"
    write_comparison(path, title="a & b", notes=["<i>"], tables=[table], figures={})
    text = path.read_text()
    assert "&lt;script&gt;" in text
    assert "<script>alert" not in text
    assert "<title>a &amp; b</title>" in text


def test_flat_lines() -> None:
    content = {"hours": {"median": 1.5}, "pixels": [64, 96], "failure": None}
    assert flat(content) == {"hours_median": 1.5, "pixels": "64 96", "failure": None}
