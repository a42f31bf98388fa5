"""``task=cls`` through the tools, as a user runs them."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from started import run_tool

import backbone
from compound.weights import save_weights

pytestmark = pytest.mark.tool

ROOT = Path(__file__).parent.parent
TINY = (
    "task=cls",
    "data.read.num_train=16",
    "data.read.num_val=7",
    "data.read.picture_size=32",
    "model.image_size=32",
    "data.batch_size=4",
    "data.num_workers=0",
    "trainer.accelerator=cpu",
    "trainer.max_epochs=2",
    "trainer.check_val_every_n_epoch=1",
    "report=false",
)


def call(tool: str, folder: Path, *arguments: str, launcher: tuple[str, ...] = ()) -> str:
    command = [sys.executable, *launcher, str(ROOT / "tools" / tool), *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


def test_train_and_evaluate(tmp_path: Path) -> None:
    run = tmp_path / "run"
    out = call(
        "train.py", tmp_path, *TINY, "callbacks.media.every_n_epochs=1", f"hydra.run.dir={run}"
    )
    assert "epoch 2/2" in out
    rows = list(csv.DictReader((run / "metrics.csv").read_text().splitlines()))
    scored = [row for row in rows if row["val/top1"]]
    assert len(scored) == 2
    assert {"val/top5", "val/loss"} <= scored[0].keys()
    best = max(float(row["val/top1"]) for row in scored)
    media = run.glob("wandb/offline-run-*/files/media/*")
    assert {"images", "table"} <= {path.name for path in media}

    weights = run / "checkpoints" / "best.ckpt"
    out = call("evaluate.py", tmp_path, *TINY, f"weights={weights}", f"hydra.run.dir={tmp_path}/e")
    scores = json.loads((tmp_path / "e" / "scores.json").read_text())
    assert scores["val/top1"] == pytest.approx(best, abs=1e-6)
    assert f"val/top1 {best:.4f}" in out
    # W&B's artifact is the same network.
    model = backbone.load_model(run / "checkpoints" / "best.safetensors")
    state = torch.load(weights, weights_only=True)["state_dict"]
    assert torch.equal(model.classifier.weight, state["model.classifier.weight"])


@pytest.mark.extra("lite")
def test_partly_random_weights_are_not_scored(tmp_path: Path) -> None:
    done = run_tool("evaluate.py", tmp_path, *TINY, "model=lite0", "weights=package")
    assert done.returncode == 2
    assert "skipped: class rows of 7 of 7 classes, now random" in done.stderr
    assert not list(tmp_path.glob("runs/*/*"))


@pytest.mark.parametrize("how", ["lightning", "torchrun"])
def test_two_processes_learn_what_one_does(tmp_path: Path, how: str) -> None:
    """With norms that stand still and nothing random in the network, halves of a batch add up."""
    torch.manual_seed(0)
    start = backbone.create_model("efficientnet_b0", num_classes=7)
    with torch.no_grad():
        for _ in range(20):  # statistics, so that the norms can stand still
            start.train()(torch.randn(8, 3, 32, 32))
    save_weights(tmp_path / "start.safetensors", start.state_dict(), {})
    settings = (
        *TINY, f"weights={tmp_path}/start.safetensors", "model.dropout=0", "model.survival=1",
        "callbacks.batch_norm.freeze_from=0", "optim=sgd", "optim.lr=1", "logger=csv",
    )  # fmt: skip
    call("train.py", tmp_path, *settings, f"hydra.run.dir={tmp_path}/one")
    ddp = ("trainer=ddp", "trainer.sync_batchnorm=false", "data.batch_size=2", "trainer.devices=2")
    launcher = ("-m", "torch.distributed.run", "--nproc-per-node=2") if how == "torchrun" else ()
    call("train.py", tmp_path, *settings, *ddp, f"hydra.run.dir={tmp_path}/two", launcher=launcher)

    def result(run: str) -> tuple[list[float], dict[str, torch.Tensor]]:
        rows = csv.DictReader((tmp_path / run / "metrics.csv").read_text().splitlines())
        content = torch.load(tmp_path / run / "checkpoints/last.ckpt", weights_only=True)
        assert content["global_step"] == 8
        return [float(r["val/loss"]) for r in rows if r["val/loss"]], content["current_model_state"]

    (one_losses, one), (two_losses, two) = result("one"), result("two")
    assert two_losses == pytest.approx(one_losses, rel=1e-5)
    if how == "torchrun":
        # Norms that move, differently in each process: what is scored is what is saved.
        live = ("trainer.max_epochs=1", f"hydra.run.dir={tmp_path}/live")
        call("train.py", tmp_path, *TINY, "logger=csv", *ddp, *live, launcher=launcher)
        rows = csv.DictReader((tmp_path / "live/metrics.csv").read_text().splitlines())
        told = next(float(row["val/loss"]) for row in rows if row["val/loss"])
        best = f"weights={tmp_path}/live/checkpoints/best.ckpt"
        call("evaluate.py", tmp_path, *TINY, best, f"hydra.run.dir={tmp_path}/e")
        scores = json.loads((tmp_path / "e/scores.json").read_text())
        assert scores["val/loss"] == pytest.approx(told, rel=1e-4)
    before = start.state_dict()["classifier.weight"]
    assert (one["model.classifier.weight"] - before).abs().max() > 1e-3
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-4, atol=1e-5, msg=name)


def test_describe_prints_the_published_numbers(tmp_path: Path) -> None:
    out = call("describe.py", tmp_path, "model=b0")
    assert "5,288,548" in out
    assert "0.386" in out
    assert "4 mbconv6 5x5 / 2 -> 192" in out
    out = call("describe.py", tmp_path, "model=lite0", "num_classes=10", "model.image_size=64")
    assert f"{4_652_008 - 990 * 1281:,}" in out  # 990 rows of 1280 weights and a bias less
    assert not list(tmp_path.iterdir())
