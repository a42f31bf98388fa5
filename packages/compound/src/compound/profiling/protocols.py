"""What the Lightning modules of all tasks have in common, so that their steps can be measured."""

from typing import Any, Protocol

import torch
from torch import Tensor, nn

from compound.training.optim import OptimRecipe


class Measurable(Protocol):
    """A network with the parts of its steps: of training in this order, and of inference."""

    @property
    def model(self) -> nn.Module:
        """Return the network."""
        ...

    @property
    def optim(self) -> OptimRecipe:
        """Return how it learns."""
        ...

    def __call__(self, images: Tensor, /) -> Any:
        """Map uint8 pictures to the network's outputs."""
        ...

    def train(self, mode: bool = True) -> Any:
        """Be in training, or in evaluation."""
        ...

    def to(self, device: str, /) -> Any:
        """Move to a device."""
        ...

    def transfer_batch_to_device(
        self, batch: Any, device: torch.device, dataloader_idx: int
    ) -> Any:
        """Return the batch on a device."""
        ...

    def train_outputs(self, batch: Any, /) -> tuple[Any, Any]:
        """Return the outputs for a training batch, and what they should have been."""
        ...

    def losses(self, outputs: Any, targets: Any, /) -> dict[str, Tensor]:
        """Return the ``loss``, and its parts if it has any."""
        ...

    def clip(self, max_norm: float, /) -> None:
        """Clip the gradients."""
        ...

    def postprocess(self, outputs: Any, images: Tensor, /) -> Any:
        """Return what a user asks for: probabilities, detections."""
        ...
