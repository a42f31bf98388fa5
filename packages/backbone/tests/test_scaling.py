"""Rounding rules of compound scaling, worked out by hand."""

import pytest

from backbone.scaling import round_channels, round_layers


@pytest.mark.parametrize(
    ("channels", "width", "expected"),
    [
        (32, 1.0, 32),
        (32, 1.1, 32),  # 35.2 + 4 = 39.2 -> 32; 32 >= 0.9 * 35.2 = 31.68
        (80, 1.1, 88),  # 88.0 + 4 = 92 -> 88
        (40, 1.4, 56),  # 56.0
        (16, 1.2, 24),  # 19.2 + 4 = 23.2 -> 16 < 0.9 * 19.2 = 17.28, so one step up
        (32, 1.2, 40),  # 38.4 + 4 = 42.4 -> 40
        (12, 1.0, 16),  # 12 + 4 = 16: halfway goes up
        (3, 1.0, 8),  # never below the divisor
        (1280, 4.3, 5504),  # 5504.0
    ],
)
def test_round_channels(channels: int, width: float, expected: int) -> None:
    assert round_channels(channels, width) == expected


@pytest.mark.parametrize(
    ("layers", "depth", "expected"),
    [
        (1, 1.0, 1),
        (1, 1.1, 2),  # 1.1
        (3, 1.2, 4),  # 3.6
        (4, 3.1, 13),  # 12.4
        (2, 2.0, 4),
    ],
)
def test_round_layers(layers: int, depth: float, expected: int) -> None:
    assert round_layers(layers, depth) == expected


def test_v2_rounds_to_the_nearest_whatever_it_takes_away() -> None:
    # 16 * 1.2 = 19.2 + 4 = 23.2 -> 16, which V1 would raise to 24
    assert round_channels(16, 1.2, max_loss=1.0) == 16
    assert round_channels(3, 1.0, max_loss=1.0) == 8
