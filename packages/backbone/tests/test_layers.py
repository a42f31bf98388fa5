"""SAME padding, squeeze-and-excitation and drop-connect against values worked out by hand.

Norm and activation at once against PyTorch's, one after the other.
"""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from backbone.layers import (
    Conv2dSame,
    ReLU6,
    SiLU,
    SqueezeExcite,
    batch_norm,
    drop_connect,
    max_pool_same,
    norm_act,
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


def saved_bytes(work: Callable[[], Tensor]) -> int:
    sizes: dict[int, int] = {}

    def pack(x: Tensor) -> Tensor:
        sizes[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        kept = work()  # alive, so that no two tensors have one address
    assert kept.requires_grad
    return sum(sizes.values())


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("frozen", [False, True])
def test_norm_and_swish_at_once_are_one_after_the_other(
    layout: torch.memory_format, frozen: bool
) -> None:
    torch.manual_seed(0)
    ours, plain = (nn.BatchNorm2d(6, eps=1e-3, momentum=0.1).double() for _ in range(2))
    for norm in (ours, plain):
        nn.init.normal_(norm.weight, generator=torch.Generator().manual_seed(1))
        nn.init.normal_(norm.bias, generator=torch.Generator().manual_seed(2))
        norm.bias.requires_grad_(not frozen)
    x = torch.randn(3, 6, 5, 7, dtype=torch.float64).contiguous(memory_format=layout) + 2
    xs = [x.clone(memory_format=torch.preserve_format).requires_grad_() for _ in range(2)]
    found, wanted = norm_act(xs[0], ours, SiLU()), F.silu(plain(xs[1]))
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)
    weights = torch.randn_like(found)
    for out in (found, wanted):
        (out * weights).sum().backward()
    torch.testing.assert_close(xs[0].grad, xs[1].grad, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(ours.weight.grad, plain.weight.grad, rtol=1e-10, atol=1e-12)
    assert (ours.bias.grad is None) == frozen
    if not frozen:
        torch.testing.assert_close(ours.bias.grad, plain.bias.grad, rtol=1e-10, atol=1e-12)
    for name, buffer in plain.named_buffers():
        torch.testing.assert_close(ours.get_buffer(name), buffer, rtol=1e-12, atol=1e-12)


def test_norm_and_swish_at_once_keep_one_map() -> None:
    norm, x = nn.BatchNorm2d(4), torch.randn(2, 4, 32, 32, requires_grad=True)
    one_map = x.untyped_storage().nbytes()
    assert one_map <= saved_bytes(lambda: norm_act(x, norm, SiLU())) < 1.1 * one_map
    assert saved_bytes(lambda: F.silu(norm(x))) >= 2 * one_map
    norm.eval()  # as where it is frozen
    torch.testing.assert_close(norm_act(x, norm, SiLU()), F.silu(norm(x)))


def test_relu6_learns_from_what_it_wrote() -> None:
    norm, x = nn.BatchNorm2d(4), torch.randn(2, 4, 32, 32, requires_grad=True)
    (ReLU6()(norm(x)) * 2).sum().backward()
    found, x.grad = x.grad, None
    (F.relu6(norm(x)) * 2).sum().backward()
    torch.testing.assert_close(found, x.grad)


@pytest.mark.parametrize("height", [1, 2, 3, 4, 5, 8, 13])
@pytest.mark.parametrize("stride", [(2, 2), (3, 2), (4, 1), (5, 3)])
def test_pooling_equals_a_border_of_minus_infinity(height: int, stride: tuple[int, int]) -> None:
    torch.manual_seed(height)
    kernel = [s + 1 if s > 1 else 1 for s in stride]
    for width in (1, 2, 7, 8):
        x = torch.randn(1, 2, height, width) - 5  # below 0, which a border of zeros would show
        rows, columns = (
            same_padding(*axis) for axis in zip(x.shape[2:], kernel, stride, strict=True)
        )
        bordered = F.pad(x, (*columns, *rows), value=float("-inf"))
        wanted = F.max_pool2d(bordered, kernel, stride)
        assert torch.equal(max_pool_same(x, kernel, stride), wanted)
