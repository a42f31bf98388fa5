"""The two layers that BiFPN and heads share."""

import torch.nn.functional as F
from torch import Tensor, nn

from backbone.layers import Conv2dSame, max_pool_same


class SeparableConv(nn.Sequential):
    """Depthwise 3x3 without bias, then pointwise 1x1 with the only bias."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.depthwise = Conv2dSame(in_channels, in_channels, 3, groups=in_channels, bias=False)
        self.pointwise = nn.Conv2d(in_channels, out_channels, 1)


def resize_to(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Bring a feature map to ``size`` as the official resampling does.

    Larger maps shrink by max-pooling with SAME padding, of stride ``ceil(h / target)`` and a
    kernel one larger; smaller ones grow by nearest neighbour. Each axis goes its own way, so
    that any picture size works (the official code refuses maps that differ on one axis only).

    Args:
        x: ``(B, C, H, W)``.
        size: target height and width.
    """
    strides = [-(-now // target) for now, target in zip(x.shape[-2:], size, strict=True)]
    if max(strides) > 1:
        x = max_pool_same(x, [s + 1 if s > 1 else 1 for s in strides], strides)
    return x if tuple(x.shape[-2:]) == size else F.interpolate(x, size, mode="nearest")
