"""``tools/compare.py`` as a user runs it."""

import csv
import json
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from started import run_tool

from compound.cli import compare
from compound.cli import help as _help
from compound.cli import launch as _launch
from compound.cli import overrides as _overrides
from compound.errors import UserError

TINY = (
    "rows=none",
    "device=cpu",
    "precision=32-true",
    "batch_size=2",
    "+rows.one.model=efficientnet_b0",
    "+rows.one.recipe=v1",
    "+rows.two.model=efficientnetv2_b0",
    "+rows.two.baseline=one",
)


def call(folder: Path, *arguments: str) -> CompletedProcess[str]:
    return run_tool("compare.py", folder, *arguments)


@pytest.mark.tool
def test_rows_that_fit_are_measured_and_the_others_are_told(tmp_path: Path) -> None:
    run = tmp_path / "run"
    done = call(
        tmp_path, *TINY, "rounds=1", "warmup=0", "steps=1", "num_workers=0", "loader_batches=1",
        "memory_limit=0.75", "epochs=10", "images=36000", "devices=2",
        "+rows.one.size=64", "+rows.two.size=64",
        "+rows.two.paper_hours=2.5", "+rows.two.top1=78.7", "+rows.one.paper_hours=10",
        "+rows.big={model:efficientnetv2_b0,size:64,batch_size:1024}",
        "+rows.two.paper_images_per_second=5739", "precision=bf16-mixed", f"hydra.run.dir={run}",
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert "out of memory in training 1024 pictures of 64 px" in done.stdout
    one, two, big = csv.DictReader((run / "compare.csv").read_text().splitlines())
    assert (big["name"], big["hours_median"]) == ("big", "")
    assert big["failure"].startswith("out of memory")
    content = json.loads((run / "compare.json").read_text())
    for line, measured in zip((one, two), content["measurements"], strict=False):
        (step,) = measured["steps"][0]
        (loader,) = measured["loader"][0]
        # 360,000 pictures on two devices, at the rate of steps of 2 or of the loader.
        hours = 360_000 / min(2 / step["median"], loader) / 2 / 3600
        assert float(line["hours_median"]) == pytest.approx(hours)
        phases = [float(line[name]) for name in ("forward", "backward", "optimizer")]
        assert step["median"] == pytest.approx(sum(phases))
        # Parameters, gradients and two of the optimizer's: at least 4 x 5.3 M x 4 bytes.
        assert 4 * 5.3e6 * 4 / 2**30 < float(line["peak_gib"]) < 0.75
    assert len(content["measurements"][1]["inference"]) == 1
    (ratio,) = content["ratios"]
    assert (ratio["row"], ratio["baseline"], ratio["paper_training"]) == ("two", "one", 4)
    measured = float(one["hours_median"]) / float(two["hours_median"])
    assert ratio["training"]["median"] == pytest.approx(measured)
    (line,) = csv.DictReader((run / "ratios.csv").read_text().splitlines())
    assert float(line["training_median"]) == ratio["training"]["median"]
    page = (run / "report.html").read_text()
    assert page.count("<svg") == 2
    for name in ("accuracy.png", "throughput.png"):
        assert (run / name).read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.tool
def test_rows_are_trained(tmp_path: Path) -> None:
    run = tmp_path / "run"
    small = (
        "data=figures", "data.read.num_train=16", "data.read.num_val=7",
        "data.read.picture_size=32", "model.image_size=32", "data.num_workers=0",
        "trainer.check_val_every_n_epoch=1",
    )  # fmt: skip
    done = call(
        tmp_path, *TINY, "mode=train", "epochs=2", "batch_size=4", "train.seeds=[3]",
        "train.target=0.01", f"train.overrides={list(small)}",
        "+rows.two.train=['data=cocoo']", f"hydra.run.dir={run}",
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert "data=cocoo: did you mean coco" in done.stdout
    one, two = csv.DictReader((run / "compare.csv").read_text().splitlines())
    assert two["failure"].startswith("exit status 2: data=cocoo")
    (curve,) = json.loads((run / "compare.json").read_text())["trainings"][0]["curves"].values()
    rows = csv.DictReader((run / "one-seed3/metrics.csv").read_text().splitlines())
    scores = [float(row["val/top1"]) for row in rows if row["val/top1"]]
    assert curve["scores"] == scores
    assert len(scores) == 2
    assert float(one["score_mean"]) == scores[-1] == float(one["score_at_equal_time_mean"])
    assert 0 < curve["minutes"][0] < curve["minutes"][1] == float(one["minutes_mean"]) < 5
    assert (run / "scores.png").is_file()


def composed(*overrides: str) -> DictConfig:
    _launch.register_resolvers()
    with initialize_config_dir(str(_help.CONFIGS), version_base="1.3"):
        return compose("compare", [*overrides, "paths.output_dir=x"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["mode=fast"], "mode 'fast' is unknown; accepted: throughput, train"),
        (["rows=none"], "rows: there is none"),
        ([*TINY, "+rows.two.size=31"], "rows.two.size=31: expected 32 pixels"),
        (["images=0"], "images=0: expected a whole number of 1 or more"),
        (["devices=0"], "devices=0: expected a whole number of 1 or more"),
        (["epochs=0.5"], "epochs=0.5: expected 1 or more"),
        (["device=cuda"], "device=cuda: PyTorch sees no GPU here; take device=cpu"),
        (["device=tpu"], "device 'tpu' is unknown"),
        (["precision=int8"], "precision 'int8' is unknown"),
        (["only=[b9]"], "row of only 'b9' is unknown"),
        (["only=b8"], "row of only 'b8' is unknown"),
        (["logger=tensorboard"], "logger=tensorboard: a comparison takes none or wandb"),
        (["source=blog"], "source 'blog' is unknown"),
        (["contest=v1"], "contest 'v1' is unknown"),
        (["mode=train", "train.seeds=[]"], r"train.seeds=\[\]"),
        (["mode=train", "source=blog"], "source 'blog' is unknown"),
        (["mode=train", "train.metric=val/loss"], "train.metric 'val/loss' is unknown"),
    ],
)
def test_mistakes_are_told(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(UserError, match=message):
        compare.compare(composed(*arguments))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rows=table8"], "rows=table8: did you mean table7 .*available: clothing, none"),
        (
            ["rows.b4.size=64"],
            "'rows.b4.size' is unknown; .*does not say yet is added by .rows.b4.size",
        ),
        (["device=cpu", "rouns=3"], "key 'rouns' is unknown; did you mean rounds"),
        (["images=many"], "images=many: expected a number"),
    ],
)
def test_command_lines_are_checked(arguments: list[str], message: str) -> None:
    _launch.register_resolvers()
    with pytest.raises(UserError, match=message):
        _overrides.check_overrides("compare", arguments)


def test_sound_command_lines_pass() -> None:
    _launch.register_resolvers()
    words = ["rows=table10", "images=1281167", "devices=32", "only=[b7]", "+rows.b7.batch_size=16",
             "rows.v2_m.baseline=null", "logger=wandb", "~rows.v2_m.top1"]  # fmt: skip
    _overrides.check_overrides("compare", words)
    with pytest.raises(UserError, match="key 'rouns' is unknown"):  # which only this one is
        _overrides.check_overrides("compare", [*words, "rouns=3"])


@pytest.mark.tool
def test_a_mistake_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    done = call(tmp_path, "rows=table7", "device=cpu", "+rows.mine.model=efficientnet_b9")
    assert done.returncode == 2
    assert done.stderr.startswith("error: rows.mine.model 'efficientnet_b9' is unknown; did you")
    assert len(done.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())
