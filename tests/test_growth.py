"""The arithmetic of ``benchmarks/growth.py``."""

import pytest
from growth import Line


def test_exponent_is_the_slope_of_the_logarithms() -> None:
    line = Line("side", "ours", (1, 2, 4), seconds=[3.0, 12.0, 48.0], gibibytes=[5.0, 5.0, 5.0])
    assert line.exponents() == (pytest.approx(2.0), pytest.approx(0.0))
