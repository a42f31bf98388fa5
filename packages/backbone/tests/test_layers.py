"""SAME padding, squeeze-and-excitation and drop-connect against values worked out by hand."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from backbone.layers import (
    Conv2dSame,
    SqueezeExcite,
    batch_norm,
    drop_connect,
    max_pool_same,
    same_padding,
)
from backbone.specs import LayerStyle


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "expected"),
    [
        (8, 3, 1, (1, 1)),
        (8, 3, 2, (0, 1)),  # (4 - 1) * 2 + 3 - 8 = 1
        (7, 3, 2, (1, 1)),  # (4 - 1) * 2 + 3 - 7 = 2
        (8, 5, 2, (1, 2)),  # 6 + 5 - 8 = 3
        (7, 5, 2, (2, 2)),  # 6 + 5 - 7 = 4
        (1, 5, 2, (2, 2)),  # 0 + 5 - 1 = 4
        (4, 1, 2, (0, 0)),  # 2 + 1 - 4 < 0
    ],
)
def test_same_padding(size: int, kernel: int, stride: int, expected: tuple[int, int]) -> None:
    assert same_padding(size, kernel, stride) == expected


# left, right, top, bottom: the width decides on the first pair, the height on the second
@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding"),
    [
        ((8, 8), 3, 2, (0, 1, 0, 1)),
        ((7, 8), 3, 2, (0, 1, 1, 1)),
        ((7, 7), 3, 2, (1, 1, 1, 1)),
        ((8, 7), 5, 2, (2, 2, 1, 2)),
        ((5, 6), 5, 1, (2, 2, 2, 2)),
    ],
)
def test_convolution_equals_explicit_padding(
    size: tuple[int, int], kernel: int, stride: int, padding: tuple[int, int, int, int]
) -> None:
    torch.manual_seed(0)
    conv = Conv2dSame(4, 6, kernel, stride, groups=2)
    x = torch.randn(2, 4, *size)
    expected = F.conv2d(F.pad(x, padding), conv.weight, conv.bias, stride, groups=2)
    torch.testing.assert_close(conv(x), expected)
    assert conv(x).shape[-2:] == (-(-size[0] // stride), -(-size[1] // stride))


@pytest.mark.parametrize("size", [4, 5])
def test_pooling_border_is_never_the_largest(size: int) -> None:
    x = -1.0 - torch.arange(size * size, dtype=torch.float32).view(1, 1, size, size)
    pooled = max_pool_same(x, (3, 3), (2, 2))
    # Values fall along rows and columns, so that the first place of each window is its largest:
    # size 4 pads (0, 1), windows begin at 0 and 2; size 5 pads (1, 1): 0 (inside), 1 and 3.
    first = torch.tensor([0, 2] if size == 4 else [0, 1, 3])
    torch.testing.assert_close(pooled[0, 0], x[0, 0][first][:, first])


def test_batch_norm_is_the_official_one() -> None:
    norm = batch_norm(1)
    # momentum: 0.01 * 5 of the new mean; epsilon: (1 - 0) / sqrt(0.003 + 0.001) = 15.8114
    norm(torch.tensor([4.0, 6.0]).view(2, 1, 1, 1))
    assert norm.running_mean is not None
    assert norm.running_mean.item() == pytest.approx(0.05)
    norm.eval().load_state_dict(
        {"running_mean": torch.zeros(1), "running_var": torch.full((1,), 0.003)}, strict=False
    )
    assert norm(torch.ones(1, 1, 1, 1)).item() == pytest.approx(15.8114, rel=1e-5)


def test_squeeze_excite_literal() -> None:
    layer = SqueezeExcite(1, 1, LayerStyle())
    for conv in (layer.reduce, layer.expand):
        nn.init.constant_(conv.weight, 2.0)
        nn.init.constant_(conv.bias, -1.0)
    # mean 1 -> 2 * 1 - 1 = 1 -> silu 0.731059 -> 2 * 0.731059 - 1 = 0.462117 -> sigmoid 0.613517
    x = torch.tensor([0.0, 2.0]).view(1, 1, 1, 2)
    torch.testing.assert_close(layer(x).flatten(), torch.tensor([0.0, 1.227035]))


def test_drop_connect_drops_whole_samples_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    dropped = drop_connect(torch.ones(10_000, 2, 1, 3), 0.8)
    assert set(dropped.unique().tolist()) == {0.0, 1.25}  # 1 / 0.8
    assert (dropped == dropped[:, :1, :, :1]).all()
    # Standard deviation of the mean: sqrt(0.2 / 0.8) / 100 = 0.005.
    assert dropped.mean().item() == pytest.approx(1.0, abs=0.02)


def test_drop_connect_of_survival_1_changes_nothing() -> None:
    x = torch.randn(4, 2, 3, 3)
    assert drop_connect(x, 1.0) is x
