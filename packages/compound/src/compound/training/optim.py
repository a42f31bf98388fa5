"""Optimizers: which tensors decay, how the learning rate scales, how gradients are clipped."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from compound.errors import UserError
from compound.training.schedule import (
    Schedule,
    epochs_done,
    epochs_in_all,
    progression_of,
    warmup_cosine,
)

# No warm-up takes more of a short training than this.
MAX_WARMUP_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class OptimRecipe:
    """How a network learns; one of `configs/optim`.

    Attributes:
        optimizer: such as ``torch.optim.SGD``, with its own numbers bound.
        lr: peak learning rate at ``base_batch_size`` pictures a step; it follows the batch.
        base_batch_size: the batch that ``lr`` is meant for.
        weight_decay: of the kernels.
        warmup_epochs: length of the warm-up, at most a tenth of the training.
        schedule: of the learning rate.
        decay_biases: whether biases decay too; norms never do.
        layer_decay: factor on the rate from each block to the one before it; 1 is one rate.
    """

    optimizer: Callable[..., Optimizer]
    lr: float
    base_batch_size: int
    weight_decay: float
    warmup_epochs: float
    schedule: Schedule = warmup_cosine
    decay_biases: bool = False
    layer_decay: float = 1.0

    def __post_init__(self) -> None:
        """Refuse numbers that no training can use."""
        for name, sound, expected in (
            ("lr", self.lr > 0, "above 0"),
            ("base_batch_size", self.base_batch_size >= 1, "1 or more"),
            ("weight_decay", self.weight_decay >= 0, "0 or more"),
            ("warmup_epochs", self.warmup_epochs >= 0, "0 or more"),
            ("layer_decay", 0 < self.layer_decay <= 1, "a factor in (0, 1]"),
        ):
            if not sound:
                raise UserError(f"optim.{name}={getattr(self, name)}: expected {expected}")

    def configure(
        self, model: nn.Module, trainer: pl.Trainer, *, batch_size: int
    ) -> dict[str, Any]:
        """Return what Lightning's `configure_optimizers` does: optimizer and per-step schedule.

        Args:
            model: what to train.
            trainer: knows how many devices, batches and epochs there are.
            batch_size: pictures of a batch on one device.
        """
        progression = progression_of(trainer)

        def growth() -> float:
            """Return how many times larger the next step's batch is."""
            if progression is None:
                return 1.0
            next_batch = epochs_done(trainer) + 1 / int(trainer.num_training_batches)
            return progression.stages[progression.at(next_batch)].batch_size / batch_size

        pictures = batch_size * trainer.world_size * trainer.accumulate_grad_batches
        optimizer = self.build(model, batch_size=pictures)
        schedule = self.build_schedule(
            optimizer,
            epochs=epochs_in_all(trainer),
            time=lambda _: epochs_done(trainer),
            growth=growth,
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def build(self, model: nn.Module, *, batch_size: int) -> Optimizer:
        """Return the optimizer for ``batch_size`` pictures a step over all devices."""
        rate = self.lr * batch_size / self.base_batch_size
        groups = parameter_groups(
            model,
            self.weight_decay,
            decay_biases=self.decay_biases,
            layer_decay=self.layer_decay,
        )
        for group in groups:
            group["lr"] = rate * group.pop("lr_factor")
        return self.optimizer(groups, lr=rate)

    def build_schedule(
        self,
        optimizer: Optimizer,
        *,
        epochs: float,
        time: Callable[[int], float],
        growth: Callable[[], float] = lambda: 1.0,
    ) -> LambdaLR:
        """Return the per-step schedule of a training.

        Args:
            optimizer: what it steers.
            epochs: length of the training.
            time: returns the epochs that lie behind when so many steps are done.
            growth: returns the factor of the next step's batch, which the rate follows.
        """
        warmup = min(self.warmup_epochs, MAX_WARMUP_SHARE * epochs)

        def factor(step: int) -> float:
            return self.schedule(time(step), epochs=epochs, warmup=warmup) * growth()

        return LambdaLR(optimizer, factor)


def parameter_groups(
    model: nn.Module,
    weight_decay: float,
    *,
    decay_biases: bool = False,
    layer_decay: float = 1.0,
) -> list[dict[str, Any]]:
    """Split the parameters that learn by what decays and how fast it learns.

    Kernels decay, and biases of convolutions and linear layers if asked to: V1's official code
    does, V2's and EfficientDet's do not. Batch norms and fusion weights never decay.

    Args:
        model: the network.
        weight_decay: of those that decay.
        decay_biases: see above.
        layer_decay: see `OptimRecipe`.

    Returns:
        Groups with ``params``, ``weight_decay`` and ``lr_factor``.
    """
    factors = _rate_factors(model, layer_decay)
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for prefix, layer in model.named_modules():
        biases_too = decay_biases and isinstance(layer, nn.Conv2d | nn.Linear)
        for name, parameter in layer.named_parameters(recurse=False):
            if not parameter.requires_grad:
                continue
            decays = parameter.ndim > 1 or biases_too
            key = (weight_decay if decays else 0.0, factors[_block(f"{prefix}.{name}".lstrip("."))])
            groups.setdefault(key, []).append(parameter)
    return [
        {"params": parameters, "weight_decay": decay, "lr_factor": factor}
        for (decay, factor), parameters in groups.items()
    ]


def _rate_factors(model: nn.Module, layer_decay: float) -> Mapping[str, float]:
    """Return each block's factor: 1 for the last, the decay for the one before it, and so on."""
    blocks = list(dict.fromkeys(_block(name) for name, _ in model.named_parameters()))
    return {name: layer_decay ** (len(blocks) - 1 - i) for i, name in enumerate(blocks)}


def _block(name: str) -> str:
    """Return the block that a parameter belongs to: of a stage, or the part of the network."""
    found = re.match(r"(.*\bstages\.\d+\.\d+|(?:trunk|pyramid)\.\w+|\w+)\.", f"{name}.")
    assert found is not None
    return found[1]


def clip_each(parameters: Iterable[nn.Parameter], max_norm: float) -> None:
    """Clip the norm of every single gradient, as the official code does before the global norm."""
    for parameter in parameters:
        if parameter.grad is not None:
            norm = parameter.grad.norm().clamp(min=1e-12)
            parameter.grad.mul_((max_norm / norm).clamp(max=1.0))
