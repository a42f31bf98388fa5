"""The Lightning module: learning, resuming, and checkpoints that stand by themselves."""

import json
import re
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, ModelCheckpoint
from timm.optim import Lamb

from compound.errors import UserError
from compound.training.batch_norm import BatchNormSchedule
from compound.training.ema import Ema
from compound.training.optim import OptimRecipe
from efficientdet import load_model
from efficientdet.data.datamodule import DetectionData
from efficientdet.data.index import AnnotationIndex
from efficientdet.data.splits import voc_splits
from efficientdet.evaluation.evaluator import METRICS
from efficientdet.module import EfficientDetModule, to_source
from efficientdet.postprocess import Detections

SIZE = 64
SGD = OptimRecipe(
    partial(torch.optim.SGD, momentum=0.9),
    lr=0.08,
    base_batch_size=64,
    weight_decay=4e-5,
    warmup_epochs=1,
)


class StopAfter(Callback):
    """End the training early, as a crash or a time limit would."""

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        trainer.should_stop = trainer.current_epoch + 1 >= self.epochs


def data_of(splits: dict[str, AnnotationIndex], **changes: Any) -> DetectionData:
    arguments: dict[str, Any] = {
        "root": "",
        "read": lambda _: splits,
        "image_size": SIZE,
        "batch_size": 4,
        "seed": 0,
        "num_workers": 0,
        "scale": (0.8, 1.25),
    }
    return DetectionData(**(arguments | changes))


def module_of(data: DetectionData, name: str = "efficientdet_d0") -> EfficientDetModule:
    torch.manual_seed(0)
    model = {"name": name, "image_size": SIZE}
    return EfficientDetModule(model=model, class_names=data.class_names, optim=SGD, batch_size=4)


def trainer_in(
    folder: Path, epochs: int, *callbacks: Callback, precision: Any = "32-true"
) -> pl.Trainer:
    checkpoints = [
        ModelCheckpoint(folder / "checkpoints", "best", monitor="val/mAP", mode="max"),
        ModelCheckpoint(folder / "checkpoints", "last"),
    ]
    return pl.Trainer(
        default_root_dir=folder,
        max_epochs=epochs,
        accelerator="cpu",
        precision=precision,
        gradient_clip_val=10.0,
        callbacks=[*callbacks, BatchNormSchedule(freeze_from=0.6), Ema(0.9998), *checkpoints],
        logger=False,
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )


@pytest.mark.train
@pytest.mark.parametrize("num_workers", [0, 1])  # a worker prefetches, maybe of a wrong epoch
def test_resumed_run_ends_like_one_that_never_stopped(
    shapes: dict[str, AnnotationIndex], tmp_path: Path, num_workers: int
) -> None:
    def fit(folder: str, *callbacks: Callback, ckpt_path: Path | None = None) -> dict[str, Any]:
        data = data_of(shapes, num_workers=num_workers)
        module = module_of(data, "efficientdet_d1")  # with stochastic depth, unlike D0
        trainer = trainer_in(tmp_path / folder, 2, *callbacks)
        trainer.fit(module, datamodule=data, ckpt_path=ckpt_path)
        last = tmp_path / folder / "checkpoints" / "last.ckpt"
        return torch.load(last, weights_only=True)

    whole = fit("whole")
    half = fit("half", StopAfter(1))
    resumed = fit("resumed", ckpt_path=tmp_path / "half" / "checkpoints" / "last.ckpt")
    assert half["epoch"] == 0
    assert resumed["global_step"] == whole["global_step"] == 8
    for key in ("state_dict", "current_model_state"):  # the average, and the raw weights
        assert all(torch.equal(value, resumed[key][name]) for name, value in whole[key].items())
        assert any(not torch.equal(value, half[key][name]) for name, value in whole[key].items())


@pytest.mark.train
def test_checkpoint_rebuilds_the_model_alone(
    shapes: dict[str, AnnotationIndex], tmp_path: Path
) -> None:
    data = data_of(shapes)
    module = module_of(data)
    trainer_in(tmp_path, 1).fit(module, datamodule=data)
    path = tmp_path / "checkpoints" / "best.ckpt"
    saved = torch.load(path, weights_only=True)["hyper_parameters"]
    assert saved["class_names"] == list(data.class_names)
    model = load_model(path)
    model.to(memory_format=torch.channels_last)  # as the module's is: layouts round differently
    assert model.class_names == data.class_names
    images = next(iter(data.val_dataloader())).images
    # After the training the module holds the averaged weights, as the checkpoint does.
    ours, theirs = module.eval().model.predict(images), model.eval().predict(images)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a.scores, b.scores)
    assert json.loads((tmp_path / "predictions.json").read_text())[0].keys() == {
        "image_id", "category_id", "bbox", "score",
    }  # fmt: skip


class Watch(Callback):
    """Note each step's learning rate and the norm of all gradients that it used."""

    def __init__(self) -> None:
        self.rates: list[float] = []
        self.norms: list[float] = []

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx % trainer.accumulate_grad_batches == 0:
            self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        if (batch_idx + 1) % trainer.accumulate_grad_batches == 0:
            grads = [p.grad.flatten() for p in pl_module.parameters() if p.grad is not None]
            self.norms.append(torch.linalg.vector_norm(torch.cat(grads)).item())


@pytest.mark.train
def test_rate_follows_the_batch_and_gradients_are_clipped(
    shapes: dict[str, AnnotationIndex], tmp_path: Path
) -> None:
    data, watch = data_of(shapes), Watch()
    module = EfficientDetModule(
        model={"name": "efficientdet_d0", "image_size": SIZE},
        class_names=data.class_names,
        optim=SGD,
        batch_size=4,
        loss={"box_weight": 1e6},  # gradients that need clipping
    )
    trainer = trainer_in(tmp_path, 5, watch)
    trainer.accumulate_grad_batches = 2
    trainer.fit(module, datamodule=data)
    # 16 pictures, 4 a batch, 2 batches a step: 10 steps; an epoch of warm-up, at most a tenth.
    peak = 0.08 * 8 / 64
    assert len(watch.rates) == 10
    assert watch.rates[:2] == pytest.approx([0.1 * peak, peak])
    assert watch.rates[1:] == sorted(watch.rates[1:], reverse=True)
    assert watch.rates[-1] < 0.1 * peak
    assert max(watch.norms) == pytest.approx(10.0, rel=1e-3)


def test_too_many_unreadable_pictures_stop_the_run(
    shapes: dict[str, AnnotationIndex], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("compound.training.unreadable.MAX_UNREADABLE", 1)
    data = data_of(shapes)
    module = module_of(data)
    batch = next(iter(data.val_dataloader()))._replace(unreadable=["a.jpg cannot be decoded"])
    module.log = lambda *_, **__: None  # type: ignore[method-assign]
    module.training_step(batch, 0)
    with pytest.raises(UserError, match=r"over 1 .* a\.jpg cannot be decoded"):
        module.training_step(batch._replace(unreadable=["b.jpg"]), 1)


def test_one_batch_is_learnt_by_heart(shapes: dict[str, AnnotationIndex]) -> None:
    data = data_of(shapes, scale=(1.0, 1.0))
    module = module_of(data)
    batch = next(iter(data.val_dataloader()))
    optimizer = torch.optim.AdamW(module.parameters(), 2e-3)
    module.log = lambda *_, **__: None  # type: ignore[method-assign]
    losses = []
    for _ in range(40):
        loss = module.training_step(batch, 0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.25 * losses[0]


@pytest.mark.train
def test_broken_validation_picture_is_refused_before_the_training(
    shapes: dict[str, AnnotationIndex], tmp_path: Path
) -> None:
    index = shapes["val"]
    shutil.copytree(index.image_dir, tmp_path / "pictures")
    broken = tmp_path / "pictures" / str(index.file_names[2])
    broken.write_bytes(b"not a picture")
    data = data_of(shapes | {"val": replace(index, image_dir=tmp_path / "pictures")})
    trainer, module = trainer_in(tmp_path, 1), module_of(data)
    with pytest.raises(UserError, match=str(broken)):
        trainer.fit(module, datamodule=data)
    assert trainer.global_step == 0
    # One that breaks later stops the validation.
    with pytest.raises(UserError, match=str(broken)):
        module.validation_step(next(iter(data.val_dataloader())), 0)


@pytest.mark.train
def test_broken_training_picture_is_listed_at_the_end(
    shapes: dict[str, AnnotationIndex], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    index = shapes["train"]
    shutil.copytree(index.image_dir, tmp_path / "pictures")
    broken = tmp_path / "pictures" / str(index.file_names[2])
    broken.write_bytes(b"not a picture")
    data = data_of(shapes | {"train": replace(index, image_dir=tmp_path / "pictures")})
    trainer_in(tmp_path, 2).fit(module_of(data), datamodule=data)
    assert caplog.text.count(str(broken)) == 1
    assert "1 training pictures could not be used" in caplog.text


def test_detections_go_back_to_the_original_picture(shapes: dict[str, AnnotationIndex]) -> None:
    batch = next(iter(data_of(shapes).val_dataloader()))
    batch = batch._replace(images=batch.images[:1], source_sizes=torch.tensor([[100, 256]]))
    # 256 x 100 was shrunk by 4 to fit 64; what reaches below the picture is cut at 100.
    boxes = torch.tensor([[4.0, 8.0, 16.0, 40.0]])
    found = Detections(boxes, torch.ones(1), torch.zeros(1, dtype=torch.long))
    (moved,) = to_source([found], batch)
    assert moved.boxes_xyxy.tolist() == [[16.0, 32.0, 64.0, 100.0]]
    # 427 high and 640 wide: both sides shrank by 10, though 42.7 rows became 42.
    batch = batch._replace(source_sizes=torch.tensor([[427, 640]]))
    (moved,) = to_source([found], batch)
    assert moved.boxes_xyxy.flatten().tolist() == pytest.approx([40.0, 80.0, 160.0, 400.0])


def test_the_parts_of_a_prediction_are_the_prediction(
    shapes: dict[str, AnnotationIndex],
) -> None:
    data = data_of(shapes)
    module = module_of(data).eval()
    module.predict_settings = {"score_threshold": 0.005, "method": "fast", "flip": False}
    images = next(iter(data.val_dataloader())).images
    with torch.no_grad():
        parts = module.postprocess(module(images), images)
    whole = module.model.predict(images, score_threshold=0.005, method="fast", max_detections=100)
    assert sum(len(found.scores) for found in whole) > 0
    for ours, theirs in zip(parts, whole, strict=True):
        assert all(map(torch.equal, ours, theirs))
    module.predict_settings = {"scales": [1.0, 1.5]}
    with pytest.raises(UserError, match=r"task.predict.scales=.*only without test-time"):
        module.postprocess(module(images), images)


def test_the_parts_of_a_step_are_the_step(shapes: dict[str, AnnotationIndex]) -> None:
    data = data_of(shapes)
    module = module_of(data)
    logged: dict[str, float] = {}
    module.log = lambda name, value, **_: logged.update({name: value.item()})  # type: ignore
    batch = next(iter(data.train_dataloader()))
    loss = module.training_step(batch, 0)
    losses = module.losses(*module.train_outputs(batch))
    assert torch.equal(loss, losses["loss"])
    # 50 is the official weight of the boxes.
    torch.testing.assert_close(loss, losses["loss_class"] + 50 * losses["loss_box"])
    assert logged == {f"train/{name}": value.item() for name, value in losses.items()}
    (1e6 * loss).backward()
    module.clip(0.5)
    norms = torch.stack([p.grad.norm() for p in module.parameters() if p.grad is not None])
    assert norms.norm().item() == pytest.approx(0.5, rel=1e-3)
    # Each was clipped to 0.5 before all were: none outweighs the others.
    assert norms.max() < 0.25


def test_mistakes_are_told_before_the_training(shapes: dict[str, AnnotationIndex]) -> None:
    names = data_of(shapes).class_names
    for settings, message in (
        ({"predict": {"method": "softt"}}, "task.predict.method 'softt' is unknown; did you mean"),
        ({"predict": {"scales": []}}, "task.predict.scales="),
        ({"predict": {"nms_iou": 2}}, "task.predict.nms_iou=2: expected a share"),
        ({"predict": {"nmsiou": 0.5}}, "setting of task.predict 'nmsiou' is unknown; did you"),
        ({"predict": {"max_detections": 50}}, "'max_detections' is unknown"),
        ({"predict": {"sigma": 0}}, "task.predict.sigma=0: expected a number above 0"),
        ({"predict": {"score_threshold": None}}, "score_threshold=None: expected a share"),
        ({"predict": {"scales": ["a"]}}, "expected factors above 0"),
        ({"predict": {"method": None}}, "task.predict.method 'None' is unknown"),
        ({"recompute": ["fpn"]}, "part to recompute 'fpn' is unknown; did you mean bifpn"),
        ({"model": {"name": "efficientdet_d0", "backbone": "timm/resnet18"},
          "recompute": ["backbone"]}, "only EfficientNets can"),
        ({"evaluation": {"max_detections": 0}}, "max_detections"),
    ):  # fmt: skip
        arguments = {"model": {"name": "efficientdet_d0"}} | settings
        with pytest.raises(UserError, match=message):
            EfficientDetModule(**arguments, class_names=names, optim=SGD, batch_size=4)


@pytest.mark.train
def test_frozen_parts_stay_as_they_are(shapes: dict[str, AnnotationIndex], tmp_path: Path) -> None:
    data = data_of(shapes)
    module = EfficientDetModule(
        model={"name": "efficientdet_d0", "image_size": SIZE},
        class_names=data.class_names,
        optim=SGD,
        batch_size=4,
        freeze=["pyramid.stages.0-5", "bifpn.cells.*.nodes.0"],
    )
    before = {name: value.clone() for name, value in module.model.state_dict().items()}
    trainer_in(tmp_path, 1).fit(module, datamodule=data)
    frozen = r"pyramid\.stages\.[0-5]\.|bifpn\.cells\.\d\.nodes\.0\."
    for name, value in module.model.state_dict().items():
        if re.match(frozen, name):
            assert torch.equal(value, before[name]), name
        elif name.endswith(("running_mean", "pointwise.weight")):
            assert not torch.equal(value, before[name]), name


@pytest.mark.train
def test_bf16_learns_as_32_bits_do(shapes: dict[str, AnnotationIndex], tmp_path: Path) -> None:
    losses = []
    for precision in ("32-true", "bf16-mixed"):
        data = data_of(shapes)
        trainer = trainer_in(tmp_path / precision, 2, precision=precision)
        trainer.fit(module_of(data), datamodule=data)
        losses.append(float(trainer.callback_metrics["train/loss"]))
    assert losses[1] == pytest.approx(losses[0], rel=0.1)
    assert losses[1] != losses[0]


@pytest.mark.train
def test_padding_is_what_the_network_takes_for_nothing(
    shapes: dict[str, AnnotationIndex], tmp_path: Path
) -> None:
    data = data_of(shapes, image_size=(64, 96))
    module = module_of(data, "efficientdet_lite0")
    trainer_in(tmp_path, 1).validate(module, datamodule=data, verbose=False)
    images = next(iter(data.val_dataloader())).images
    assert (images[..., 64:] == 127).all()  # Lite's mean; the pictures are 64 x 64
    assert not (images[..., :64] == 127).all()


@pytest.mark.train
@pytest.mark.real
def test_short_training_on_blood_cells(compound_data: Path, tmp_path: Path) -> None:
    root = compound_data / "data/bccd"
    data = DetectionData(
        root=str(root), read=voc_splits, image_size=128, batch_size=4, seed=0, scale=(0.9, 1.1)
    )
    torch.manual_seed(0)
    module = EfficientDetModule(
        model={"name": "efficientdet_d0", "image_size": 128},
        class_names=data.class_names,
        optim=OptimRecipe(
            partial(Lamb, betas=(0.9, 0.98)),
            lr=1e-2,
            base_batch_size=4,
            weight_decay=0.05,
            warmup_epochs=1,
        ),
        batch_size=4,
    )
    trainer = trainer_in(tmp_path, 6)
    trainer.fit(module, datamodule=data)
    assert set(METRICS) == {k.removeprefix("val/") for k in trainer.callback_metrics if "val/" in k}
    assert trainer.callback_metrics["val/AP50"] > 0.05
