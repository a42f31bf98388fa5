"""The regressor as a Lightning module."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from compound.report.page import Section, Table
from compound.training.module import TaskModule
from compound.training.optim import OptimRecipe
from compound.weights import metadata_of
from regressor.data import Batch


class RegressorModule(TaskModule):
    """Mean squared error, scored by the coefficient of determination."""

    monitors = ("val/r2",)

    def __init__(
        self,
        *,
        model: Callable[..., Any],
        class_names: Sequence[str],
        optim: OptimRecipe,
        batch_size: int,
        seed: int = 0,
    ) -> None:
        super().__init__(optim=optim, batch_size=batch_size, seed=seed)
        self.model = model(num_classes=len(class_names), class_names=class_names)
        self.save_hyperparameters(metadata_of(self.model), logger=False)
        self.pairs: list[tuple[Tensor, Tensor]] = []
        self.scored: list[list[str]] = []

    def train_outputs(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the numbers found and those that are right."""
        return self(batch.images), batch.numbers

    def losses(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Return the mean squared error."""
        return {"loss": F.mse_loss(outputs.float(), targets)}

    def on_validation_epoch_start(self) -> None:
        """Begin to collect numbers."""
        self.pairs = []

    def validation_step(self, batch: Batch, _: int) -> None:
        """Keep the numbers for the score."""
        self.pairs.append((self(batch.images).float().cpu(), batch.numbers.cpu()))

    def on_validation_epoch_end(self) -> None:
        """Score the validation split."""
        found, right = (torch.cat(side) for side in zip(*self.pairs, strict=True))
        r2 = 1 - (found - right).square().sum() / (right - right.mean()).square().sum()
        self.log("val/r2", r2, prog_bar=True)
        self.scored = [
            [f"{a:.3f}", f"{b:.3f}"] for a, b in zip(right.flatten(), found.flatten(), strict=True)
        ]

    def report(self, data: Any) -> list[Section]:
        """Return a table of the numbers of the last validation."""
        return [Section("Brightness", [Table("Right and found", ["right", "found"], self.scored)])]
