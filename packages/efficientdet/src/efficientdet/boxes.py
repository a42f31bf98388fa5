"""Box codes: how far a box lies from an anchor (Faster R-CNN's coder without scale factors).

Boxes are xyxy in pixels; codes are ``(ty, tx, th, tw)`` as in the official weights.
"""

import torch
from torch import Tensor

# Official box coder: keeps logarithms of empty boxes finite.
_EPS = 1e-8


def encode(boxes: Tensor, anchors: Tensor) -> Tensor:
    """Return the codes of ``boxes`` ``(N, 4)`` relative to ``anchors`` ``(N, 4)``."""
    x, y, w, h = _centre_size(boxes)
    ax, ay, aw, ah = _centre_size(anchors)
    aw, ah, w, h = aw + _EPS, ah + _EPS, w + _EPS, h + _EPS
    return torch.stack(((y - ay) / ah, (x - ax) / aw, (h / ah).log(), (w / aw).log()), -1)


def decode(codes: Tensor, anchors: Tensor) -> Tensor:
    """Return the xyxy boxes ``(..., 4)`` that ``codes`` mean; the exponent is not clamped."""
    ty, tx, th, tw = codes.unbind(-1)
    ax, ay, aw, ah = _centre_size(anchors)
    x, y = tx * aw + ax, ty * ah + ay
    half_w, half_h = tw.exp() * aw / 2, th.exp() * ah / 2
    return torch.stack((x - half_w, y - half_h, x + half_w, y + half_h), -1)


def _centre_size(boxes: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    x0, y0, x1, y1 = boxes.unbind(-1)
    return (x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0
