"""What the Lightning modules of all tasks share."""

from collections.abc import Mapping
from typing import Any, ClassVar

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from compound.report.page import Section, Shot
from compound.report.run import never_scored
from compound.training.optim import OptimRecipe
from compound.training.unreadable import Unreadable


class TaskModule(pl.LightningModule):
    """Wire a network, its loss and its scores to Lightning.

    A subclass builds its network, calls ``save_hyperparameters(metadata_of(self.model))`` and has
    `train_outputs`, `losses`, `postprocess` and Lightning's steps of validation and test.

    Args:
        optim: how the network learns.
        batch_size: images of a batch on one device.
        seed: of what the training itself draws, such as stochastic depth.

    Attributes:
        model: the network.
        monitors: scores that ``best.ckpt`` may be chosen by.
        unreadable: training images that could not be used.
    """

    model: Any
    monitors: ClassVar[Any] = ()
    # Side of the smallest images that leave the last feature map a whole pixel.
    min_image_size: Any = 1

    def __init__(self, *, optim: OptimRecipe, batch_size: int, seed: int) -> None:
        super().__init__()
        self.optim = optim
        self.batch_size = batch_size
        self.seed = seed
        self.unreadable = Unreadable()

    def setup(self, stage: str) -> None:
        """Tell the trainer's data how the network wants to see images."""
        self.inform(self.trainer.datamodule)  # pyright: ignore[reportAttributeAccessIssue]

    def inform(self, data: Any) -> None:
        """Tell data how the network wants to see images."""

    def forward(self, images: Tensor) -> Any:
        """Map uint8 images ``(B, C, H, W)`` to the network's outputs."""
        return self.model(self.model.normalize(images))

    def on_train_epoch_start(self) -> None:
        """Seed what is random in the network, so that a resumed run draws the same."""
        torch.manual_seed(self.seed * 2**20 + self.current_epoch * 2**8 + self.global_rank)

    def training_step(self, batch: Any, _: int) -> Tensor:
        """Return the loss of a batch."""
        self.unreadable.note(batch.unreadable)
        losses = self.losses(*self.train_outputs(batch))
        size = len(batch.images)
        for name, loss in losses.items():
            self.log(f"train/{name}", loss.detach(), prog_bar=name == "loss", batch_size=size)
        return losses["loss"]

    def train_outputs(self, batch: Any) -> tuple[Any, Any]:
        """Return the outputs for a training batch, and what `losses` compares them with."""
        raise AttributeError(f"{type(self).__name__} has no train_outputs")

    def losses(self, outputs: Any, targets: Any) -> dict[str, Tensor]:
        """Return the ``loss``, and its parts if it has any."""
        raise AttributeError(f"{type(self).__name__} has no losses")

    def postprocess(self, outputs: Any, images: Tensor) -> Any:
        """Return the predictions for images."""
        return outputs

    def clip(self, max_norm: float) -> None:
        """Clip the norm of all gradients, as Lightning does in a training."""
        nn.utils.clip_grad_norm_(self.parameters(), max_norm)

    def configure_optimizers(self) -> dict[str, Any]:
        """Return the optimizer and its per-step schedule."""
        return self.optim.configure(self.model, self.trainer, batch_size=self.batch_size)

    def score_details(self) -> Mapping[str, Mapping[str, float]]:
        """Return what is behind the last score, by name, such as the AP of each class."""
        return {}

    def report(self, data: Any) -> list[Section]:
        """Return what a report says of the last split that was scored."""
        return [never_scored()]

    def sample_shots(self, data: Any, count: int) -> list[Shot]:
        """Return training images as the network sees them."""
        return []

    def on_fit_end(self) -> None:
        """Log what could not be used, if anything."""
        self.unreadable.tell()
