"""The classifier's Lightning module: learning, resuming, checkpoints that stand by themselves."""

import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from pytorch_lightning.callbacks import Callback, ModelCheckpoint
from timm.optim import RMSpropTF

from backbone import create_model, load_model
from backbone.classification.data.datamodule import ClassificationData
from backbone.classification.data.dataset import Batch
from backbone.classification.data.figures import shapes_splits
from backbone.classification.module import EfficientNetModule
from compound.errors import UserError
from compound.training.batch_norm import BatchNormSchedule
from compound.training.ema import Ema
from compound.training.optim import OptimRecipe
from compound.training.schedule import warmup_staircase

SIZE = 32
RMSPROP = OptimRecipe(
    partial(RMSpropTF, alpha=0.9, momentum=0.9, eps=1e-3),
    lr=0.016,
    base_batch_size=256,
    weight_decay=1e-5,
    warmup_epochs=5,
    schedule=warmup_staircase,
    decay_biases=True,
)


class StopAfter(Callback):
    """End the training early, as a crash or a time limit would."""

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        trainer.should_stop = trainer.current_epoch + 1 >= self.epochs


def data_of(**changes: Any) -> ClassificationData:
    read = partial(shapes_splits, num_train=16, num_val=7, picture_size=SIZE, seed=0)
    arguments: dict[str, Any] = {
        "root": None,
        "read": read,
        "image_size": SIZE,
        "batch_size": 4,
        "seed": 0,
        "num_workers": 0,
    }
    return ClassificationData(**(arguments | changes))


def module_of(data: ClassificationData, **changes: Any) -> EfficientNetModule:
    torch.manual_seed(0)
    arguments: dict[str, Any] = {
        "model": partial(create_model, "efficientnet_b0", image_size=SIZE),
        "class_names": data.class_names,
        "optim": RMSPROP,
        "batch_size": data.batch_size,
    }
    return EfficientNetModule(**(arguments | changes))


def trainer_in(folder: Path, epochs: int, *callbacks: Callback, **changes: Any) -> pl.Trainer:
    checkpoints = [
        ModelCheckpoint(folder / "checkpoints", "best", monitor="val/top1", mode="max"),
        ModelCheckpoint(folder / "checkpoints", "last"),
    ]
    arguments: dict[str, Any] = {
        "default_root_dir": folder,
        "max_epochs": epochs,
        "accelerator": "cpu",
        "callbacks": [*callbacks, BatchNormSchedule(), Ema(0.9999), *checkpoints],
        "logger": False,
        "num_sanity_val_steps": 0,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "use_distributed_sampler": False,
    }
    return pl.Trainer(**(arguments | changes))


@pytest.mark.train
@pytest.mark.parametrize("num_workers", [0, 1])  # a worker prefetches, maybe of a wrong epoch
def test_resumed_run_ends_like_one_that_never_stopped(tmp_path: Path, num_workers: int) -> None:
    def fit(folder: str, *callbacks: Callback, ckpt_path: Path | None = None) -> dict[str, Any]:
        data = data_of(num_workers=num_workers, policy="rand-m10-n2")
        # Dropout, stochastic depth and mixing all draw.
        module = module_of(data, mixup=0.2, cutmix=1.0)
        trainer = trainer_in(tmp_path / folder, 2, *callbacks)
        trainer.fit(module, datamodule=data, ckpt_path=ckpt_path)
        return torch.load(tmp_path / folder / "checkpoints" / "last.ckpt", weights_only=True)

    whole = fit("whole")
    half = fit("half", StopAfter(1))
    resumed = fit("resumed", ckpt_path=tmp_path / "half" / "checkpoints" / "last.ckpt")
    assert half["epoch"] == 0
    assert resumed["global_step"] == whole["global_step"] == 8
    for key in ("state_dict", "current_model_state"):  # the average, and the raw weights
        assert all(torch.equal(value, resumed[key][name]) for name, value in whole[key].items())
        assert any(not torch.equal(value, half[key][name]) for name, value in whole[key].items())


@pytest.mark.train
def test_checkpoint_rebuilds_the_model_alone(tmp_path: Path) -> None:
    data = data_of()
    module = module_of(data, channels_last=True)
    trainer_in(tmp_path, 1).fit(module, datamodule=data)
    path = tmp_path / "best.ckpt"
    shutil.copy(tmp_path / "checkpoints" / "best.ckpt", path)
    model = load_model(path).eval()
    assert model.class_names == data.class_names
    assert model.spec.image_size == SIZE
    state = torch.load(path, weights_only=True)["state_dict"]
    assert all(torch.equal(v, state[f"model.{k}"]) for k, v in model.state_dict().items())
    with pytest.raises(UserError, match="were trained as efficientnet_b0; they do not fit"):
        create_model("efficientnet_b1", weights=path)
    # Evaluated from the file it scores as in the training.
    again = module_of(data, model=partial(create_model, "efficientnet_b0", weights=path))
    trainer = trainer_in(tmp_path / "again", 1)
    found = trainer.validate(again, datamodule=data, verbose=False)[0]
    assert again.model.load_report is not None
    assert again.model.load_report.complete
    score = torch.load(path, weights_only=True)["callbacks"]
    best = next(v for k, v in score.items() if "best" in str(v.get("best_model_path", "")))
    assert found["val/top1"] == pytest.approx(float(best["best_model_score"]), abs=1e-6)


@pytest.mark.train
def test_scores_are_what_they_say(tmp_path: Path) -> None:
    data = data_of(eval_batch_size=7)
    module = module_of(data)
    # Labels of the validation split are 0..6; of 7 classes each row ranks the label at its index.
    logits = torch.zeros(7, 7)
    for row in range(7):
        order = [c for c in range(7) if c != row]
        order.insert(row, row)
        logits[row, order] = torch.arange(7.0, 0.0, -1.0)
    module.forward = lambda images: logits[: len(images)]  # type: ignore[method-assign]
    found = trainer_in(tmp_path, 1).validate(module, datamodule=data, verbose=False)[0]
    assert found["val/top1"] == pytest.approx(1 / 7)
    assert found["val/top5"] == pytest.approx(5 / 7)
    expected = F.cross_entropy(logits, torch.arange(7)).item()
    assert found["val/loss"] == pytest.approx(expected, rel=1e-5)
    ranking = module.results["val"]
    assert ranking.truth.tolist() == list(range(7))
    # Class 0 is ranked first for every picture.
    assert ranking.labels[:, 0].tolist() == [0, 0, 0, 0, 0, 0, 0]


def step(module: EfficientNetModule, batch: Batch) -> torch.Tensor:
    module.log = lambda *_, **__: None  # type: ignore[method-assign]
    return module.training_step(batch, 0)


def test_loss_is_smoothed_cross_entropy() -> None:
    data = data_of()
    module = module_of(data).eval()
    batch = next(iter(data.val_dataloader()))
    with torch.no_grad():
        logs = module(batch.images).log_softmax(1)
        # 0.9 on the label and a seventh of 0.1 on every class
        expected = -(0.9 * logs[range(4), batch.labels] + 0.1 * logs.mean(1)).mean()
        torch.testing.assert_close(step(module, batch), expected)


@pytest.mark.parametrize("mixup", [0.0, 0.4])
def test_the_parts_of_a_step_are_the_step(mixup: float) -> None:
    data = data_of()
    module = module_of(data, mixup=mixup).eval()
    batch = next(iter(data.val_dataloader()))
    found = []
    for whole in (True, False):
        np.random.seed(0)  # noqa: NPY002  timm's mixing draws from it
        if whole:
            found.append(step(module, batch))
        else:
            found.append(module.losses(*module.train_outputs(batch))["loss"])
    assert torch.equal(*found)
    (1e6 * found[0]).backward()
    module.clip(0.5)
    norms = torch.stack([p.grad.norm() for p in module.parameters() if p.grad is not None])
    assert norms.norm().item() == pytest.approx(0.5, rel=1e-3)


def test_probabilities_are_what_is_asked_for() -> None:
    data = data_of()
    module = module_of(data)
    # 1 / (1 + 3) and 3 / (1 + 3)
    found = module.postprocess(torch.tensor([[0.0, 1.0986123]]), torch.empty(1, 3, 2, 2))
    torch.testing.assert_close(found, torch.tensor([[0.25, 0.75]]))


def test_mixing_mixes_pictures_and_targets(monkeypatch: pytest.MonkeyPatch) -> None:
    data = data_of()
    module = module_of(data, mixup=1.0, label_smoothing=0.0).eval()
    batch = next(iter(data.val_dataloader()))
    drawn = [0.25, 0.5, 0.875, 1.0]  # a lambda a picture, as officially
    monkeypatch.setattr(np.random, "beta", lambda *_, size: np.array(drawn[:size], np.float32))
    images = module.model.normalize(batch.images)
    share = torch.tensor(drawn)
    with torch.no_grad():
        found = step(module, batch)
        shares = share.view(-1, 1, 1, 1)
        logs = module.model(shares * images + (1 - shares) * images.flip(0)).log_softmax(1)
        labels = batch.labels
        per_row = share * logs[range(4), labels] + (1 - share) * logs[range(4), labels.flip(0)]
    torch.testing.assert_close(found, -per_row.mean())


def test_memory_knobs_change_nothing_else() -> None:
    data = data_of()
    batch = next(iter(data.val_dataloader()))
    losses = []
    for knobs in ({}, {"recompute": range(7), "channels_last": False}, {"freeze": ["stem"]}):
        module = module_of(data, **knobs)
        torch.manual_seed(1)
        losses.append(step(module, batch).item())
    # A frozen norm uses its own statistics instead of the batch's.
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert losses[0] != pytest.approx(losses[2], rel=1e-4)


@pytest.mark.train
def test_frozen_layers_stay_as_they_are_through_a_training(tmp_path: Path) -> None:
    data = data_of()
    module = module_of(data, freeze=["trunk"])
    before = {name: value.clone() for name, value in module.model.state_dict().items()}
    trainer_in(tmp_path, 2).fit(module, datamodule=data)
    after = module.model.state_dict()
    moved = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert moved == {"head", "classifier"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 1}, r"data\.batch_size=1: batch norm needs at least 2"),
        ({"batch_size": 5, "mixup": 0.2}, r"data\.batch_size=5: mixing pairs pictures"),
        ({"label_smoothing": 1.0}, r"task\.label_smoothing=1\.0"),
        ({"cutmix": -1.0}, r"task\.cutmix=-1\.0"),
        ({"recompute": 7}, r"task\.recompute=7: there are stages 0 to 6"),
        ({"recompute": [1], "compile": True}, "exclude each other"),
        ({"freeze": "stam"}, "freeze=stam fits no layer"),
    ],
)
def test_mistakes(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        module_of(data_of(), **changes)


@pytest.mark.train
def test_one_picture_is_enough_for_frozen_norms(tmp_path: Path) -> None:
    data = data_of(batch_size=1)
    module = module_of(data, freeze=["trunk", "head"])
    before = module.model.classifier.weight.detach().clone()
    # The first step of a warm-up has a rate of zero.
    trainer_in(tmp_path, 1, limit_train_batches=2).fit(module, datamodule=data)
    assert module.model.classifier.weight.isfinite().all()
    assert not torch.equal(module.model.classifier.weight, before)


@pytest.mark.train
def test_compiling_waits_for_the_norms_and_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled = []
    original = torch.nn.Module.compile

    def compile_eagerly(self: torch.nn.Module) -> None:
        compiled.append(self)
        original(self, backend="eager")

    monkeypatch.setattr(torch.nn.Module, "compile", compile_eagerly)
    monkeypatch.setattr("backbone.classification.module.WARMUP_BATCHES", 3)
    # Which a compiler does not take, and which rounds otherwise than autograd's own.
    monkeypatch.setattr("backbone.layers.norm_act", lambda x, norm, act: act(norm(x)))
    states = []
    for compile in (False, True):
        data = data_of()
        module = module_of(data, compile=compile)
        trainer_in(tmp_path / str(compile), 2, log_every_n_steps=1).fit(module, datamodule=data)
        states.append(module.model.state_dict())
    assert compiled == [module.model]
    assert states[0].keys() == states[1].keys()
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.train
def test_one_batch_is_learnt_by_heart(tmp_path: Path) -> None:
    read = partial(shapes_splits, num_train=7, num_val=7, picture_size=SIZE, seed=0)
    data = data_of(read=read, batch_size=7, scale=(1.0, 1.0), ratio=(1.0, 1.0), flip=0.0, crop=1.0)
    data.splits["val"] = data.splits["train"]
    adamw = OptimRecipe(
        torch.optim.AdamW, lr=3e-3, base_batch_size=7, weight_decay=0.0, warmup_epochs=1
    )
    module = module_of(
        data,
        optim=adamw,
        model=partial(create_model, "efficientnet_b0", dropout=0.0, survival=1.0),
    )
    trainer = trainer_in(tmp_path, 60, check_val_every_n_epoch=60)
    trainer.fit(module, datamodule=data)
    assert float(trainer.callback_metrics["val/top1"]) == 1.0
