"""``tools/train.py`` as a user runs it."""

import csv
import json
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess, Popen

import pytest
import torch
from omegaconf import OmegaConf
from started import ROOT, run_alone, run_tool

pytestmark = pytest.mark.tool

TINY = (
    "data.read.num_train=8",
    "data.read.num_val=3",
    "data.read.picture_size=64",
    "model.image_size=64",
    "data.batch_size=4",
    "data.num_workers=0",
    "trainer.max_epochs=2",
    "trainer.accelerator=cpu",
    "trainer.log_every_n_steps=1",
    "report=false",
)


def train(
    folder: Path, *arguments: str, run: Callable[..., CompletedProcess[str]] = run_tool
) -> CompletedProcess[str]:
    places = (f"hydra.run.dir={folder / 'run'}", f"paths.cache_dir={folder / 'cache'}")
    return run("train.py", folder, *arguments, *places)


def test_run_folder_holds_what_is_promised(tmp_path: Path) -> None:
    done = train(tmp_path, *TINY, "callbacks.media.every_n_epochs=1", run=run_alone)
    assert done.returncode == 0, done.stderr
    run = tmp_path / "run"
    config = OmegaConf.load(run / "config.yaml")
    assert (config.model.name, config.data.image_size) == ("efficientdet_d0", 64)
    for name in ("best", "last"):
        content = torch.load(run / "checkpoints" / f"{name}.ckpt", weights_only=True)
        assert content["hyper_parameters"]["model"]["name"] == "efficientdet_d0"
    assert content["global_step"] == 4  # the last one is of the last epoch, whatever it scored
    rows = list(csv.DictReader((run / "metrics.csv").read_text().splitlines()))
    assert {"train/loss", "train/loss_box", "val/mAP", "val/AP50"} <= rows[0].keys()
    assert len([row for row in rows if row["val/mAP"]]) == 2
    assert isinstance(json.loads((run / "predictions.json").read_text()), list)
    # Nobody is logged in here: offline, inside the run's folder, pictures and table included.
    media = run.glob("wandb/offline-run-*/files/media/*")
    assert {"images", "metadata", "table"} <= {path.name for path in media}
    assert {path.name for path in tmp_path.iterdir()} == {"run", "cache"}
    assert "epoch 2/2" in done.stdout
    assert "epoch 2/2" in (run / "train.log").read_text()
    assert "images/s" in done.stdout
    assert "memory" in done.stdout
    assert "Traceback" not in done.stderr

    # Two processes go on from there, into a folder of their own.
    shutil.move(run, tmp_path / "first")
    before = (tmp_path / "first" / "metrics.csv").read_bytes()
    last = tmp_path / "first" / "checkpoints" / "last.ckpt"
    two = ("trainer.devices=2", "trainer.strategy=ddp", "trainer.max_epochs=4", "data.batch_size=2")
    done = train(tmp_path, *TINY, *two, f"ckpt_path={last}", "trainer.check_val_every_n_epoch=4")
    assert done.returncode == 0, done.stderr
    content = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert (content["epoch"], content["global_step"]) == (3, 8)
    found = json.loads((run / "predictions.json").read_text())
    assert {entry["image_id"] for entry in found} == {1, 2, 3}  # both processes' pictures
    assert (tmp_path / "first" / "metrics.csv").read_bytes() == before
    done = train(tmp_path, *TINY)
    assert (done.returncode, done.stderr.count("holds a run already")) == (2, 1)


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.long)]
)
def test_a_signal_is_no_success_and_says_how_to_go_on(tmp_path: Path, number: int) -> None:
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    command = [
        sys.executable, str(ROOT / "tools/train.py"), *TINY, "trainer.max_epochs=1000",
        "logger=csv", f"hydra.run.dir={tmp_path / 'run'}", f"paths.cache_dir={tmp_path / 'cache'}",
    ]  # fmt: skip

    def heed() -> (
        None
    ):  # what a shell starts in the background, such as these tests, ignores Ctrl-C
        signal.signal(signal.SIGINT, signal.default_int_handler)

    with (
        (tmp_path / "out").open("w") as out,
        Popen(command, stdout=out, stderr=out, preexec_fn=heed) as process,
    ):
        deadline = time.monotonic() + 300
        while process.poll() is None and not last.is_file() and time.monotonic() < deadline:
            time.sleep(0.1)
        process.send_signal(number)
    told = (tmp_path / "out").read_text()
    assert process.returncode == 128 + number, told
    assert f"stopped; the same command goes on with ckpt_path={last}" in " ".join(told.split())
    assert "Traceback" not in told


def test_mistakes_end_in_one_line_and_exit_code_2(tmp_path: Path) -> None:
    for arguments, message in (
        (["task=det", "model=b0"], "error: model=b0 does not fit"),
        (["task=cls", "data=imagefolder", "data.root=/nowhere"], "error: data.root=/nowhere"),
        (["task=cls", "weights=none.pth"], "error: weights=none.pth: there is no such file"),
        (["task=cls", "freeze=[stam]"], "error: freeze=stam fits no layer"),
        (["task=cls", "data.batch_size=1"], "error: data.batch_size=1: batch norm needs"),
        (["task=cls", "data.root=/x"], "error: data.root=/x: drawn pictures have no folder"),
        (["data=coco", "data.root=/nowhere"], "error: data.root=/nowhere"),
        (["data=coco"], "error: data.root"),
        (["monitor=val/map", *TINY], "error: monitor 'val/map' is unknown; did you mean val/mAP"),
        (
            ["trainer.max_epochs=abc", "data=coco", "data.root=x"],
            "error: trainer.max_epochs=abc: expected a whole number",
        ),
        (["trainer.accumulate_grad_batches=0"], "error: trainer.accumulate_grad_batches=0: exp"),
        (["callbacks.ema.decay=2", *TINY], "error: callbacks.ema.decay=2: expected a share"),
        (
            ["data.transforms=[{_target_:albumentations.HorizontalFlip,q:1}]", *TINY],
            "error: data.transforms",
        ),
        (
            ["task=cls", "data.transforms=[{_target_:albumentations.VerticalFlop}]"],
            "error: data.transforms",
        ),
        (["ckpt_path=none.ckpt"], "error: ckpt_path=none.ckpt"),
        (["+trainer.foo=1", *TINY], "error: trainer: "),
    ):
        done = train(tmp_path, *arguments)
        assert done.returncode == 2, done.stderr
        assert done.stderr.startswith(message)
        assert len(done.stderr.strip().splitlines()) == 1
        # Hydra makes the folder before the tool can refuse; nothing of it stays.
        assert not (tmp_path / "run").exists()
