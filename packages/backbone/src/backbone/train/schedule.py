"""Learning-rate schedules as pure functions of the step."""

import math


def warmup_cosine(step: int, *, total: int, warmup: int, warmup_start: float = 0.1) -> float:
    """Return the factor on the peak learning rate: linear warm-up, then half a cosine to zero.

    The official EfficientDet code leaves the cosine unshifted by the warm-up, so that it is zero
    one warm-up before the end and rises again; here it is zero at the end. At 300 epochs with
    one of warm-up the two differ by less than 0.6 % of the peak.

    Args:
        step: optimizer steps taken so far, from 0.
        total: optimizer steps of the whole training.
        warmup: steps of the warm-up.
        warmup_start: factor at step 0 (official: 0.008 / 0.08).
    """
    if step < warmup:
        return warmup_start + (1 - warmup_start) * step / warmup
    progress = min((step - warmup) / max(total - warmup, 1), 1.0)
    return 0.5 * (1 + math.cos(math.pi * progress))
