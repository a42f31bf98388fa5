"""Anchors, targets and losses equal those of the official TensorFlow code."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from efficientdet.anchors import make_anchors
from efficientdet.loss import detection_loss
from efficientdet.matcher import Targets, assign

pytestmark = pytest.mark.real
FOLDER = Path(os.environ.get("COMPOUND_DATA", ""), "expected/tf/efficientdet-d0")
CASES = ["b1_128x128", "b1_192x320_odd", "b2_256x256"]
XYXY = [1, 0, 3, 2]  # the files have y before x
LEVELS = range(3, 8)


def read(case: str, name: str) -> dict[str, np.ndarray]:
    with np.load(FOLDER / case / f"{name}.npz") as content:
        return dict(content)


def size_of(case: str) -> tuple[int, int]:
    _, height, width, _ = np.load(FOLDER / case / "input.npy", mmap_mode="r").shape
    return height, width


def anchors_of(case: str) -> Tensor:
    return make_anchors(size_of(case), LEVELS, scale=4.0)


def levels_of(content: dict[str, np.ndarray], name: str) -> list[Tensor]:
    """Return one ``(B, C, h, w)`` a level."""
    return [torch.from_numpy(content[f"{name}_{i}"].transpose(0, 3, 1, 2).copy()) for i in LEVELS]


def targets_of(case: str) -> Targets:
    labels = read(case, "labels")
    images = range(len(labels["num_positives"].reshape(-1)))
    boxes = [torch.from_numpy(labels[f"gt_boxes_{i}"][:, XYXY].copy()) for i in images]
    classes = [torch.from_numpy(labels[f"gt_classes_{i}"]).long().flatten() - 1 for i in images]
    return assign(anchors_of(case), boxes, classes)


@pytest.mark.parametrize("case", CASES)
def test_anchors(case: str) -> None:
    expected = torch.from_numpy(np.load(FOLDER / case / "anchors.npy")[:, XYXY].copy())
    torch.testing.assert_close(anchors_of(case), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("case", CASES)
def test_targets(case: str) -> None:
    labels, targets = read(case, "labels"), targets_of(case)
    batch = labels["num_positives"].size
    rows = [labels[f"cls_targets_{level}"].reshape(batch, -1) for level in LEVELS]
    classes = torch.from_numpy(np.concatenate(rows, 1))
    rows = [labels[f"box_targets_{level}"].reshape(batch, -1, 4) for level in LEVELS]
    codes = torch.from_numpy(np.concatenate(rows, 1))
    images, anchors = (classes >= 0).nonzero(as_tuple=True)
    assert torch.equal(targets.images, images)
    assert torch.equal(targets.anchors, anchors)
    assert torch.equal(targets.labels, classes[images, anchors].long())
    torch.testing.assert_close(targets.codes, codes[images, anchors], rtol=0, atol=1e-6)
    counts = torch.bincount(targets.images, minlength=batch).tolist()
    assert counts == labels["num_positives"].reshape(-1).tolist()


@pytest.mark.parametrize("case", CASES)
def test_losses_and_gradients(case: str) -> None:
    expected, outputs = read(case, "loss"), read(case, "outputs_ema")
    logits, codes = levels_of(outputs, "cls"), levels_of(outputs, "box")
    leaves = [x.requires_grad_() for x in logits + codes]
    loss = detection_loss(logits, codes, targets_of(case))
    for ours, name in zip(loss, ("total_loss", "cls_loss", "box_loss"), strict=True):
        assert ours.item() == pytest.approx(expected[name].item(), rel=1e-5), name
    gradients = torch.autograd.grad(loss.total, leaves)
    if "grad_cls_3" not in expected:
        return
    wanted = levels_of(expected, "grad_cls") + levels_of(expected, "grad_box")
    for gradient, reference in zip(gradients, wanted, strict=True):
        # A level without positives has no box gradient at all.
        assert (gradient - reference).norm() <= 1e-4 * reference.norm()


@pytest.mark.parametrize("case", CASES)
def test_label_smoothing(case: str) -> None:
    expected, outputs = read(case, "loss"), read(case, "outputs_ema")
    logits, codes = levels_of(outputs, "cls"), levels_of(outputs, "box")
    loss = detection_loss(logits, codes, targets_of(case), label_smoothing=0.1)
    assert loss.classes.item() == pytest.approx(expected["ls01_cls_loss"].item(), rel=1e-5)
    assert loss.total.item() == pytest.approx(expected["ls01_total_loss"].item(), rel=1e-5)
