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

from backbone.classification.data.datamodule import ClassificationData
from backbone.classification.data.figures import shapes_splits
from backbone.classification.module import EfficientNetModule
from compound.errors import UserError
from compound.training.batch_norm import BatchNormSchedule
from compound.training.ema import Ema
from compound.training.optim import OptimRecipe
from compound.training.resume import check_resumable
from compound.training.schedule import epochs_done, warmup_cosine
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


@pytest.mark.train
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
    ProgressiveLearning().prepare(module_of(data), data, max_epochs=4)
    assert data.progression is not None
    found = [
        data.training_set(stage).transform.policy.ops[0].magnitude  # pyright: ignore
        for stage in data.progression.stages
    ]
    assert found == pytest.approx([5, 6.667, 8.333, 10], abs=1e-3)


@pytest.mark.train
@pytest.mark.parametrize(("stop", "batch"), [(4, "constant"), (2, "constant_memory")])
def test_resumed_it_ends_like_one_that_never_stopped(tmp_path: Path, stop: int, batch: Any) -> None:
    """Within the second stage of two, which the fourth epoch begins; or at a change of loaders."""

    def run(folder: str, *more: Callback, ckpt_path: Path | None = None) -> Diary:
        data, diary = data_of(), Diary()
        stages = ProgressiveLearning(stages=2, first_size=32, batch=batch)
        trained = (tmp_path / folder, data, module_of(data), stages, diary, *more)
        fit(*trained, epochs=6, ckpt_path=ckpt_path)
        return diary

    whole = run("whole")
    begun = run("begun", StopAfter(stop))
    resumed = run("resumed", ckpt_path=tmp_path / "begun" / "last.ckpt")
    assert begun.steps + resumed.steps == whole.steps
    # Official sizes, (i + 1) / 2 of the way from 32 to 64; 4 * 64**2 / 48**2 = 7.1 pictures.
    small = 12 if batch == "constant" else 6
    assert [step[1] for step in whole.steps] == [48] * small + [64] * 12
    one, other = (
        torch.load(tmp_path / name / "last.ckpt", weights_only=True)["state_dict"]
        for name in ("whole", "resumed")
    )
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.train
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


@pytest.mark.train
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


@pytest.mark.train
def test_other_stages_are_not_gone_on_with(tmp_path: Path) -> None:
    data = data_of(num_workers=0)
    module = module_of(data)
    fit(tmp_path, data, module, ProgressiveLearning(stages=2), StopAfter(1), epochs=2)
    last = tmp_path / "last.ckpt"
    same, other = data_of(), data_of()
    ProgressiveLearning(stages=2).prepare(module, same, max_epochs=2)
    check_resumable(last, module, max_epochs=2, data=same)
    ProgressiveLearning(stages=2).prepare(module, other, max_epochs=4)
    told = r"was trained in other stages \(ends 1, 2\) than this training's \(ends 2, 4\)"
    with pytest.raises(UserError, match=told):
        check_resumable(last, module, max_epochs=4, data=other)
    stronger = data_of(batch_size=2)
    # From 43 = round(64 * 2 / 3) to 64: official sizes 53 and 64, now 54 = 45 + 19 / 2.
    ProgressiveLearning(stages=2, first_size=45).prepare(module, stronger, max_epochs=2)
    told = r"\(image size 53, 64; batch size 4, 4\) than this training's \(image size 54, 64; batch"
    with pytest.raises(UserError, match=told):
        check_resumable(last, module, max_epochs=2, data=stronger)
    with pytest.raises(UserError, match="with progressive stages, and this training is without"):
        check_resumable(last, module, max_epochs=2, data=data_of())


@pytest.mark.parametrize(
    ("settings", "max_epochs", "message"),
    [
        ({"interpolation": "papper"}, 8, "interpolation 'papper' is unknown; did you mean paper"),
        ({"borders": "days"}, 8, "borders 'days' is unknown"),
        ({"batch": "constant_memry"}, 8, "did you mean constant_memory"),
        ({"stages": 0}, 8, "stages=0: expected a whole number"),
        ({"stages": 2.5}, 8, "stages=2.5: expected a whole number"),
        ({"stages": 9}, 8, "9 stages do not fit into 8 epochs"),
        ({}, -1, "stages are parts of trainer.max_epochs"),
        ({"first_size": "abc"}, 8, "first_size=abc: expected a whole number"),
        ({"first_size": 0}, 8, "first_size=0: expected a whole number"),
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
        ProgressiveLearning(**settings).prepare(module_of(data), data, max_epochs=max_epochs)


def test_trainings_that_stages_do_not_fit() -> None:
    data, tiny = data_of(num_workers=0), data_of(num_workers=0, train_size=24)
    module = module_of(data)
    with pytest.raises(UserError, match=r"set that and no trainer\.max_steps"):
        ProgressiveLearning().prepare(module, data, max_epochs=8, max_steps=100)
    with pytest.raises(UserError, match="pictures of 24 pixels are too small for this network"):
        ProgressiveLearning().prepare(module, tiny, max_epochs=8)
    # 8 * 64**2 / 36**2 = 25 of 16 pictures
    large = data_of(num_workers=0, batch_size=8)
    grows = ProgressiveLearning(batch="constant_memory", first_size=32, interpolation="paper")
    with pytest.raises(UserError, match="batches would hold 32 of 16 training pictures"):
        grows.prepare(module, large, max_epochs=8)


def test_small_pictures_start_at_what_the_network_takes() -> None:
    data = data_of(num_workers=0, train_size=40)
    ProgressiveLearning(interpolation="paper", stages=2).prepare(
        module_of(data), data, max_epochs=8
    )
    assert data.progression is not None
    assert [stage.image_size for stage in data.progression.stages] == [32, 40]  # not 27


@pytest.mark.train
def test_pictures_that_cannot_grow_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for size, count in ((32, 1), (40, 0)):
        caplog.clear()
        data = data_of(num_workers=0, train_size=size)
        fit(tmp_path, data, module_of(data), ProgressiveLearning(stages=2), epochs=2)
        assert caplog.text.count("pictures do not grow: the network takes 32 pixels") == count


@pytest.mark.train
def test_norms_stand_still_within_the_last_stage() -> None:
    class Norms(Callback):
        def __init__(self) -> None:
            self.learning: list[bool] = []

        def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
            self.learning.append(pl_module.model.head.norm.training)

    data, norms = data_of(num_workers=0), Norms()
    module = module_of(data)
    module.model.head.norm.running_mean.fill_(1.0)  # as if it came with weights
    trainer = pl.Trainer(
        max_epochs=4,
        accelerator="cpu",
        callbacks=[ProgressiveLearning(stages=2), BatchNormSchedule(freeze_from=0.5), norms],
        logger=False,
        limit_val_batches=0,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    trainer.fit(module, datamodule=data)
    # The second stage is epochs 3 and 4, of 4 batches each; half of it is over after 12.
    assert norms.learning == [True] * 12 + [False] * 4


@pytest.mark.train
def test_stages_are_shares_of_what_is_trained_with(tmp_path: Path) -> None:
    data, diary, rates = data_of(num_workers=0), Diary(), Rates()
    stages = ProgressiveLearning(stages=4, first_size=32, interpolation="paper")
    limited = {"limit_train_batches": 2, "accumulate_grad_batches": 2}
    fit(tmp_path, data, module_of(data), stages, diary, rates, epochs=6, **limited)
    # 12 batches of two an epoch: 3 a stage, the second from the middle of an epoch on.
    assert [step[1] for step in diary.steps] == [32] * 3 + [43] * 3 + [53] * 3 + [64] * 3
    # One optimizer step an epoch.
    expected = [0.02 * warmup_cosine(epoch, epochs=6, warmup=0) for epoch in range(6)]
    assert rates.rates[::2] == pytest.approx(expected)
