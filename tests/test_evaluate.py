"""``tools/evaluate.py`` on runs' folders."""

import json
import shutil
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from omegaconf import OmegaConf
from started import run_tool

pytestmark = pytest.mark.tool

DETECTOR = (
    "task=det",
    "data.read.num_train=8",
    "data.read.num_val=3",
    "data.read.picture_size=64",
    "model=det_lite0",
    "model.image_size=64",
    "data.antialias=false",
    "task.predict.method=fast",
)
CLASSIFIER = (
    "task=clsv2",
    "model=v2_b0",
    "progressive=off",
    "data.read.num_train=16",
    "data.read.num_val=7",
    "model.image_size=64",
)
COMMON = (
    "data.batch_size=4",
    "data.num_workers=0",
    "trainer.accelerator=cpu",
    "trainer.max_epochs=2",
    "trainer.check_val_every_n_epoch=1",
    "callbacks.media=null",
    "logger=csv",
    "report=false",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the run of a detector and of a classifier."""
    folder = tmp_path_factory.mktemp("runs")
    for name, settings in (("det", DETECTOR), ("cls", CLASSIFIER)):
        places = (f"hydra.run.dir={folder / name}", f"paths.cache_dir={folder / 'cache'}")
        done = run_tool("train.py", folder, *settings, *COMMON, *places)
        assert done.returncode == 0, done.stderr
    return folder


def evaluate(folder: Path, weights: Path, *arguments: str) -> CompletedProcess[str]:
    places = (f"weights={weights}", f"hydra.run.dir={folder / 'e'}", "trainer.accelerator=cpu")
    return run_tool("evaluate.py", folder, *places, *arguments)


@pytest.mark.parametrize(("run", "metric"), [("det", "val/mAP"), ("cls", "val/top1")])
def test_a_run_scores_what_it_said(folder: Path, tmp_path: Path, run: str, metric: str) -> None:
    rows = (folder / run / "metrics.csv").read_text().splitlines()
    column = rows[0].split(",").index(metric)
    best = max(float(row.split(",")[column] or -1) for row in rows[1:])
    done = evaluate(tmp_path, folder / run, "report=false")
    assert done.returncode == 0, done.stderr
    scores = json.loads((tmp_path / "e" / "scores.json").read_text())
    assert scores[metric] == pytest.approx(best, abs=1e-6)
    assert "as it was trained" in done.stdout


def test_the_command_line_goes_before_what_the_run_says(folder: Path, tmp_path: Path) -> None:
    """A threshold of 1 leaves nothing of what was found."""
    settings = ("task.predict.score_threshold=1", "data.batch_size=2", "report=false")
    done = evaluate(tmp_path, folder / "det", *settings)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "e" / "scores.json").read_text())["val/mAP"] == 0
    assert json.loads((tmp_path / "e" / "predictions.json").read_text()) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["model=d1"], "model=d1: the run"),
        (["optim.lr=1"], "optim.lr=1: the run"),
        (["model.image_size=32"], "model.image_size=32: the run"),
        (["data.bathc_size=2"], "did you mean data.batch_size"),
    ],
)
def test_what_a_run_has_settled_is_refused(
    folder: Path, tmp_path: Path, words: list[str], said: str
) -> None:
    done = evaluate(tmp_path, folder / "det", *words)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert said in done.stderr


def test_runs_that_are_half_written_are_refused(folder: Path, tmp_path: Path) -> None:
    half = tmp_path / "half"
    half.mkdir()
    done = evaluate(tmp_path, half)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "has no config.yaml" in done.stderr

    shutil.copy(folder / "det" / "config.yaml", half)
    done = evaluate(tmp_path, half)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "has no checkpoints/best.ckpt or last.ckpt" in done.stderr

    shutil.copytree(folder / "det" / "checkpoints", half / "checkpoints")
    whole = (half / "config.yaml").read_text()
    (half / "config.yaml").write_text(whole[: whole.index("trainer:")])
    done = evaluate(tmp_path, half)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "is not all there" in done.stderr

    (half / "config.yaml").write_text(whole)
    (half / "checkpoints" / "best.ckpt").write_bytes(b"PK\x03\x04 cut off")
    done = evaluate(tmp_path, half)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "best.ckpt" in done.stderr
    assert not (tmp_path / "e").exists()


def test_a_part_that_was_scored_is_scored_again(folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "part"
    shutil.copytree(folder / "det", run)
    config = OmegaConf.load(run / "config.yaml")
    config.trainer.limit_val_batches = 1
    config.data.batch_size = 2
    OmegaConf.save(config, run / "config.yaml")
    done = evaluate(tmp_path, run, "report=false")
    assert done.returncode == 0, done.stderr
    assert "trainer.limit_val_batches=null scores all" in done.stdout + done.stderr
    found = json.loads((tmp_path / "e" / "predictions.json").read_text())
    assert {entry["image_id"] for entry in found} <= {1, 2}


@pytest.mark.parametrize("key", ["weights", "backbone_weights"])
def test_a_run_goes_on_without_the_weights_it_began_with(
    folder: Path, tmp_path: Path, key: str
) -> None:
    words = (*DETECTOR, *COMMON, "trainer.max_epochs=3", f"{key}={tmp_path}/gone.pth")
    places = (f"hydra.run.dir={tmp_path / 'on'}", f"paths.cache_dir={folder / 'cache'}")
    last = f"ckpt_path={folder}/det/checkpoints/last.ckpt"
    done = run_tool("train.py", tmp_path, *words, *places, last)
    assert done.returncode == 0, done.stderr
    assert "epoch 3/3" in done.stdout
