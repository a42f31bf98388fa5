"""A third task in a package of its own runs by the same commands, without a changed line here."""

import csv
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

ROOT = Path(__file__).parent.parent
SMALL = ("data.num_train=16", "data.num_val=8", "trainer.max_epochs=2", "logger=csv")

pytestmark = pytest.mark.tool


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the package as its wheel has it."""
    folder = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT / "tests/plugin", check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(folder)
    return folder


@pytest.fixture(scope="module")
def run(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a training run."""
    folder = tmp_path_factory.mktemp("plugin")
    call(installed, folder, "train", "task=reg", *SMALL, "callbacks.recent.save_top_k=2")
    return folder / "train"


def call(installed: Path, folder: Path, verb: str, *words: str) -> str:
    """Run a verb where the package is installed; return what it printed."""
    environment = os.environ | {"PYTHONPATH": str(installed), "WANDB_MODE": "offline"}
    out = () if words == ("--help",) else (f"hydra.run.dir={folder / verb}",)
    done = subprocess.run(
        [sys.executable, str(ROOT / f"tools/{verb}.py"), *words, *out],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_trains_and_reports(run: Path) -> None:
    with (run / "metrics.csv").open() as file:
        scores = [row["val/r2"] for row in csv.DictReader(file) if row.get("val/r2")]
    assert len(scores) == 2
    assert "Right and found" in (run / "report.html").read_text()
    told = torch.load(run / "checkpoints/best.ckpt", weights_only=True)["hyper_parameters"]
    assert (told["task"], told["class_names"]) == ("reg", ["brightness"])


def test_is_evaluated(installed: Path, run: Path, tmp_path: Path) -> None:
    call(installed, tmp_path, "evaluate", f"weights={run}")
    with (run / "metrics.csv").open() as file:
        scores = [float(row["val/r2"]) for row in csv.DictReader(file) if row.get("val/r2")]
    found = json.loads((tmp_path / "evaluate/scores.json").read_text())["val/r2"]
    assert found == pytest.approx(max(scores), abs=1e-5)
    assert "Right and found" in (tmp_path / "evaluate/report.html").read_text()


def test_predicts_and_its_exports_predict_the_same(
    installed: Path, run: Path, tmp_path: Path
) -> None:
    image = tmp_path / "grey.png"
    cv2.imwrite(str(image), np.full((40, 50, 3), 90, np.uint8))
    call(installed, tmp_path, "predict", f"weights={run}", f"source={image}")
    (row,) = csv.DictReader((tmp_path / "predict/predictions.csv").read_text().splitlines())
    assert list(row) == ["file", "brightness"]
    assert np.isfinite(float(row["brightness"]))
    call(installed, tmp_path, "export", f"weights={run}", "target=pt2", "pictures=4")
    (told,) = json.loads((tmp_path / "export/export.json").read_text())["exports"]
    assert 0 <= told["differences"]["number"] < 1e-4
    assert not told["failed"]
    assert (tmp_path / "export/efficientnet_lite0.pt2").is_file()


def test_is_averaged_and_measured(installed: Path, run: Path, tmp_path: Path) -> None:
    call(installed, tmp_path, "average", f"weights={run}", "last=2")
    assert json.loads((tmp_path / "average/average.json").read_text())["monitor"] == "val/r2"
    call(installed, tmp_path, "benchmark", "task=reg", "rounds=1", "warmup=0", *SMALL[:2])
    assert json.loads((tmp_path / "benchmark/benchmark.json").read_text())["training"]["median"] > 0


def test_help_shows_it(installed: Path, tmp_path: Path) -> None:
    told = call(installed, tmp_path, "train", "--help")
    for word in ("reg", "gradients", "reg_lite0"):
        assert word in told
