"""Compound scaling: how a width and a depth coefficient turn a baseline into a larger network.

The rounding rules are those of the official code (tensorflow/tpu, `efficientnet_model.py`), which
the published checkpoints depend on.
"""

import math

CHANNEL_DIVISOR = 8


def round_channels(channels: int, width: float) -> int:
    """Scale a channel count by ``width`` and round it to a multiple of 8.

    Rounds to the nearest multiple, never below 8, and up by one step where rounding would take
    away more than 10 % (`round_filters` of the official code).

    Args:
        channels: the baseline's channel count.
        width: the width coefficient (1.0 for B0, 2.0 for B7).
    """
    scaled = channels * width
    rounded = max(
        CHANNEL_DIVISOR, int(scaled + CHANNEL_DIVISOR / 2) // CHANNEL_DIVISOR * CHANNEL_DIVISOR
    )
    return rounded + CHANNEL_DIVISOR if rounded < 0.9 * scaled else rounded


def round_layers(layers: int, depth: float) -> int:
    """Scale a stage's number of layers by ``depth``, rounding up (`round_repeats`)."""
    return math.ceil(layers * depth)
