"""Reliability bins and the calibration error: by hand, by a loop, by torchmetrics."""

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import binary_calibration_error

from compound.report.calibration import calibrate


def test_bins_by_hand() -> None:
    scores = np.array([0.0, 0.1, 0.5, 0.51, 0.9, 1.0])
    right = np.array([False, True, True, False, True, True])
    ours = calibrate(scores, right, num_bins=2)
    assert ours.edges.tolist() == [0, 0.5, 1]
    # The edge 0.5 belongs to the first bin: scores 0, 0.1, 0.5 | 0.51, 0.9, 1.
    assert ours.counts.tolist() == [3, 3]
    assert ours.mean_scores == pytest.approx([0.6 / 3, 2.41 / 3])
    assert ours.right == pytest.approx([2 / 3, 2 / 3])
    # |2 - 0.6| / 3 and |2 - 2.41| / 3, either for half of all.
    assert ours.error == pytest.approx((1.4 / 3 + 0.41 / 3) / 2)


def test_empty_bins_and_nothing_at_all() -> None:
    ours = calibrate(np.array([0.95, 1 + 1e-7]), np.array([True, False]))
    assert ours.counts.tolist() == [0] * 9 + [2]
    assert np.isnan(ours.mean_scores[:9]).all()
    assert np.isnan(ours.right[:9]).all()
    nothing = calibrate(np.empty(0), np.empty(0, bool))
    assert nothing.counts.tolist() == [0] * 10
    assert np.isnan(nothing.error)


@pytest.mark.parity
@pytest.mark.parametrize("num_bins", [5, 10, 15])
def test_torchmetrics_agrees(num_bins: int) -> None:
    rng = np.random.default_rng(0)
    scores = rng.uniform(0.5, 1, 2000)
    right = rng.random(2000) < scores**2
    # Its binary form takes scores of a class and truths, which these are.
    theirs = binary_calibration_error(
        torch.from_numpy(scores), torch.from_numpy(right).long(), n_bins=num_bins
    )
    ours = calibrate(scores, right, num_bins=num_bins)
    assert ours.error == pytest.approx(float(theirs), abs=1e-6)
    assert ours.error > 0.1
