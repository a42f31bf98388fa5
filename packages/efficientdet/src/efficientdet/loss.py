"""The detection loss: focal loss on classes, Huber loss on box codes.

Official `det_model_fn.py`: alpha 0.25, gamma 1.5; delta 0.1, weight 50; both sums are divided by
the positives of the batch plus one, the box loss also by its four codes.

Shapes: B = batch, A = anchors a place, K = classes, P = positives.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from efficientdet.anchors import ANCHORS_PER_PLACE
from efficientdet.matcher import Targets


class DetectionLoss(NamedTuple):
    """Scalars; ``total = classes + box_weight * boxes``."""

    total: Tensor
    classes: Tensor
    boxes: Tensor


class _BackgroundFocalLoss(torch.autograd.Function):
    """Sum of the focal loss if all were background, ``(1 - alpha) p^gamma ce``.

    ``ce = softplus(x) - h x`` is the cross entropy with a target of h, half the smoothing. Nearly
    all of the loss's work is here, so the gradient is worked out with the value and only it is
    kept: d/dx = (1 - alpha) p^gamma (gamma (1 - p) ce + p - h), with p = sigmoid(x).
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, alpha: float, gamma: float, target: float) -> Tensor:
        x = logits.float()
        p = x.sigmoid()
        entropy = F.softplus(x)
        if target:
            entropy = entropy.sub_(x, alpha=target)
        modulation = p.pow(gamma).mul_(1 - alpha)
        ctx.save_for_backward(
            (entropy * (1 - p)).mul_(gamma).add_(p).sub_(target).mul_(modulation).to(logits.dtype)
        )
        return (modulation * entropy).sum()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * grad, None, None, None


def focal_loss(
    class_logits: Sequence[Tensor],
    targets: Targets,
    *,
    alpha: float = 0.25,
    gamma: float = 1.5,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Sum the sigmoid focal loss (arXiv:1708.02002, Eq. 5) over every anchor and class.

    Args:
        class_logits: one ``(B, A * K, h, w)`` a level.
        targets: the positives.
        alpha: weight of the positive entries; the negative ones weigh ``1 - alpha``.
        gamma: exponent that turns down what is already right.
        label_smoothing: share of each target that becomes one half. As officially, only the cross
            entropy sees it, not the weights.
    """
    half = label_smoothing / 2
    loss = sum(_BackgroundFocalLoss.apply(logits, alpha, gamma, half) for logits in class_logits)
    # The entries of the positives were counted as background: take that out, put theirs in.
    x = torch.cat(
        [
            _unflatten(logits)[images, anchors, labels, places]
            for logits, images, anchors, places, labels in _by_level(
                class_logits, targets, targets.labels
            )
        ]
    ).float()
    p = x.sigmoid()
    positive = alpha * (1 - p).pow(gamma) * (F.softplus(-x) + half * x)
    background = (1 - alpha) * p.pow(gamma) * (F.softplus(x) - half * x)
    return loss + (positive - background).sum()


def box_loss(box_codes: Sequence[Tensor], targets: Targets, *, delta: float = 0.1) -> Tensor:
    """Sum the Huber loss over the codes of the positives.

    A target code of exactly zero does not count: the official mask is element-wise.

    Args:
        box_codes: one ``(B, A * 4, h, w)`` a level.
        targets: the positives.
        delta: where the loss turns from square to linear.
    """
    parts = [
        F.huber_loss(
            _unflatten(codes)[images, anchors, :, places].float(),
            wanted,
            reduction="none",
            delta=delta,
        ).mul(wanted != 0)
        for codes, images, anchors, places, wanted in _by_level(box_codes, targets, targets.codes)
    ]
    return torch.cat(parts).sum()


def detection_loss(
    class_logits: Sequence[Tensor],
    box_codes: Sequence[Tensor],
    targets: Targets,
    *,
    alpha: float = 0.25,
    gamma: float = 1.5,
    delta: float = 0.1,
    box_weight: float = 50.0,
    label_smoothing: float = 0.0,
) -> DetectionLoss:
    """Return the training loss of a batch; see `focal_loss` and `box_loss`."""
    normalizer = len(targets.labels) + 1.0
    classes = focal_loss(
        class_logits, targets, alpha=alpha, gamma=gamma, label_smoothing=label_smoothing
    ).div(normalizer)
    boxes = box_loss(box_codes, targets, delta=delta) / (4 * normalizer)
    return DetectionLoss(classes + box_weight * boxes, classes, boxes)


def _unflatten(output: Tensor) -> Tensor:
    """View a level's ``(B, A * C, h, w)`` as ``(B, A, C, h * w)``."""
    return output.unflatten(1, (ANCHORS_PER_PLACE, -1)).flatten(3)


def _by_level(
    outputs: Sequence[Tensor], targets: Targets, values: Tensor
) -> list[tuple[Tensor, Tensor, Tensor, Tensor, Tensor]]:
    """Split the positives by level: output, picture, anchor at its place, place, value."""
    parts, start = [], 0
    for output in outputs:
        stop = start + ANCHORS_PER_PLACE * output.shape[-2] * output.shape[-1]
        here = ((targets.anchors >= start) & (targets.anchors < stop)).nonzero().squeeze(1)
        local = targets.anchors[here] - start
        places = local.div(ANCHORS_PER_PLACE, rounding_mode="floor")
        parts.append(
            (output, targets.images[here], local % ANCHORS_PER_PLACE, places, values[here])
        )
        start = stop
    return parts
