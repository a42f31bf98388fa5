"""Anchors against values worked out by hand."""

from typing import Any

import pytest
import torch
from effdet.anchors import Anchors

from efficientdet.anchors import make_anchors
from efficientdet.specs import Aspects


def close(actual: torch.Tensor, expected: list[list[float]]) -> None:
    torch.testing.assert_close(
        actual, torch.tensor(expected, dtype=torch.float32), rtol=0, atol=1e-3
    )


def test_nine_anchors_of_one_place() -> None:
    """They run by octave, then by aspect 1, 2, 1/2 of width over height."""
    anchors = make_anchors((128, 128), range(7, 8), scale=4.0)
    assert anchors.shape == (9, 4)
    assert anchors.dtype == torch.float32
    # Centre 64. Side 4 * 128 = 512 times 1, 2^(1/3) = 1.259921, 2^(2/3) = 1.587401; half sides
    # 256, 322.5398, 406.3747; times sqrt(2): 362.0387, 456.1401, 574.7006; over it: 181.0193,
    # 228.0701, 287.3503.
    halves = []
    for square, long, short in (
        (256.0, 362.0387, 181.0193),
        (322.5398, 456.1401, 228.0701),
        (406.3747, 574.7006, 287.3503),
    ):
        halves += [(square, square), (long, short), (short, long)]
    close(anchors, [[64 - w, 64 - h, 64 + w, 64 + h] for w, h in halves])


def test_places_run_by_rows_and_levels_follow() -> None:
    anchors = make_anchors((16, 32), range(3, 5), scale=4.0)
    # Level 3: 2 x 4 places of stride 8, half a side 16; level 4: 1 x 2 places of stride 16.
    assert len(anchors) == (8 + 2) * 9
    close(anchors[0:1], [[4 - 16, 4 - 16, 4 + 16, 4 + 16]])
    close(anchors[9:10], [[12 - 16, 4 - 16, 12 + 16, 4 + 16]])
    close(anchors[36:37], [[4 - 16, 12 - 16, 4 + 16, 12 + 16]])
    close(anchors[72:73], [[8 - 32, 8 - 32, 8 + 32, 8 + 32]])
    close(anchors[81:82], [[24 - 32, 8 - 32, 24 + 32, 8 + 32]])


def test_stride_that_is_not_whole() -> None:
    anchors = make_anchors((320, 320), range(7, 8), scale=4.0)
    # 3 places of stride 106.6667: centres 53.3333, 160, 266.6667; half a side 213.3333
    assert len(anchors) == 9 * 9
    close(anchors[0:1], [[-160.0, -160.0, 266.6667, 266.6667]])
    close(anchors[8 * 9 : 8 * 9 + 1], [[53.3333, 53.3333, 480.0, 480.0]])


def test_strides_differ_down_and_across() -> None:
    anchors = make_anchors((128, 320), range(7, 8), scale=3.0)
    # 1 x 3 places: strides 128 and 106.6667, half sides 192 and 160; the second centre 160, 64
    assert len(anchors) == 3 * 9
    close(anchors[9:10], [[0.0, -128.0, 320.0, 256.0]])


def test_rounded_aspects_have_sides_of_14_and_07() -> None:
    anchors = make_anchors((128, 128), range(7, 8), scale=4.0, aspects="rounded")
    # Centre 64, square half side 256: 1.4 * 256 = 358.4 and 0.7 * 256 = 179.2
    close(anchors[:3], [[-192, -192, 320, 320], [-294.4, -115.2, 422.4, 243.2],
                        [-115.2, -294.4, 243.2, 422.4]])  # fmt: skip


@pytest.mark.parity
@pytest.mark.parametrize(
    ("aspects", "theirs"),
    [("exact", [1.0, 2.0, 0.5]), ("rounded", [(1.0, 1.0), (1.4, 0.7), (0.7, 1.4)])],
)
@pytest.mark.parametrize(("size", "scale"), [((320, 320), 3.0), ((256, 384), 4.0)])
def test_equal_effdets(
    aspects: Aspects, theirs: list[Any], size: tuple[int, int], scale: float
) -> None:
    expected = Anchors(3, 7, 3, theirs, scale, size).boxes[:, [1, 0, 3, 2]]
    ours = make_anchors(size, range(3, 8), scale=scale, aspects=aspects)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-3)
