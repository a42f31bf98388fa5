"""What is done to boxes that do not lie inside their picture; every reader's go through here."""

import numpy as np

# COCO rounds x, y, w and h to 0.01 px each, so sound boxes overshoot the border by that much.
CLIP_TOLERANCE = 0.05
OUTSIDE = "boxes outside the picture dropped"


def repair_boxes(
    raw: np.ndarray, sizes: np.ndarray
) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Return ``(N, 4)`` clipped boxes, the ``(N,)`` mask of those to keep, and of each repair."""
    limits = np.concatenate([sizes, sizes], axis=1)
    boxes = np.clip(raw, 0, limits)
    extent = raw[:, 2:] - raw[:, :2]
    inverted = (extent < 0).any(axis=1)
    flat = ~inverted & (extent == 0).any(axis=1)
    # float32 is what trains: a sliver that rounds to nothing there is as empty as any other.
    stored = boxes.astype(np.float32)
    sound = ~inverted & ~flat
    outside = sound & (stored[:, 2:] <= stored[:, :2]).any(axis=1)
    keep = sound & ~outside
    clipped = keep & (np.abs(boxes - raw) > CLIP_TOLERANCE).any(axis=1)
    repaired = {
        "inverted boxes dropped": inverted,
        "zero-size boxes dropped": flat,
        OUTSIDE: outside,
        "boxes clipped to the picture": clipped,
    }
    return boxes, keep, {name: mask for name, mask in repaired.items() if mask.any()}
