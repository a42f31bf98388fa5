"""The learning rate by a range test (arXiv:1506.01186, Sec. 3.3), which Lightning's tuner runs.

The curve is read here. Lightning's own suggestion is where the loss falls fastest over the rate
itself, which favours small rates whatever the loss: over them the smallest fall is steep. And its
running mean sees a divergence ten steps late.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from pytorch_lightning.tuner.tuning import Tuner
from torch import Tensor
from torch.optim import Optimizer

from compound.data.loader import EpochData
from compound.training.dry_run import NewTrainer, trial

# Rates of a step, each a seventh larger than the one before.
LOWEST, HIGHEST, STEPS = 1e-6, 1.0, 100
# The rate of the lowest loss is about to diverge; a tenth of it is what trainings take.
SAFETY = 0.1
# Of the weights that the neighbours of a loss have, in steps.
_SMOOTHING = 3.0


@dataclass(frozen=True, slots=True)
class Curve:
    """What a range test found.

    Attributes:
        rates: ``(N,)``, in the unit of `OptimRecipe.lr`.
        losses: ``(N,)`` of the training's batches, cut where the first is not finite.
    """

    rates: np.ndarray
    losses: np.ndarray

    @property
    def smooth(self) -> np.ndarray:
        """Return the losses, each averaged with its neighbours before and after."""
        steps = np.arange(len(self.losses))
        weights = np.exp(-0.5 * ((steps[:, None] - steps) / _SMOOTHING) ** 2)
        return weights @ self.losses / weights.sum(1)

    @property
    def problem(self) -> str:
        """Return why no rate can be read from the curve, or nothing."""
        if len(self.losses) < STEPS // 4:
            return f"the loss was not finite after {len(self.losses)} steps"
        smooth = self.smooth
        lowest = int(smooth.argmin())
        before = slice(0, lowest + 1)
        noise = float(np.std(self.losses[before] - smooth[before]))
        if lowest == 0 or smooth[0] - smooth[lowest] < noise:
            return "the loss does not fall by more than it differs from batch to batch"
        if lowest == len(smooth) - 1:
            return f"the loss still falls at the largest rate, {self.rates[-1]:.3g}"
        return ""

    @property
    def suggestion(self) -> float:
        """Return the rate to train with, to three digits."""
        return float(f"{SAFETY * self.rates[self.smooth.argmin()]:.3g}")


def find_rate(module: Any, data: EpochData, new_trainer: NewTrainer, *, folder: Path) -> Curve:
    """Raise the learning rate from step to step and watch the loss; nothing else changes.

    Layers keep the proportions of their rates. Of a progressive training the last stage is tried.

    Args:
        module: of any task, not trained yet.
        data: its data.
        new_trainer: makes the run's trainer.
        folder: of the run.
    """
    rates: list[float] = []
    losses: list[float] = []
    waiting: list[Tensor] = []

    def note(rate: float) -> None:
        rates.append(rate)
        losses.append(float(torch.stack(waiting).mean()))
        waiting.clear()

    with trial(module, data, new_trainer, folder) as tried:
        step = tried.module.training_step

        def training_step(*args: Any) -> Tensor:
            loss = step(*args)
            waiting.append(loss.detach())
            return loss

        tried.module.training_step = training_step
        build = _watched(module.optim.optimizer, note)
        tried.module.optim = replace(module.optim, optimizer=build)
        # An epoch has a step at least. None is followed by a validation.
        trainer = tried.new_trainer(
            callbacks=[], max_epochs=STEPS, max_steps=-1, check_val_every_n_epoch=STEPS + 1
        )
        span = {"min_lr": LOWEST, "max_lr": HIGHEST, "num_training": STEPS}
        Tuner(trainer).lr_find(tried.module, datamodule=tried.data, update_attr=False, **span)
        found = torch.tensor(losses, device=trainer.strategy.root_device)
        values = np.asarray(trainer.strategy.reduce(found, reduce_op="mean").cpu(), np.float64)
    pictures = module.batch_size * trainer.world_size * trainer.accumulate_grad_batches
    finite = int(np.isfinite(values).cumprod().sum())
    factor = module.optim.base_batch_size / pictures
    return Curve(factor * np.array(rates)[:finite], values[:finite])


def plot(curve: Curve, path: Path) -> None:
    """Draw a curve, and what it suggests."""
    figure = Figure((6.4, 4.0), layout="constrained")
    axes = figure.subplots()
    axes.plot(curve.rates, curve.losses, ".", color="0.7", label="a step")
    axes.plot(curve.rates, curve.smooth, label="smoothed")
    if not curve.problem:
        axes.axvline(curve.suggestion, color="C1", label=f"optim.lr={curve.suggestion:g}")
    # What has diverged would flatten all that matters.
    top = 2 * float(np.median(curve.losses))
    axes.set(xscale="log", xlabel="optim.lr", ylabel="train/loss", ylim=(None, top))
    axes.legend()
    figure.savefig(path, dpi=120)


def _watched(
    build: Callable[..., Optimizer], note: Callable[[float], None]
) -> Callable[..., Optimizer]:
    """Return the same way to an optimizer, one whose groups keep their proportions.

    Args:
        build: takes groups and a rate.
        note: is told the rate of every step that has been taken.
    """

    def built(groups: Sequence[dict[str, Any]], lr: float) -> Optimizer:
        factors = [group["lr"] / lr for group in groups]
        optimizer = build(groups, lr=lr)
        asked: list[float] = []

        def before(optimizer: Optimizer, *_: object) -> None:
            asked[:] = [group["lr"] for group in optimizer.param_groups]
            for group, factor in zip(optimizer.param_groups, factors, strict=True):
                group["lr"] *= factor

        def after(optimizer: Optimizer, *_: object) -> None:
            for group, rate in zip(optimizer.param_groups, asked, strict=True):
                group["lr"] = rate
            note(asked[0])

        optimizer.register_step_pre_hook(before)
        optimizer.register_step_post_hook(after)
        return optimizer

    return built
