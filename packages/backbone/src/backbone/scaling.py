"""Compound scaling: how width, depth and resolution coefficients turn a baseline into a network.

The rounding rules are those of the official code (tensorflow/tpu, `efficientnet_model.py`, and
google/automl, `effnetv2_model.py`), which the published checkpoints depend on.
"""

import math
from dataclasses import dataclass

CHANNEL_DIVISOR = 8
# V1's rounding never takes away more than a tenth of the channels; V2's has no such rule.
V1_MAX_LOSS = 0.1


@dataclass(frozen=True, slots=True)
class Coefficients:
    """What one network multiplies its baseline's depth, width and resolution with."""

    depth: float
    width: float
    resolution: float


def compound_coefficients(
    phi: float, *, alpha: float = 1.2, beta: float = 1.1, gamma: float = 1.15
) -> Coefficients:
    """Return depth ``alpha ** phi``, width ``beta ** phi`` and resolution ``gamma ** phi``.

    The multiply-adds grow by ``(alpha * beta**2 * gamma**2) ** phi``, about 2 ** phi with the
    paper's constants (arXiv:1905.11946, Sec. 3.3, Eq. 3).

    Args:
        phi: the compound coefficient, any real number; 0 is the baseline, below it is smaller.
        alpha: base of the depth, above 0.
        beta: base of the width, above 0.
        gamma: base of the resolution, above 0.

    Raises:
        ValueError: a base is not above 0, or ``phi`` is not finite.
    """
    if min(alpha, beta, gamma) <= 0 or not math.isfinite(phi):
        raise ValueError(
            f"alpha={alpha}, beta={beta}, gamma={gamma}, phi={phi}: expected bases above 0 "
            "and a finite phi"
        )
    return Coefficients(depth=alpha**phi, width=beta**phi, resolution=gamma**phi)


def round_channels(channels: int, width: float, *, max_loss: float = V1_MAX_LOSS) -> int:
    """Scale a channel count by ``width`` and round it to a multiple of 8.

    Rounds to the nearest multiple, never below 8, and up by one step where rounding would take
    away more than ``max_loss`` of it (`round_filters` of the official code).

    Args:
        channels: the baseline's channel count.
        width: the width coefficient (1.0 for B0, 2.0 for B7).
        max_loss: share in 0..1; 1 is V2's rule, which rounds to the nearest multiple only.
    """
    scaled = channels * width
    rounded = max(
        CHANNEL_DIVISOR, int(scaled + CHANNEL_DIVISOR / 2) // CHANNEL_DIVISOR * CHANNEL_DIVISOR
    )
    return rounded + CHANNEL_DIVISOR if rounded < (1 - max_loss) * scaled else rounded


def round_layers(layers: int, depth: float) -> int:
    """Scale a stage's number of layers by ``depth``, rounding up (`round_repeats`)."""
    return math.ceil(layers * depth)
