"""`compound.train` and its companions do what the command line does for the same keys."""

import csv
import logging
import multiprocessing
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from PIL import Image

import compound
from compound.cli import front_door
from compound.cli.configs import parse
from compound.errors import UserError

WORDS = [
    "task=cls", "model=lite0", "data=figures", "model.image_size=32", "data.read.num_train=16",
    "data.read.num_val=8", "data.read.picture_size=64", "data.batch_size=4", "data.num_workers=1",
    "optim.lr=0.002", "trainer.max_epochs=2", "trainer.accelerator=cpu", "logger=csv",
    "trainer.log_every_n_steps=1", "trainer.check_val_every_n_epoch=1",
]  # fmt: skip
# The same for Python, in a script without a guard; it would be printed again by a worker that
# imports the script.
SCRIPT = """
import sys
import compound

assert "train" in dir(compound) and "torch" not in sys.modules, "import compound must be light"
print("script")
for name in ("first", "sécond, (2) = x"):
    run = compound.train(
        task="cls", model="lite0", data="figures", path=name, max_epochs=2, logger="csv",
        model__image_size=32, data__batch_size=4, data__num_workers=1, optim__lr=2e-3,
        overrides={
            "data.read.num_train": 16, "data.read.num_val": 8, "data.read.picture_size": 64,
            "trainer.accelerator": "cpu", "trainer.log_every_n_steps": 1,
            "trainer.check_val_every_n_epoch": 1,
        },
    )
    assert run.path.name == name, run.path
"""


def process(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    call = [sys.executable, *command]
    return subprocess.run(call, cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of a script: ``first`` and ``sécond, (2) = x``."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "script.py").write_text(SCRIPT, encoding="utf-8")
    done = process(folder, "script.py")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("script\n") == 1
    assert "epoch 2/2" in done.stdout
    return folder


def rows(run: Path) -> list[dict[str, str]]:
    """Return the metrics but for what depends on the machine."""
    with (run / "metrics.csv").open() as file:
        return [
            {key: value for key, value in row.items() if key.startswith(("train/", "val/", "lr"))}
            for row in csv.DictReader(file)
        ]


@pytest.mark.train
def test_a_script_trains_as_the_command_line_does(folder: Path) -> None:
    done = process(folder, "-m", "compound", "train", *WORDS, "hydra.run.dir=line")
    assert done.returncode == 0, done.stderr
    expected = rows(folder / "line")
    assert len([row for row in expected if row["train/loss"]]) >= 2
    for name in ("first", "sécond, (2) = x"):
        assert rows(folder / name) == expected
        weights = [
            torch.load(folder / run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
            for run in (name, "line")
        ]
        assert weights[0].keys() == weights[1].keys()
        assert all(torch.equal(value, weights[1][key]) for key, value in weights[0].items())
        files = [{p.name for p in (folder / run).iterdir()} for run in (name, "line")]
        assert files[0] == files[1]
        texts = [(folder / run / "config.yaml").read_text() for run in (name, "line")]
        assert texts[0].replace(str(folder / name), str(folder / "line")) == texts[1]


@pytest.mark.train
def test_a_run_knows_its_scores_network_and_report(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    run = compound.Run(folder / "sécond, (2) = x")
    best = torch.load(run.path / "checkpoints" / "best.ckpt", weights_only=True)
    (row,) = [
        row
        for row in csv.DictReader((run.path / "metrics.csv").read_text().splitlines())
        if row["val/top1"] and int(row["epoch"]) == best["epoch"]
    ]
    assert run.metrics == {k: float(v) for k, v in row.items() if k.startswith("val/")}
    assert run.report == run.path / "report.html"
    assert not run.model.training
    assert run.model is run.model

    state = dict(os.environ), list(logging.getLogger().handlers), list(warnings.filters)
    for _ in range(2):
        scores = compound.evaluate(run, path=tmp_path / "eval", report=False)
        assert scores["val/top1"] == pytest.approx(run.metrics["val/top1"], abs=1e-6)
    assert state == (dict(os.environ), list(logging.getLogger().handlers), list(warnings.filters))
    assert not GlobalHydra.instance().is_initialized()
    assert HydraConfig.instance().cfg is None

    pixels = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    for i in range(2):
        Image.fromarray(pixels[i]).save(tmp_path / f"{i}.png")
    expected = run.model.predict(list(pixels), top=3)
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    for weights in (run, run.path, str(run.path / "checkpoints" / "best.ckpt"), run.model):
        for source in (str(tmp_path / "*.png"), list(pixels)):
            found = compound.predict(weights, source, top=3, device="cpu")
            assert len(found) == 2
            for one, other in zip(found, expected, strict=True):
                assert torch.equal(one.labels, other.labels)
                assert torch.allclose(one.scores, other.scores)
    assert list((tmp_path / "cwd").iterdir()) == []
    (tmp_path / "2.png").write_bytes(b"none")
    with pytest.raises(UserError, match=r"2\.png"):
        compound.predict(run.model, tmp_path)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"modle": "d2"}, "key 'modle' is unknown; did you mean model"),
        ({"task": "cls", "model": "d0"}, "model=d0 does not fit task=cls, which takes b0, b1"),
        ({"data": "cocoo"}, "data=cocoo: .*did you mean coco"),
        ({"optim__lr": "fast"}, "optim.lr=fast: expected a number"),
        ({"overrides": {"optim.lrr": 1}}, "key 'optim.lrr' is unknown; did you mean optim.lr"),
        ({"data": "coco"}, "data.root is not set; give it as data.root=<value>"),
        ({"data": "voc", "root": "/no, where"}, "data.root=/no, where: there is no such folder"),
        ({"max_epochs": 0}, "trainer.max_epochs=0: expected a whole number"),
        pytest.param({"sweep": "det"}, "several runs", marks=pytest.mark.extra("sweep")),
        ({"config_dir": "/nowhere"}, "--config-dir /nowhere: there is no such folder"),
        ({"seed": object()}, "expected a number, text, path"),
    ],
)
def test_mistakes_have_the_messages_of_the_command_line(
    keys: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        compound.train(**keys)
    assert list(tmp_path.iterdir()) == []
    assert not GlobalHydra.instance().is_initialized()


@pytest.mark.parametrize(
    "value",
    [
        None, True, 3, -2.5, 1e-7, float("inf"), "a", "", "null", "true", "3", "1e-3", "a,b", "[a",
        "it's", '"quoted"', "/home/ü/my data (2)/a=b", "C:\\data\\", "end\\'", " spaces ", "#no",
        "choice(1,2)", "{a", "a:b", [1, "b,c", None], ["it's"], {"a": [1, {"b": "c d"}]}, [], {},
    ],
)  # fmt: skip
def test_every_value_reaches_hydra_as_it_is(value: Any) -> None:
    (word,) = front_door._arguments({"data__root": value}, None, None)
    assert parse("train", [word]).value("data.root") == value
    assert not parse("train", [word]).settings[0].is_sweep_override()


def test_keywords_are_keys() -> None:
    keys = {"task": "det", "root": Path("a b"), "max_epochs": np.int64(5), "optim__lr": 1e-3}
    words = front_door._arguments(keys, {"+trainer.profiler": "simple"}, "mine")
    assert words == [
        "--config-dir", "mine", "task=det", "data.root=a b", "trainer.max_epochs=5",
        "optim.lr=0.001", "+trainer.profiler=simple",
    ]  # fmt: skip


def test_workers_that_would_import_the_script_are_left_out(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert front_door._workers("train", []) == []
    monkeypatch.setattr(multiprocessing, "get_start_method", lambda allow_none: "spawn")
    assert front_door._workers("train", ["task=det"]) == ["data.num_workers=0"]
    assert len(caplog.messages) == 1
    assert front_door._workers("train", ["data.num_workers=2"]) == []
    assert front_door._workers("predict", []) == []


def test_load_refuses_what_says_nothing_of_its_network(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no such run or file"):
        compound.load(tmp_path / "none.ckpt")
    torch.save({"weight": torch.zeros(1)}, tmp_path / "plain.pth")
    with pytest.raises(UserError, match=r"plain\.pth does not say what network"):
        compound.load(tmp_path / "plain.pth")


def test_module_names_the_front_door() -> None:
    assert set(compound.__all__) <= set(dir(compound))
    with pytest.raises(AttributeError, match="no attribute 'fit'"):
        _ = compound.fit  # type: ignore[attr-defined]
