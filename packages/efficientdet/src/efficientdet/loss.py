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


# Picture, anchor at its place, class, place.
Places = tuple[Tensor, Tensor, Tensor, Tensor]

# Entries that a CPU works on at a time: a megabyte in 32 bits, so that what lies between the steps
# stays in its cache.
_CACHED = 2**18
# The same for a GPU, whose memory need not hold several copies of all.
_ON_GPU = 2**24


class _FocalLoss(torch.autograd.Function):
    """Sum of the focal loss of a level; its gradient is worked out with it, and alone kept."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, where: Places, alpha: float, gamma: float, half: float
    ) -> Tensor:
        """Count every entry as background, then the few that are not as what they are."""
        if not logits.is_contiguous(memory_format=torch.channels_last):
            logits = logits.contiguous()
        # Slopes of background are below what 16 bits hold until the loss is scaled.
        half_precision = logits.dtype == torch.float16
        gradient = torch.empty_like(logits, dtype=torch.float32 if half_precision else None)
        ctx.dtype = logits.dtype
        loss = torch.zeros((), device=logits.device)
        size = _ON_GPU if logits.is_cuda else _CACHED
        for x, out in zip(_flat(logits).split(size), _flat(gradient).split(size), strict=True):
            costs, slopes = _background(x.float(), 1 - alpha, gamma, half)
            loss += costs.sum()
            out.copy_(slopes)
        images, anchors, labels, places = where
        x = _unflatten(logits)[images, anchors, labels, places].float()
        costs, slopes = _background(-x, alpha, gamma, half)  # a positive, mirrored
        loss += (costs - _background(x, 1 - alpha, gamma, half)[0]).sum()
        _unflatten(gradient)[images, anchors, labels, places] = -slopes.to(gradient.dtype)
        ctx.save_for_backward(gradient)
        return loss

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None, None]:
        """Scale the gradient in place; autograd refuses a second time."""
        (gradient,) = ctx.saved_tensors
        return gradient.mul_(grad).to(ctx.dtype), None, None, None, None


def _background(x: Tensor, weight: float, gamma: float, half: float) -> tuple[Tensor, Tensor]:
    """Return cost and slope of background entries, ``weight * p^gamma * ce``.

    ``p = sigmoid(x)`` and ``ce = softplus(x) - h x``, the cross entropy with a target of h; the
    slope is ``weight * p^gamma * (gamma (1 - p) ce + p - h)``.
    """
    entropy = F.softplus(x)
    log_p = x - entropy
    p = log_p.exp()
    modulation = log_p.mul_(gamma).exp_().mul_(weight)
    if half:
        entropy.sub_(x, alpha=half)
    slopes = torch.addcmul(p, entropy, 1 - p, value=gamma)
    if half:
        slopes.sub_(half)
    return entropy.mul_(modulation), slopes.mul_(modulation)


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
    parts = _by_level(class_logits, targets, targets.labels)
    return sum(
        (
            _FocalLoss.apply(logits, (images, anchors, labels, places), alpha, gamma, half)
            for logits, images, anchors, places, labels in parts
        ),
        start=torch.zeros((), device=class_logits[0].device),
    )


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


def _flat(output: Tensor) -> Tensor:
    """View every entry in a row, in the order of memory where that is a usual one."""
    if output.is_contiguous(memory_format=torch.channels_last):
        output = output.permute(0, 2, 3, 1)
    return output.view(-1)


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
