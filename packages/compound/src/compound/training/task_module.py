"""What the Lightning modules of all tasks share: seeding, losses, scores, the results kept."""

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from compound.report.page import Section, Shot, Text
from compound.training.best import monitored
from compound.training.freeze import freeze as freeze_layers
from compound.training.optim import OptimRecipe
from compound.training.unreadable import Unreadable
from compound.weights import metadata_of


class TaskModule(pl.LightningModule):
    """Wire a network to Lightning; a task adds its losses and its scores.

    Args:
        model: the network; its ``normalize`` takes uint8 images.
        optim: how the network learns.
        batch_size: images of a batch on one device.
        freeze: layers that do not learn, see `compound.training.freeze`.
        channels_last: lay the network's tensors out channels-last.
        seed: of what the training itself draws, such as stochastic depth.

    Attributes:
        results: the predictions of the best epoch (``val``) and of the test (``test``), in the
            first process.
        best_score: the score of the best epoch.
    """

    model: Any
    # What `best.ckpt` may be chosen by.
    monitors: Any = ()
    # Side of the smallest images that leave the last feature map a whole pixel.
    min_image_size: Any = 1
    # The score of the best epoch where no checkpoint is chosen by another, and what the progress
    # bar shows.
    main_score: ClassVar[str]
    shown_scores: ClassVar[tuple[str, ...]]

    def __init__(
        self,
        model: nn.Module,
        *,
        optim: OptimRecipe,
        batch_size: int,
        freeze: Sequence[str],
        channels_last: bool,
        seed: int,
    ) -> None:
        super().__init__()
        self.model = model
        # All that rebuilding the network takes, as plain values: loads with weights_only.
        # Trackers have the whole configuration.
        self.save_hyperparameters(metadata_of(model), logger=False)
        freeze_layers(model, freeze)
        if channels_last:
            model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self.optim = optim
        self.batch_size = batch_size
        self.seed = seed
        self.unreadable = Unreadable()
        self.best_score = -math.inf
        self.results: dict[str, Any] = {}

    @abstractmethod
    def train_outputs(self, batch: Any) -> tuple[Any, Any]:
        """Return the network's outputs for a training batch, and the targets of `losses`."""

    @abstractmethod
    def losses(self, outputs: Any, targets: Any) -> dict[str, Tensor]:
        """Return the ``loss`` and its parts."""

    @abstractmethod
    def score(self, split: str) -> tuple[Mapping[str, float], Any]:
        """Return the scores of what the steps of a split collected, the same in all processes.

        The second value is what `keep` takes: the results in the first process, None in others.
        """

    @abstractmethod
    def keep(self, split: str, results: Any) -> None:
        """Write the results of a split to the run's folder, in the first process."""

    @abstractmethod
    def sections(self, results: Any, data: Any, split: str) -> list[Section]:
        """Return the sections of a report on results."""

    def inform(self, data: Any) -> None:
        """Tell a data module how the network takes images."""

    def clip(self, max_norm: float) -> None:
        """Clip the norm of all gradients, as Lightning does in a training."""
        nn.utils.clip_grad_norm_(self.model.parameters(), max_norm)

    def postprocess(self, outputs: Any, images: Tensor) -> Any:
        """Return the predictions for what `forward` returned for images."""
        return outputs

    def sample_shots(self, data: Any, count: int) -> list[Shot]:
        """Return training images as the network sees them, for a report."""
        return []

    def score_details(self) -> Mapping[str, Mapping[str, float]]:
        """Return what is behind the last scores by name, such as the AP of each class."""
        return {}

    def setup(self, stage: str) -> None:
        """Inform the trainer's data module."""
        self.inform(self.trainer.datamodule)  # pyright: ignore[reportAttributeAccessIssue]

    def forward(self, images: Tensor) -> Any:
        """Map uint8 images ``(B, C, H, W)`` to the network's outputs."""
        return self.model(self.model.normalize(images))

    def on_train_epoch_start(self) -> None:
        """Seed what is random in the training, so that a resumed run draws the same."""
        seed = self.seed * 2**20 + self.current_epoch * 2**8 + self.global_rank
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002  timm's mixing draws from it

    def training_step(self, batch: Any, _: int) -> Tensor:
        """Return the loss of a batch."""
        self.unreadable.note(batch.unreadable)
        losses = self.losses(*self.train_outputs(batch))
        size = len(batch.images)
        for name, loss in losses.items():
            shown = name == "loss"
            self.log(f"train/{name}", loss.detach(), prog_bar=shown, batch_size=size)
        return losses["loss"]

    def configure_optimizers(self) -> dict[str, Any]:
        """Return the optimizer and its per-step schedule."""
        return self.optim.configure(self.model, self.trainer, batch_size=self.batch_size)

    def on_validation_epoch_end(self) -> None:
        """Score the validation split; keep the results of the best epoch."""
        scores, results = self._logged("val")
        if (score := monitored(self.trainer, scores, self.main_score)) > self.best_score:
            self.best_score = score
            self._keep("val", results)

    def on_test_epoch_end(self) -> None:
        """Score the test split."""
        self._keep("test", self._logged("test")[1])

    def on_fit_end(self) -> None:
        """Report the images that could not be used, if any."""
        self.unreadable.tell()

    def report(self, data: Any) -> list[Section]:
        """Return what a report says of the last split that was scored."""
        split = next(reversed(self.results), None)
        if split is None:
            return [Section("At a glance", [Text("This run was never scored.", "warn")])]
        return self.sections(self.results[split], data, split)

    def _logged(self, split: str) -> tuple[Mapping[str, float], Any]:
        scores, results = self.score(split)
        # Every process has the same scores; there is nothing to reduce.
        for name, value in scores.items():
            self.log(f"{split}/{name}", value, prog_bar=name in self.shown_scores)
        return scores, results

    def _keep(self, split: str, results: Any) -> None:
        if results is not None:
            self.results[split] = results
            self.keep(split, results)
