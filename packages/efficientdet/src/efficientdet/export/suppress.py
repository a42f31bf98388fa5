"""Hard non-maximum suppression as one operator, which a program can hold.

PyTorch computes it by torchvision, ONNX by its own ``NonMaxSuppression``. A ``.pt2`` that holds it
can be loaded where this module was imported.

Shapes: B = batch, C = candidates of a picture, best first.
"""

from typing import Any

import torch
from torch import Tensor

from efficientdet.postprocess import hard_nms


@torch.library.custom_op("efficientdet::suppress", mutates_args=())
def suppress(
    boxes: Tensor, scores: Tensor, groups: Tensor, iou: float, num_groups: int, count: int
) -> Tensor:
    """Return which candidates stay, ``(B, C)`` bool.

    Args:
        boxes: ``(B, C, 4)`` xyxy.
        scores: ``(B, C)``, falling; what has none is no candidate.
        groups: ``(B, C)`` in 0 to ``num_groups`` - 1; only boxes of one group suppress each other.
        iou: boxes that overlap more than this are one.
        num_groups: how many groups there are.
        count: at least so many of the best are told, where there are as many.
    """
    kept = torch.zeros_like(scores, dtype=torch.bool)
    for image in range(len(scores)):
        there = int((scores[image] > 0).sum())
        rows = (boxes[image, :there], scores[image, :there], groups[image, :there])
        kept[image, hard_nms(*rows, iou, count)] = True
    return kept


@suppress.register_fake
def _(
    boxes: Tensor, scores: Tensor, groups: Tensor, iou: float, num_groups: int, count: int
) -> Tensor:
    return torch.empty_like(scores, dtype=torch.bool)


def suppress_in_onnx(
    boxes: Any, scores: Any, groups: Any, iou: float, num_groups: int, count: int
) -> Any:
    """Say the same in ONNX's operators, for the exporter.

    ``NonMaxSuppression`` takes the score of every class for every box, here 0 but for one, and
    tells pictures, classes and boxes as rows of indices.
    """
    from onnxscript import opset18

    op: Any = opset18  # while it is exported its functions return what its annotations do not say
    own = op.OneHot(groups, op.Constant(value_int=num_groups), op.Constant(value_floats=[0.0, 1.0]))
    of_groups = op.Mul(op.Transpose(own, perm=[0, 2, 1]), op.Unsqueeze(scores, [1]))
    chosen = op.NonMaxSuppression(
        boxes,
        of_groups,
        op.Constant(value_ints=[count]),
        op.Constant(value_floats=[iou]),
        op.Constant(value_floats=[0.0]),
    )
    where = op.Gather(chosen, op.Constant(value_ints=[0, 2]), axis=1)
    none = op.Mul(scores, op.Constant(value_float=0.0))
    ones = op.Expand(
        op.Constant(value_floats=[1.0]),
        op.Shape(chosen, start=0, end=1),
    )
    return op.Cast(op.ScatterND(none, where, ones), to=9)


TRANSLATIONS = {torch.ops.efficientdet.suppress.default: suppress_in_onnx}
