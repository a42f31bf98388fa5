"""What is behind a classifier's score: by hand and by torchmetrics."""

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_confusion_matrix,
    multiclass_f1_score,
    multiclass_precision,
)

from backbone.classification.analysis import ClassAnalysis, Confused, analyse_classes

NAMES = ("cat", "dog", "elk")


def by_hand() -> ClassAnalysis:
    top_labels = np.array([[0, 1], [1, 0], [1, 2], [1, 0], [0, 2]])
    top_scores = np.array([[0.9, 0.1], [0.6, 0.3], [0.7, 0.2], [0.8, 0.1], [0.5, 0.4]])
    return analyse_classes(np.array([0, 0, 0, 1, 1]), top_labels, top_scores, NAMES)


def test_counts_by_hand() -> None:
    ours = by_hand()
    # cat -> cat once, cat -> dog twice, dog -> either once.
    assert ours.cells.tolist() == [[0, 1, 2], [0, 0, 1], [1, 0, 1], [1, 1, 1]]
    cat, dog, elk = ours.classes
    assert (cat.name, cat.count, cat.predicted) == ("cat", 3, 2)
    # One of the two that were taken for cats, one of three cats; 2 / (2 + 3).
    assert (cat.precision, cat.recall, cat.f1) == pytest.approx((1 / 2, 1 / 3, 2 / 5))
    assert (dog.precision, dog.recall, dog.f1) == pytest.approx((1 / 3, 1 / 2, 2 / 5))
    assert np.isnan([elk.precision, elk.recall, elk.f1]).all()
    assert ours.top1 == pytest.approx(2 / 5)
    assert np.isnan(ours.top5)  # only two classes were kept
    assert ours.mean_recall == pytest.approx((1 / 3 + 1 / 2) / 2)
    assert ours.confused == (Confused(0, 1, 2, 2 / 3), Confused(1, 0, 1, 1 / 2))
    # Bins (0.4, 0.5] ... (0.8, 0.9]: wrong, wrong, wrong, right, right.
    assert ours.calibration.counts.tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 1, 0]
    assert ours.calibration.error == pytest.approx((0.5 + 0.6 + 0.7 + 0.2 + 0.1) / 5)


def test_worst_to_best() -> None:
    ours = by_hand()
    # The right class's score less the other's; those of the third and the last were not kept.
    assert ours.margins == pytest.approx([0.8, -0.3, -0.7, 0.7, -0.5])
    assert ours.order.tolist() == [2, 4, 1, 3, 0]


def test_one_class_and_no_picture() -> None:
    ones = np.ones((2, 1))
    ours = analyse_classes(np.zeros(2, int), np.zeros((2, 1), int), ones, ["cat"])
    assert (ours.top1, ours.mean_recall, ours.confused) == (1, 1, ())
    assert ours.margins.tolist() == [1, 1]
    nothing = analyse_classes(np.empty(0, int), np.empty((0, 5), int), np.empty((0, 5)), NAMES)
    assert np.isnan([nothing.top1, nothing.top5, nothing.mean_recall]).all()
    assert len(nothing.cells) == 0
    assert len(nothing.order) == 0


@pytest.mark.parity
def test_torchmetrics_agrees() -> None:
    rng = np.random.default_rng(0)
    num_classes = 30
    labels = rng.integers(num_classes, size=500)
    logits = rng.normal(size=(500, num_classes))
    logits[np.arange(500), labels] += 1.5
    scores = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    top = np.argsort(-scores, axis=1)[:, :5]
    names = [str(i) for i in range(num_classes)]
    ours = analyse_classes(labels, top, np.take_along_axis(scores, top, 1), names)
    given = (torch.from_numpy(scores), torch.from_numpy(labels), num_classes)
    confusion = np.zeros((num_classes, num_classes), np.int64)
    confusion[ours.cells[:, 0], ours.cells[:, 1]] = ours.cells[:, 2]
    assert confusion.tolist() == multiclass_confusion_matrix(*given).tolist()
    assert (np.diff(ours.cells[:, 2]) <= 0).all()
    for k, share in ((1, ours.top1), (5, ours.top5)):
        theirs = multiclass_accuracy(*given, average="micro", top_k=k)
        assert share == pytest.approx(float(theirs))
    assert ours.mean_recall == pytest.approx(float(multiclass_accuracy(*given, average="macro")))
    for name, metric in (("precision", multiclass_precision), ("f1", multiclass_f1_score)):
        theirs = metric(*given, average="none").tolist()
        assert [getattr(row, name) for row in ours.classes] == pytest.approx(theirs, abs=1e-6)
    most = ours.confused[0]
    errors = confusion - np.diag(confusion.diagonal())
    assert most.count == errors.max() == errors[most.truth, most.predicted]
    assert len(ours.confused) == 20
