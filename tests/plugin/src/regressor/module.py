"""The regressor as a Lightning module."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from compound.report.page import Section, Table
from compound.training.optim import OptimRecipe
from compound.training.task_module import TaskModule
from regressor.data import Batch


class RegressorModule(TaskModule):
    """Mean squared error, scored by the coefficient of determination."""

    monitors = ("val/r2",)
    main_score = "r2"
    shown_scores = ("r2",)

    def __init__(
        self,
        *,
        model: Callable[..., Any],
        class_names: Sequence[str],
        optim: OptimRecipe,
        batch_size: int,
        seed: int = 0,
    ) -> None:
        super().__init__(
            model(num_classes=len(class_names), class_names=class_names),
            optim=optim,
            batch_size=batch_size,
            freeze=(),
            channels_last=True,
            seed=seed,
        )
        self.pairs: list[tuple[Tensor, Tensor]] = []

    def train_outputs(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the numbers found and those that are right."""
        return self(batch.images), batch.numbers

    def losses(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Return the mean squared error."""
        return {"loss": F.mse_loss(outputs.float(), targets)}

    def validation_step(self, batch: Batch, _: int) -> None:
        """Keep the numbers for the score."""
        self.pairs.append((self(batch.images).float().cpu(), batch.numbers.cpu()))

    def score(self, split: str) -> tuple[Mapping[str, float], Any]:
        """Return the coefficient of determination, and the numbers."""
        found, right = (torch.cat(side).flatten() for side in zip(*self.pairs, strict=True))
        self.pairs = []
        r2 = 1 - (found - right).square().sum() / (right - right.mean()).square().sum()
        return {"r2": float(r2)}, torch.stack([right, found], 1)

    def keep(self, split: str, results: Tensor) -> None:
        """Keep nothing but the report."""

    def sections(self, results: Tensor, data: Any, split: str) -> list[Section]:
        """Return a table of the numbers."""
        rows = [[f"{number:.3f}" for number in row] for row in results.tolist()]
        return [Section("Brightness", [Table("Right and found", ["right", "found"], rows)])]
