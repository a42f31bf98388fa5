"""Gradient checkpointing: activations that the backward pass computes again; networks know nothing.

It costs less memory and more time; outputs, gradients and running statistics stay what they were.
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from compound.training.freeze import Norm


def set_grad_checkpointing(module: nn.Module, enabled: bool, *, method: str = "forward") -> None:
    """Switch gradient checkpointing of one method of a module on or off, in place.

    Args:
        module: every batch norm that the method runs is in it.
        enabled: whether the backward pass computes again what lies inside.
        method: takes and returns tensors, or mappings and sequences of them.
    """
    if enabled:
        setattr(module, method, partial(_checkpointed, module, method))
    else:
        vars(module).pop(method, None)


def checkpoint_stages(trunk: Any, stages: Collection[int]) -> None:
    """Switch gradient checkpointing on for every block of some stages and off for all others.

    Args:
        trunk: the backbone.
        stages: their indices.
    """
    for index, stage in enumerate(trunk.stages):
        for block in stage.children():
            set_grad_checkpointing(block, index in stages)


def _checkpointed(module: nn.Module, method: str, *inputs: Any) -> Any:
    compute = partial(getattr(type(module), method), module)
    if not torch.is_grad_enabled():
        return compute(*inputs)
    return checkpoint(
        compute,
        *inputs,
        use_reentrant=False,
        context_fn=lambda: (nullcontext(), _statistics_untouched(module)),
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
