"""Batch norms folded into the convolutions before them: equal outputs, less to compute.

In evaluation a batch norm multiplies and shifts each channel by constants, which the kernel and the
bias of the convolution before it can hold as well. Who learns needs both apart.
"""

from typing import Protocol, runtime_checkable

from torch import nn


@runtime_checkable
class Foldable(Protocol):
    """A module that can give what is constant in evaluation to the layers that can hold it."""

    def fold(self) -> None:
        """Do so, in place."""


def fold(network: nn.Module) -> None:
    """Fold the batch norms of this project's layers, in place; a foreign backbone's stay.

    The network is for inference alone from then on, and its state has other names.
    """
    network.eval().requires_grad_(False)
    for module in list(network.modules()):
        if isinstance(module, Foldable):
            module.fold()
