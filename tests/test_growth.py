"""The arithmetic of ``benchmarks/growth.py`` and ``benchmarks/roofline.py``."""

import pytest
import roofline
import torch
from growth import Line
from torch.utils.flop_counter import FlopCounterMode

from efficientdet import create_model


def test_exponent_is_the_slope_of_the_logarithms() -> None:
    line = Line("side", "ours", (1, 2, 4), seconds=[3.0, 12.0, 48.0], gibibytes=[5.0, 5.0, 5.0])
    assert line.exponents() == (pytest.approx(2.0), pytest.approx(0.0))


def test_operations_are_those_that_pytorch_counts() -> None:
    with torch.device("meta"), FlopCounterMode(display=False) as counter, torch.no_grad():
        create_model("efficientdet_d0")(torch.empty(1, 3, 512, 512))
    forward = list(roofline._layers(1, 4, train=False))
    assert sum(work.operations for work in forward) == counter.get_total_flops()
    step = list(roofline._layers(1, 4, train=True))
    assert sum(work.operations for work in step) == 3 * counter.get_total_flops()


def test_bytes_of_the_stem() -> None:
    forward, step = (list(roofline._layers(1, 4, train=train)) for train in (False, True))
    # 3 x 512 x 512 in, 32 x 256 x 256 out, a kernel of 3 x 3 x 3 x 32
    assert forward[0].bytes == 4 * (786_432 + 2_097_152 + 864)
    assert step[0].bytes == 3 * forward[0].bytes
    assert step[1].bytes == 8 * 4 * 2_097_152  # its norm
