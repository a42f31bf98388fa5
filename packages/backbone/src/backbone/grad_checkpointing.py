"""Gradient checkpointing: activations that the backward pass computes again."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, TypeVar

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from compound.training.freeze import Norm

T = TypeVar("T")


def recomputed(layer: Callable[..., T], *inputs: Any, norms: nn.Module) -> T:
    """Return ``layer(*inputs)`` without keeping what lies inside; less memory, more time.

    Gradients and running statistics are those of the plain call; without gradients it is one.

    Args:
        layer: what to compute.
        inputs: its tensors, or mappings and sequences of them.
        norms: the module that holds every batch norm that ``layer`` runs.
    """
    if not torch.is_grad_enabled():
        return layer(*inputs)
    return checkpoint(  # pyright: ignore[reportReturnType]
        layer,
        *inputs,
        use_reentrant=False,
        context_fn=lambda: (nullcontext(), _statistics_untouched(norms)),
    )


@contextmanager
def _statistics_untouched(module: nn.Module) -> Iterator[None]:
    """Keep the second forward pass from moving the running statistics a second time."""
    norms = [layer for layer in module.modules() if isinstance(layer, Norm)]
    kept = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, (momentum, counter) in zip(norms, kept, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, counter
