"""What a training is watched by, as every tracker gets it."""

import csv
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import CSVLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader

from compound.tracking import monitor as vitals
from compound.tracking.monitor import Vitals


class Batch(tuple):
    """What a loader of ours gives, as far as it matters here."""

    @property
    def images(self) -> Tensor:
        return self[0]


class Line(pl.LightningModule):
    """A line, fitted by two groups of parameters with rates of their own."""

    def __init__(self, decay: float) -> None:
        super().__init__()
        self.line = nn.Linear(3, 1)
        self.decay = decay

    def training_step(self, batch: Batch, _: int) -> Tensor:
        return self.line(batch.images).square().mean()

    def validation_step(self, batch: Batch, _: int) -> None:
        pass

    def configure_optimizers(self) -> dict[str, Any]:
        groups = [
            {"params": [self.line.weight], "lr": 0.3},
            {"params": [self.line.bias], "lr": 0.3 * self.decay},
        ]
        optimizer = torch.optim.SGD(groups)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }


class Spy(Callback):
    """Note the norms of gradients after they were clipped, and before."""

    def __init__(self) -> None:
        self.before: list[float] = []
        self.after: list[float] = []

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        self.before.append(norm_of(pl_module))

    def on_before_zero_grad(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        if pl_module.line.weight.grad is not None:
            self.after.append(norm_of(pl_module))


def norm_of(module: Line) -> float:
    squares = (p.grad.double().square().sum() for p in module.parameters() if p.grad is not None)
    return float(sum(squares) ** 0.5)


def loader(count: int = 12, batch_size: int = 2) -> DataLoader[Any]:
    pictures = torch.randn(count, 3, generator=torch.Generator().manual_seed(0))
    return DataLoader(
        pictures,  # pyright: ignore[reportArgumentType]
        batch_size=batch_size,
        collate_fn=lambda rows: Batch([torch.stack(rows)]),
    )


def fit(folder: Path, *callbacks: Callback, decay: float = 1.0, **changes: Any) -> list[dict]:
    torch.manual_seed(0)
    arguments: dict[str, Any] = {
        "default_root_dir": folder,
        "max_epochs": 2,
        "accelerator": "cpu",
        "logger": CSVLogger(folder, name="", version=""),
        "callbacks": [Vitals(), *callbacks],
        "log_every_n_steps": 2,
        "num_sanity_val_steps": 0,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
    }
    trainer = pl.Trainer(**(arguments | changes))
    trainer.fit(Line(decay), train_dataloaders=loader(), val_dataloaders=loader())
    path = folder / "metrics.csv"
    return list(csv.DictReader(path.read_text().splitlines())) if path.is_file() else []


def column(rows: list[dict], name: str) -> dict[int, float]:
    return {int(row["step"]): float(row[name]) for row in rows if row.get(name)}


@pytest.mark.train
def test_gradients_are_those_before_the_clipping(tmp_path: Path) -> None:
    spy = Spy()
    rows = fit(tmp_path, spy, gradient_clip_val=1e-3)
    found = column(rows, "optim/grad_norm")
    # 12 steps; Lightning counts from 0, so that every second one is 1, 3, ...
    assert list(found) == [1, 3, 5, 7, 9, 11]
    assert found == pytest.approx({step: spy.before[step] for step in found}, rel=1e-6)
    assert max(spy.after) == pytest.approx(1e-3, rel=1e-3)
    assert min(spy.before) > 1e-2


@pytest.mark.train
def test_rates_are_those_of_the_step(tmp_path: Path) -> None:
    rows = fit(tmp_path)
    rates = column(rows, "optim/lr")
    # 0.3 / (1 + step), to the last digit.
    assert rates == {step: 0.3 * (1 / (1 + step)) for step in (1, 3, 5, 7, 9, 11)}
    assert "optim/lr_lowest" not in rows[0]
    rows = fit(tmp_path / "decayed", decay=0.5)
    assert column(rows, "optim/lr") == rates
    lowest = column(rows, "optim/lr_lowest")
    assert lowest == pytest.approx({step: rate / 2 for step, rate in rates.items()})


@pytest.mark.train
def test_all_of_a_step_is_in_one_row_of_metrics(tmp_path: Path) -> None:
    rows = fit(tmp_path)
    named = {"optim/lr", "optim/grad_norm", "speed/images_per_second", "memory/peak_gib"}
    steps = [row for row in rows if row["optim/lr"]]
    assert len(steps) == 6
    assert all(row[name] for row in steps for name in named)
    epochs = [row for row in rows if row["speed/train_seconds"]]
    assert [int(row["epoch"]) for row in epochs] == [0, 1]
    assert all(float(row["speed/val_seconds"]) > 0 for row in epochs)
    # A process that has loaded PyTorch holds tens of megabytes and fits the machine.
    assert 0.01 < float(steps[0]["memory/peak_gib"]) < 1000


@pytest.mark.train
def test_accumulated_batches_are_one_step(tmp_path: Path) -> None:
    spy = Spy()
    rows = fit(tmp_path, spy, accumulate_grad_batches=3, log_every_n_steps=1)
    found = column(rows, "optim/grad_norm")
    assert found == pytest.approx(dict(enumerate(spy.before)), rel=1e-6)  # 2 epochs of 2 steps
    assert len(found) == 4
    assert list(column(rows, "speed/images_per_second")) == [0, 1, 2, 3]


@pytest.mark.train
def test_without_trackers_nothing_is_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vitals, "get_total_norm", lambda _: pytest.fail("asked for a norm"))
    assert fit(tmp_path, logger=False) == []


class Clocked:
    """A trainer and a module, as far as `Vitals` looks at them, and a clock that is set by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, every: int, world_size: int) -> None:
        self.now = 0.0
        monkeypatch.setattr(vitals, "time", SimpleNamespace(monotonic=lambda: self.now))
        self.trainer: Any = SimpleNamespace(
            loggers=[object()], log_every_n_steps=every, global_step=0, world_size=world_size
        )
        self.logged: list[tuple[str, float]] = []
        self.module: Any = SimpleNamespace(
            device=torch.device("cpu"),
            parameters=lambda: [nn.Parameter(torch.zeros(1))],
            log=lambda name, value: self.logged.append((name, float(value))),
        )
        self.optimizer: Any = SimpleNamespace(param_groups=[{"lr": 1.0}])
        self.vitals = Vitals()

    def epoch(self) -> None:
        self.vitals.on_train_epoch_start(self.trainer, self.module)

    def batch(self, pictures: int, seconds: float, *, steps: bool = True) -> None:
        self.now += seconds
        if steps:
            self.vitals.on_before_optimizer_step(self.trainer, self.module, self.optimizer)
            self.trainer.global_step += 1
        batch = SimpleNamespace(images=[None] * pictures)
        self.vitals.on_train_batch_end(self.trainer, self.module, None, batch, 0)

    def validate(self, seconds: float) -> None:
        self.vitals.on_validation_start(self.trainer, self.module)
        self.now += seconds
        self.vitals.on_validation_end(self.trainer, self.module)

    def take(self, name: str) -> list[float]:
        values = [value for found, value in self.logged if found == name]
        self.logged.clear()
        return values


def test_speed_counts_all_processes_and_leaves_validation_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clocked(monkeypatch, every=3, world_size=2)
    clock.epoch()
    clock.batch(4, 1.0)
    clock.batch(4, 1.0)
    clock.validate(100.0)
    clock.now += 50.0  # a checkpoint
    clock.epoch()
    clock.batch(8, 2.0)  # batches have grown
    # (4 + 4 + 8) pictures on each of 2 processes in 1 + 1 + 2 seconds.
    assert clock.take("speed/images_per_second") == [2 * 16 / 4]
    clock.batch(8, 1.0, steps=False)  # accumulated
    clock.batch(8, 1.0)
    clock.batch(8, 1.0)
    assert clock.take("speed/images_per_second") == []
    clock.batch(8, 1.0)
    assert clock.take("speed/images_per_second") == [2 * 32 / 4]


def test_an_epoch_is_told_training_and_validation(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clocked(monkeypatch, every=100, world_size=1)
    clock.epoch()
    clock.batch(1, 3.0)
    clock.validate(10.0)
    clock.batch(1, 4.0)
    clock.validate(5.0)
    clock.vitals.on_train_epoch_end(clock.trainer, clock.module)
    assert clock.logged == [("speed/train_seconds", 7.0), ("speed/val_seconds", 15.0)]
    clock.logged.clear()
    clock.epoch()
    clock.batch(1, 2.0)
    clock.vitals.on_train_epoch_end(clock.trainer, clock.module)
    assert clock.logged == [("speed/train_seconds", 2.0)]
