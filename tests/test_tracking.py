"""What runs leave with their trackers, read back by the trackers' own readers."""

import csv
import json
import subprocess
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger
from started import run_alone
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from wandb.util import get_core_path

from backbone import create_model
from backbone.classification.data.datamodule import ClassificationData
from backbone.classification.data.figures import shapes_splits
from backbone.classification.media import ClassifierMedia
from backbone.classification.module import EfficientNetModule
from compound.tracking.monitor import Vitals
from compound.tracking.trackers import WANDB_RUN, FailSafe, wandb_logger
from compound.tracking.wandb_run import WandbRun
from compound.training.optim import OptimRecipe

pytestmark = pytest.mark.tool

DETECTOR = (
    "task=det",
    "data.read.num_train=8",
    "data.read.num_val=6",
    "data.read.picture_size=64",
    "model.image_size=64",
    "data.batch_size=4",
    "data.num_workers=0",
    "trainer.max_epochs=2",
    "trainer.accelerator=cpu",
    "trainer.log_every_n_steps=1",
    "trainer.check_val_every_n_epoch=1",
    "callbacks.media.every_n_epochs=1",
    "callbacks.media.num_pictures=3",
    "logger=[wandb,tensorboard]",
    "report=false",
)
VITALS = {"optim/lr", "optim/grad_norm", "speed/images_per_second", "memory/peak_gib"}


def train(folder: Path, run: str, *arguments: str) -> Path:
    places = (f"hydra.run.dir={folder / run}", f"paths.cache_dir={folder / 'cache'}")
    done = run_alone("train.py", folder, *DETECTOR, *arguments, *places)
    assert done.returncode == 0, done.stderr
    assert "is off for the rest of this run" not in done.stdout + done.stderr
    return folder / run


def inspect(run: Path, *arguments: str) -> str:
    """Return what `wandb leet inspect` reads in an offline run, without its seconds of imports."""
    (file,) = run.glob("wandb/offline-run-*/run-*.wandb")
    command = [get_core_path(), "leet", "inspect", "--no-observability", "--json", *arguments,
               "--run-file", str(file), str(run / "wandb")]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@cache
def records(run: Path, kind: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in inspect(run).splitlines()]
    return [record[kind] for record in found if record["type"] == kind]


def history(run: Path, key: str) -> list[Any]:
    """Return the values that were logged under a key; of media what W&B writes of them."""
    rows = [record["item"] for record in records(run, "history")]
    scalars = [row[key] for row in rows if key in row]
    start = f"{key}."
    parts = [{k.removeprefix(start): v for k, v in row.items() if k.startswith(start)}
             for row in rows]  # fmt: skip
    return scalars or [part for part in parts if part]


def media(run: Path, path: str) -> Any:
    (file,) = run.glob(f"wandb/offline-run-*/files/{path}")
    return json.loads(file.read_text())


def artifacts(run: Path, kind: str) -> dict[str, dict[str, Any]]:
    """Return the artifacts of a type by their aliases."""
    found = [record for record in records(run, "artifact") if record["type"] == kind]
    return {" ".join(sorted({*record["aliases"]} - {"latest"})): record for record in found}


def columns(run: Path) -> dict[str, list[float]]:
    """Return what is in ``metrics.csv``."""
    found: dict[str, list[float]] = {}
    for row in csv.DictReader((run / "metrics.csv").read_text().splitlines()):
        for name, cell in row.items():
            if cell:
                found.setdefault(name, []).append(float(cell))
    return found


def tensorboard(run: Path) -> EventAccumulator:
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    return events


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("detector"), "run")


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train in this process, which has PyTorch already."""
    folder = tmp_path_factory.mktemp("classifier")
    read = partial(shapes_splits, num_train=16, num_val=14, picture_size=32, seed=0)
    sizes = {"image_size": 32, "batch_size": 4, "num_workers": 0}
    data = ClassificationData(root=None, read=read, seed=0, **sizes)
    recipe = OptimRecipe(torch.optim.SGD, lr=0.1, base_batch_size=4, weight_decay=0.0,
                         warmup_epochs=0)  # fmt: skip
    module = EfficientNetModule(
        model=partial(create_model, "efficientnet_b0", image_size=32),
        class_names=data.class_names,
        optim=recipe,
        batch_size=4,
    )
    wandb = wandb_logger(save_dir=str(folder), project="p", name="n", mode="offline")
    board = TensorBoardLogger(folder, name="tensorboard", version="")
    best = {"filename": "best", "monitor": "val/top1", "mode": "max"}
    trainer = pl.Trainer(
        default_root_dir=folder,
        max_epochs=2,
        accelerator="cpu",
        logger=[CSVLogger(folder, name="", version=""), FailSafe(wandb), FailSafe(board)],
        callbacks=[
            Vitals(),
            WandbRun(dataset="figures", root=None),
            ClassifierMedia(every_n_epochs=1, num_pictures=16),
            ModelCheckpoint(folder / "checkpoints", **best),
            ModelCheckpoint(folder / "checkpoints", "last"),
        ],
        log_every_n_steps=1,
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    trainer.fit(module, datamodule=data)
    wandb.experiment.finish()
    return folder


def test_every_tracker_has_the_same_scalars(detector: Path) -> None:
    known = columns(detector)
    assert VITALS | {"train/loss_box", "val/mAP", "speed/val_seconds"} <= known.keys()
    events = tensorboard(detector)
    for name, values in known.items():
        if "/" in name and not name.endswith(("APl", "ARl")):  # no objects as large as that: nan
            assert history(detector, name) == pytest.approx(values, rel=1e-6)
            assert [e.value for e in events.Scalars(name)] == pytest.approx(values, rel=1e-5)
    assert len(known["optim/grad_norm"]) == 4


def test_the_summary_holds_the_best_values(detector: Path) -> None:
    known = columns(detector)
    summary = json.loads(inspect(detector, "--summary"))["summary"]
    for name, best in (("val/mAP", max), ("val/AP50", max), ("train/loss", min),
                       ("train/loss_box", min), ("memory/peak_gib", max)):  # fmt: skip
        found, values = summary[name], known[name]
        assert found[best.__name__] == pytest.approx(best(values), rel=1e-6)
        assert found["last"] == pytest.approx(values[-1], rel=1e-6)
    speeds = known["speed/images_per_second"]
    assert summary["speed/images_per_second"]["mean"] == pytest.approx(sum(speeds) / len(speeds))
    # What is defined by name keeps Lightning's x axis.
    defined = {m["name"]: m for m in records(detector, "metric") if "name" in m}
    assert defined["val/mAP"]["step_metric"] == "trainer/global_step"


def test_the_same_pictures_have_boxes_to_filter(detector: Path) -> None:
    first, second = history(detector, "val/pictures")
    assert len(first["captions"]) == 3
    assert first["captions"] == second["captions"]
    labels = {str(i): name for i, name in enumerate(("circle", "cross", "heart", "ring", "square",
                                                     "star", "triangle"))}  # fmt: skip
    updates = [record["update"].get("_wandb", {}) for record in records(detector, "config")]
    filters = [update for update in updates if update][-1]["bounding_box/class_labels"]
    for layer in ("ground_truth", "predictions"):
        assert filters[f"val/pictures_wandb_delimeter_{layer}"]["value"] == labels
    for layers in first["all_boxes"]:
        truth = media(detector, layers["ground_truth"]["path"])["box_data"]
        assert truth
        assert all("scores" not in box and str(box["class_id"]) in labels for box in truth)
    found = [
        box
        for shown in (first, second)
        for layers in shown["all_boxes"]
        for box in media(detector, layers["predictions"]["path"])["box_data"]
    ]
    assert found
    assert all(0.1 <= box["scores"]["score"] <= 1 for box in found)
    assert all(0 <= side <= 64 for box in found for side in box["position"].values())
    images = tensorboard(detector).Images("val/pictures")
    assert [(image.width, image.height) for image in images] == [(3 * 2 * 64, 64)] * 2


def test_classes_are_those_of_the_best_validation(detector: Path) -> None:
    known = columns(detector)
    (logged,) = history(detector, "val/per_class")
    table = media(detector, logged["path"])
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    saved = list(csv.DictReader((detector / "class_ap.csv").read_text().splitlines()))
    assert [row["name"] for row in rows] == [row["class"] for row in saved]
    for row, line in zip(rows, saved, strict=True):
        assert row["ap"] == (pytest.approx(float(line["AP"]), abs=1e-6) if line["AP"] else None)
    (logged,) = history(detector, "val/precision_recall_table")
    points = media(detector, logged["path"])["data"]
    mean = [precision for name, _, precision in points if name == "all classes"]
    best = known["val/mAP"].index(max(known["val/mAP"]))
    assert sum(mean) / 101 == pytest.approx(known["val/AP50"][best], abs=1e-4)
    updates = {k: v for record in records(detector, "config") for k, v in record["update"].items()}
    panel = updates["_wandb.visualize.val/precision_recall"]["panel_config"]
    assert panel["panelDefId"] == "wandb/area-under-curve/v0"
    assert panel["fieldSettings"] == {"x": "recall", "y": "precision", "class": "class"}


def test_weights_and_data_are_traced(detector: Path) -> None:
    (run,) = records(detector, "run")[:1]
    weights = artifacts(detector, "model")
    assert {alias for aliases in weights for alias in aliases.split()} == {"best", "last"}
    known = columns(detector)
    for aliases, artifact in weights.items():
        assert artifact["name"] == f"efficientdet_d0-{run['run_id']}"
        (entry,) = artifact["manifest"]["contents"]
        alias = aliases.split()[0]
        # Uploaded from where it lies, not from a copy.
        assert Path(entry["local_path"]) == detector / "checkpoints" / f"{alias}.safetensors"
        content = torch.load(detector / f"checkpoints/{alias}.ckpt", weights_only=True)
        metadata = json.loads(artifact["metadata"])
        assert metadata["epoch"] == content["epoch"] + 1
        assert metadata["best val/mAP"] == pytest.approx(max(known["val/mAP"]))
        assert content[WANDB_RUN] == run["run_id"]

    (data,) = artifacts(detector, "dataset").values()
    assert data["name"] == "shapes-cache"
    assert data["use_after_commit"]
    assert data["user_created"]
    splits = json.loads(data["metadata"])["splits"]
    assert (splits["train"]["pictures"], splits["val"]["pictures"]) == (8, 6)
    entries = {entry["path"]: entry for entry in data["manifest"]["contents"]}
    assert set(entries) == {"dataset.json", "folder"}
    assert entries["folder"]["ref"] == f"folder://{detector.parent}/cache"
    assert "local_path" not in entries["folder"]
    described = json.loads(Path(entries["dataset.json"]["local_path"]).read_text())
    assert len(described["class_names"]) == 7


def test_a_resumed_training_is_the_same_run(detector: Path) -> None:
    last = detector / "checkpoints/last.ckpt"
    moved = detector.parent / "elsewhere.ckpt"
    moved.write_bytes(last.read_bytes())
    more = ("trainer.max_epochs=3", f"ckpt_path={moved}")
    resumed = train(detector.parent, "resumed", *more)
    (before,), (after,) = records(detector, "run")[:1], records(resumed, "run")[:1]
    assert after["run_id"] == before["run_id"]
    assert after["resume"]  # W&B's word for "allow": the upload goes on after what is there
    # 2 steps an epoch, 2 epochs before.
    assert history(resumed, "trainer/global_step")[0] == 4


@pytest.mark.train
def test_a_classifier_shows_confusions_and_classes(classifier: Path) -> None:
    known = columns(classifier)
    assert VITALS | {"val/top1", "val/loss", "speed/train_seconds"} <= known.keys()
    summary = json.loads(inspect(classifier, "--summary"))["summary"]
    assert summary["val/top1"]["max"] == pytest.approx(max(known["val/top1"]))
    assert summary["val/loss"]["min"] == pytest.approx(min(known["val/loss"]))

    (logged,) = history(classifier, "val/per_class")
    table = media(classifier, logged["path"])
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    assert [row["count"] for row in rows] == [2] * 7
    (logged,) = history(classifier, "val/confusion_matrix_table")
    cells = media(classifier, logged["path"])["data"]
    assert sum(count for _, _, count in cells) == 14
    right = sum(count for actual, predicted, count in cells if actual == predicted)
    assert right / 14 == pytest.approx(max(known["val/top1"]))
    assert sum(row["recall"] for row in rows) / 7 == pytest.approx(right / 14)

    assert [len(shown["captions"]) for shown in history(classifier, "val/worst")] == [14, 14]
    assert len(tensorboard(classifier).Images("val/worst")) == 2
    (data,) = artifacts(classifier, "dataset").values()
    assert data["name"] == "figures"
    assert {entry["path"] for entry in data["manifest"]["contents"]} == {"dataset.json"}
