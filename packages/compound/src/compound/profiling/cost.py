"""What a network costs: parameters and multiply-adds, layer by layer."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True, slots=True)
class Cost:
    """Trainable parameters, and multiply-adds of convolutions and linear layers for one picture."""

    parameters: int
    macs: int


def measure(model: nn.Module, images: Tensor) -> dict[str, Cost]:
    """Return the cost of every part of a network, by its dotted name; the whole is ``""``.

    Nothing is computed if both are on the device ``meta``. As in the papers' FLOPs, batch norms,
    activations and pooling do not count (arXiv:1905.11946, Table 2).

    Args:
        model: the network, in evaluation mode.
        images: ``(1, C, H, W)``; their values do not matter.
    """
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(images)
    whole = type(model).__name__
    operations = {
        name: sum(by_kind.values()) for name, by_kind in counter.get_flop_counts().items()
    }
    costs = {}
    for name, part in model.named_modules():
        parameters = sum(p.numel() for p in part.parameters() if p.requires_grad)
        # The counter counts a multiply-add as two operations.
        macs = operations.get(f"{whole}.{name}" if name else whole, 0) // 2
        costs[name] = Cost(parameters, macs)
    return costs
