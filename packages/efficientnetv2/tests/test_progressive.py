"""The callback: what a training sees and does, step by step, over all its stages."""

import logging
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger

from backbone.data.module import ClassificationData
from backbone.data.shapes import shapes_splits
from backbone.errors import UserError
from backbone.module import EfficientNetModule
from backbone.train.batch_norm import BatchNormSchedule
from backbone.train.clock import epochs_done
from backbone.train.ema import Ema
from backbone.train.optim import OptimRecipe
from backbone.train.resume import check_resumable
from backbone.train.schedule import warmup_cosine
from efficientnetv2 import create_model
from efficientnetv2.module import EfficientNetV2Module
from efficientnetv2.progressive import ProgressiveLearning

OPTIM = OptimRecipe(
    partial(torch.optim.SGD, momentum=0.9),
    lr=0.01,
    base_batch_size=4,
    weight_decay=0,
    warmup_epochs=0,
    schedule=warmup_cosine,
)


class Diary(Callback):
    """Note what each step sees, and with what it learns."""

    def __init__(self) -> None:
        self.steps: list[tuple[Any, ...]] = []
        self.loaders: list[int] = []

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.loaders.append(id(trainer.train_dataloader))

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        alpha = pl_module.mix.mixup_alpha if pl_module.mix else 0.0
        self.steps.append((*batch.images.shape[::3], alpha, pl_module.model.dropout.p))


class Rates(Callback):
    """Note the learning rate of each step, and the time before it."""

    def __init__(self) -> None:
        self.rates: list[float] = []
        self.times: list[float] = []

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])
        self.times.append(trainer.current_epoch + batch_idx / int(trainer.num_training_batches))

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        expected = trainer.current_epoch + (batch_idx + 1) / int(trainer.num_training_batches)
        assert epochs_done(trainer) == expected


class StopAfter(Callback):
    """End the training early, as a crash or a time limit would."""

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        trainer.should_stop = trainer.current_epoch + 1 >= self.epochs


def data_of(**changes: Any) -> ClassificationData:
    arguments: dict[str, Any] = {
        "root": None,
        "read": partial(shapes_splits, num_train=16, num_val=4, picture_size=64, seed=0),
        "image_size": 64,
        "batch_size": 4,
        "seed": 0,
        "num_workers": 2,
        "policy": "rand-m10-n2",
    }
    return ClassificationData(**(arguments | changes))


def module_of(data: ClassificationData, **changes: Any) -> EfficientNetV2Module:
    torch.manual_seed(0)
    arguments: dict[str, Any] = {
        "model": partial(create_model, "efficientnetv2_b0", dropout=0.4),
        "class_names": data.class_names,
        "optim": OPTIM,
        "batch_size": data.batch_size,
        "mixup": 0.6,
    }
    return EfficientNetV2Module(**(arguments | changes))


def fit(
    folder: Path,
    data: Any,
    module: pl.LightningModule,
    *callbacks: Callback,
    epochs: int,
    ckpt_path: Path | None = None,
    **changes: Any,
) -> pl.Trainer:
    trainer = pl.Trainer(
        default_root_dir=folder,
        max_epochs=epochs,
        accelerator="cpu",
        callbacks=[*callbacks, BatchNormSchedule(), Ema(0.999), ModelCheckpoint(folder, "last")],
        num_sanity_val_steps=0,
        limit_val_batches=0,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        **({"logger": False} | changes),
    )
    trainer.fit(module, datamodule=data, ckpt_path=ckpt_path)
    return trainer


def test_every_step_is_of_its_stage(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data, diary = data_of(), Diary()
    stages = ProgressiveLearning(interpolation="paper", stages=3, first_size=32)
    logger = CSVLogger(tmp_path, name="", version="")
    with caplog.at_level(logging.INFO):
        fit(
            tmp_path,
            data,
            module_of(data),
            stages,
            diary,
            epochs=4,
            logger=logger,
            log_every_n_steps=1,
        )
    # 16 steps of 4 pictures; stages end at int(16 / 3) and int(32 / 3), amid epochs 2 and 3,
    # although two workers have read ahead. Sizes 32, 48, 64; alpha 0, .3, .6; dropout .1, .25, .4.
    first, second, third = ((4, 32, 0.0, 0.1), (4, 48, 0.3, 0.25), (4, 64, 0.6, 0.4))
    assert diary.steps == [first] * 5 + [second] * 5 + [third] * 6
    assert len(set(diary.loaders)) == 1  # with the workers it had
    assert [r.getMessage() for r in caplog.records if r.getMessage().startswith("stage ")] == [
        "stage 1 of 3: image size 32, magnitude 5, mixup 0, dropout 0.1",
        "stage 2 of 3: image size 48, magnitude 7.5, mixup 0.3, dropout 0.25",
        "stage 3 of 3: image size 64, magnitude 10, mixup 0.6, dropout 0.4",
    ]
    logged = (tmp_path / "metrics.csv").read_text()
    assert "progressive/image_size" in logged.splitlines()[0]


def test_magnitude_reaches_the_pictures() -> None:
    data = data_of(num_workers=0)
    ProgressiveLearning().prepare(module_of(data), data, 4)
    assert data.progression is not None
    found = [
        data.training_set(stage).transform.policy.ops[0].magnitude  # pyright: ignore
        for stage in data.progression.stages
    ]
    assert found == pytest.approx([5, 6.667, 8.333, 10], abs=1e-3)


def test_resumed_in_a_stage_it_ends_like_one_that_never_stopped(tmp_path: Path) -> None:
    def run(folder: str, *more: Callback, ckpt_path: Path | None = None) -> Diary:
        data, diary = data_of(), Diary()
        stages = ProgressiveLearning(stages=2, first_size=32)
        trained = (tmp_path / folder, data, module_of(data), stages, diary, *more)
        fit(*trained, epochs=6, ckpt_path=ckpt_path)
        return diary

    whole = run("whole")
    begun = run("begun", StopAfter(4))  # the second stage of two began with the fourth epoch
    resumed = run("resumed", ckpt_path=tmp_path / "begun" / "last.ckpt")
    assert begun.steps + resumed.steps == whole.steps
    # Official sizes, (i + 1) / 2 of the way from 32 to 64.
    assert [step[1] for step in whole.steps] == [48] * 12 + [64] * 12
    one, other = (
        torch.load(tmp_path / name / "last.ckpt", weights_only=True)["state_dict"]
        for name in ("whole", "resumed")
    )
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_batches_and_rate_grow_as_pictures_shrink(tmp_path: Path) -> None:
    data, diary, rates = data_of(num_workers=1), Diary(), Rates()
    stages = ProgressiveLearning(
        interpolation="paper", stages=2, first_size=32, batch="constant_memory"
    )
    fit(tmp_path, data, module_of(data), stages, diary, rates, epochs=4)
    # 4 * 64**2 / 32**2 = 16 pictures a step, all of an epoch, for two epochs; then 4 steps of 4.
    assert [step[:2] for step in diary.steps] == [(16, 32)] * 2 + [(4, 64)] * 8
    assert len(set(diary.loaders)) == 2  # new ones at the border alone
    assert rates.times == [0, 1, 2, 2.25, 2.5, 2.75, 3, 3.25, 3.5, 3.75]
    growth = [4.0] * 2 + [1.0] * 8
    expected = [
        0.01 * factor * warmup_cosine(time, epochs=4, warmup=0)
        for factor, time in zip(growth, rates.times, strict=True)
    ]
    assert rates.rates == pytest.approx(expected)


def test_a_recipe_without_stages_for_its_module_shows_growing_pictures(tmp_path: Path) -> None:
    data, diary = data_of(), Diary()
    module = EfficientNetModule(
        model=partial(create_model, "efficientnetv2_b0", dropout=0.4),
        class_names=data.class_names,
        optim=OPTIM,
        batch_size=4,
    )
    fit(tmp_path, data, module, ProgressiveLearning(stages=2, first_size=32), diary, epochs=2)
    assert diary.steps == [(4, 48, 0.0, 0.4)] * 4 + [(4, 64, 0.0, 0.4)] * 4


def test_other_stages_are_not_gone_on_with(tmp_path: Path) -> None:
    data = data_of(num_workers=0)
    module = module_of(data)
    fit(tmp_path, data, module, ProgressiveLearning(stages=2), StopAfter(1), epochs=2)
    last = tmp_path / "last.ckpt"
    same, other = data_of(), data_of()
    ProgressiveLearning(stages=2).prepare(module, same, 2)
    check_resumable(last, module, max_epochs=2, progression=same.progression)
    ProgressiveLearning(stages=2).prepare(module, other, 4)
    # From 43 = round(64 * 2 / 3): (i + 1) / 2 of the way to 64.
    told = r"in stages \(image size until epoch: 53 until 1, 64 until 2\), and this training is "
    with pytest.raises(UserError, match=told + r"in stages .*53 until 2, 64 until 4"):
        check_resumable(last, module, max_epochs=4, progression=other.progression)
    with pytest.raises(UserError, match=told + "without progressive stages"):
        check_resumable(last, module, max_epochs=2)


@pytest.mark.parametrize(
    ("settings", "max_epochs", "message"),
    [
        ({"interpolation": "papper"}, 8, "interpolation 'papper' is unknown; did you mean paper"),
        ({"borders": "days"}, 8, "borders 'days' is unknown"),
        ({"batch": "constant_memry"}, 8, "did you mean constant_memory"),
        ({"stages": 0}, 8, "stages=0: expected a whole number"),
        ({"stages": 2.5}, 8, "stages=2.5: expected a whole number"),
        ({"stages": 9}, 8, "9 stages do not fit into 8 epochs"),
        ({}, -1, "set trainer.max_epochs"),
        ({"first_size": 80}, 8, "first_size=80: expected 32 pixels.* to 64, which the stages"),
        ({"first_size": 16}, 8, "first_size=16: expected 32 pixels, the least"),
        ({"first_magnitude": -1}, 8, "first_magnitude=-1"),
        ({"first_dropout": 1.0}, 8, "first_dropout=1.0"),
    ],
)
def test_schedules_that_lead_nowhere(
    settings: dict[str, Any], max_epochs: int, message: str
) -> None:
    data = data_of(num_workers=0)
    with pytest.raises(UserError, match=message):
        ProgressiveLearning(**settings).prepare(module_of(data), data, max_epochs)
