"""BiFPN: the graph, the fusion and the resampling against values worked out by hand."""

import torch

from efficientdet.bifpn import BiFPN, FusionNode, bifpn_nodes
from efficientdet.layers import resize_to


def test_nodes_of_levels_3_to_7() -> None:
    assert bifpn_nodes(3, 7) == [
        (6, (3, 4)),  # 5: top-down P6
        (5, (2, 5)),  # 6
        (4, (1, 6)),  # 7
        (3, (0, 7)),  # 8: P3 out
        (4, (1, 7, 8)),  # 9: P4 out
        (5, (2, 6, 9)),  # 10
        (6, (3, 5, 10)),  # 11
        (7, (4, 11)),  # 12: P7 out
    ]


def test_nodes_of_levels_3_to_8() -> None:
    assert bifpn_nodes(3, 8) == [
        (7, (4, 5)),
        (6, (3, 6)),
        (5, (2, 7)),
        (4, (1, 8)),
        (3, (0, 9)),
        (4, (1, 9, 10)),
        (5, (2, 8, 11)),
        (6, (3, 7, 12)),
        (7, (4, 6, 13)),
        (8, (5, 14)),
    ]


def test_fast_fusion_literal() -> None:
    node = FusionNode([1, 1, 1], 1, fusion="fast", act="silu")
    assert node.weights is not None
    assert node.weights.tolist() == [1.0, 1.0, 1.0]
    node.weights.data = torch.tensor([1.0, -1.0, 3.0])
    # relu -> 1, 0, 3, of sum 4: (1 * 2 + 0 * 5 + 3 * 6) / (4 + 0.0001) = 20 / 4.0001
    fused = node.fuse([torch.full((1, 1, 1, 1), x) for x in (2.0, 5.0, 6.0)])
    torch.testing.assert_close(fused.item(), 4.999875, rtol=1e-6, atol=0)


def test_all_weights_below_zero_give_zero_and_no_nan() -> None:
    node = FusionNode([1, 1], 1, fusion="fast", act="silu")
    assert node.weights is not None
    node.weights.data = torch.tensor([-1.0, -2.0])
    fused = node.fuse([torch.ones(1, 1, 1, 1), torch.ones(1, 1, 1, 1)])
    assert fused.item() == 0.0


def test_sum_fusion_has_no_weights() -> None:
    node = FusionNode([1, 1, 1], 1, fusion="sum", act="silu")
    assert node.weights is None
    fused = node.fuse([torch.full((1, 1, 1, 1), x) for x in (2.0, 5.0, 6.0)])
    assert fused.item() == 13.0


def grid(height: int, width: int) -> torch.Tensor:
    return torch.arange(height * width, dtype=torch.float32).view(1, 1, height, width)


def test_odd_map_shrinks() -> None:
    # stride (5 - 1) // 3 + 1 = 2, kernel 3, padding (1, 1): windows 0..1, 1..3, 3..4 on each
    # axis, of which the last place is the largest; one hundred less shows a border of zeros.
    shrunk = resize_to(grid(5, 5) - 100, (3, 3))
    expected = torch.tensor([[6.0, 8.0, 9.0], [16.0, 18.0, 19.0], [21.0, 23.0, 24.0]]) - 100
    torch.testing.assert_close(shrunk[0, 0], expected)


def test_one_axis_shrinks() -> None:
    # rows: stride 2, kernel 3, padding (0, 1): windows 0..2 and 2..3; columns stay
    shrunk = resize_to(grid(4, 3) - 100, (2, 3))
    expected = torch.tensor([[6.0, 7.0, 8.0], [9.0, 10.0, 11.0]]) - 100
    torch.testing.assert_close(shrunk[0, 0], expected)


def test_map_grows_to_the_nearest() -> None:
    # rows floor(i * 2 / 3) = 0 0 1, columns floor(i * 2 / 5) = 0 0 0 1 1
    grown = resize_to(grid(2, 2), (3, 5))
    expected = [[0.0, 0, 0, 1, 1], [0, 0, 0, 1, 1], [2, 2, 2, 3, 3]]
    torch.testing.assert_close(grown[0, 0], torch.tensor(expected))


def test_one_axis_shrinks_while_the_other_grows() -> None:
    shrunk = resize_to(grid(4, 1), (2, 3))
    torch.testing.assert_close(shrunk[0, 0], torch.tensor([[2.0] * 3, [3.0] * 3]))


def test_single_place() -> None:
    x = torch.tensor(-3.0).view(1, 1, 1, 1)
    assert resize_to(x, (1, 1)) is x
    torch.testing.assert_close(resize_to(x, (4, 2)), torch.full((1, 1, 4, 2), -3.0))
    torch.testing.assert_close(resize_to(grid(2, 2), (1, 1)).item(), 3.0)


def test_sizes_of_all_levels() -> None:
    torch.manual_seed(0)
    bifpn = BiFPN({3: 5, 4: 6, 5: 8}, 8, cells=2, max_level=8, fusion="fast", act="silu").eval()
    sizes = {3: (17, 25), 4: (9, 13), 5: (5, 7)}
    features = {level: torch.randn(2, {3: 5, 4: 6, 5: 8}[level], *sizes[level]) for level in sizes}
    outputs = bifpn(features)
    sizes |= {6: (3, 4), 7: (2, 2), 8: (1, 1)}
    assert {level: tuple(x.shape) for level, x in outputs.items()} == {
        level: (2, 8, *size) for level, size in sizes.items()
    }


def test_inputs_that_fit_need_no_1x1() -> None:
    """P3 has one 1x1, P4 and P5 two of their own each, in the first cell only."""
    bifpn = BiFPN({3: 5, 4: 6, 5: 7}, 8, cells=2, max_level=7, fusion="fast", act="silu")
    laterals = [name for name, _ in bifpn.named_modules() if name.endswith(".conv")]
    assert [name for name in laterals if "laterals" in name] == [
        "cells.0.nodes.1.laterals.0.conv",
        "cells.0.nodes.2.laterals.0.conv",
        "cells.0.nodes.3.laterals.0.conv",
        "cells.0.nodes.4.laterals.0.conv",
        "cells.0.nodes.5.laterals.0.conv",
    ]
