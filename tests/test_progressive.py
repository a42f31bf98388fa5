"""Progressive learning through ``tools/train.py``, for every task and on two processes."""

import csv
from pathlib import Path
from subprocess import CompletedProcess

import pytest
import torch
from started import run_tool

pytestmark = pytest.mark.tool

DETECTOR = (
    "task=det",
    "progressive=on",
    "callbacks.progressive.stages=2",
    "data.read.num_train=16",
    "data.read.num_val=3",
    "data.read.picture_size=192",
    "data.num_workers=1",
    "data.mixup=0.5",
    "trainer.accelerator=cpu",
    "trainer.log_every_n_steps=1",
    "callbacks.media=null",
    "logger=csv",
    "report=false",
)
CLASSIFIER = (
    "task=clsv2",
    "data.read.num_train=16",
    "data.read.num_val=7",
    "data.batch_size=4",
    "data.num_workers=1",
    "trainer.accelerator=cpu",
    "trainer.check_val_every_n_epoch=1",
    "callbacks.media=null",
    "logger=csv",
    "report=false",
)


def train(folder: Path, run: str, *arguments: str) -> CompletedProcess[str]:
    places = (f"hydra.run.dir={folder / run}", f"paths.cache_dir={folder / 'cache'}")
    return run_tool("train.py", folder, *arguments, *places)


def changes(run: Path, *names: str) -> list[tuple[float, ...]]:
    rows = csv.DictReader((run / "metrics.csv").read_text().splitlines())
    keys = ["step", *(f"progressive/{name}" for name in names)]
    return [tuple(float(row[key]) for key in keys) for row in rows if row[keys[-1]]]


def test_a_detector_on_two_processes(tmp_path: Path) -> None:
    settings = (
        *DETECTOR,
        "callbacks.progressive.interpolation=paper",
        "callbacks.progressive.batch=constant_memory",
        "data.batch_size=2",
        "trainer.max_epochs=2",
        "trainer.devices=2",
        "trainer.strategy=ddp",
    )
    done = train(tmp_path, "run", *settings)
    assert done.returncode == 0, done.stderr
    # 2 * 192**2 / 128**2 = 4.5 pictures, of which 4: 16 / 2 / 4 = 2 steps, then 16 / 2 / 2 = 4.
    found = changes(tmp_path / "run", "image_size", "batch_size", "mixup")
    assert found == [(0, 128, 4, 0), (2, 192, 2, 0.5)]
    content = torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)
    assert content["global_step"] == 6
    assert done.stdout.count("stage 2 of 2: image size 192, mixup 0.5, batch size 2") == 1


def test_a_classifier_goes_on_within_a_stage(tmp_path: Path) -> None:
    target = "_target_:pytorch_lightning.callbacks.ModelCheckpoint"
    each = "save_top_k:-1,every_n_epochs:2"
    every = f"+callbacks.every={{{target},dirpath:{tmp_path}/every,{each}}}"
    settings = (*CLASSIFIER, "trainer.max_epochs=3", "callbacks.progressive.stages=2")
    done = train(tmp_path, "whole", *settings, every)
    assert done.returncode == 0, done.stderr
    # Officially 46 and 55: halves of the way from 37 = round(2 / 3 * 55), where the official 192
    # of 224 make 55 of the drawn pictures' 64. Of 3 * 4 steps each stage takes 6.
    assert changes(tmp_path / "whole", "image_size") == [(0, 46), (6, 55)]
    (tmp_path / "every/epoch=1-step=8.ckpt").rename(tmp_path / "second.ckpt")
    last = f"ckpt_path={tmp_path}/second.ckpt"

    done = train(tmp_path, "resumed", *settings, last)
    assert done.returncode == 0, done.stderr
    assert changes(tmp_path / "resumed", "image_size") == [(8, 55)]

    done = train(tmp_path, "refused", *settings, last, "trainer.max_epochs=8")
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(f"error: {last} was trained in other stages (ends 1.5")
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "refused").exists()
