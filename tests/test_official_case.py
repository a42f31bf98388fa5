"""Two whole networks equal Google's TensorFlow code, without anything beside the repository.

``official/*.npz`` are what `benchmarks/official_case.py` recorded of google/automl at 6a54c87
(tf2/efficientdet_keras.py, anchors.py, train_lib.py, postprocess.py; effnetv2_model.py) with
tensorflow-cpu 2.15.1, in float32.
"""

from pathlib import Path

import numpy as np
import official_case
import pytest
import torch
from torch import Tensor

import efficientdet
import efficientnetv2
from efficientdet import EfficientDet
from efficientdet.anchors import make_anchors
from efficientdet.loss import detection_loss
from efficientdet.matcher import assign
from efficientdet.postprocess import postprocess

Outputs = tuple[list[Tensor], list[Tensor]]
XYXY = [1, 0, 3, 2]  # the files have y before x
IMAGES = torch.from_numpy(official_case.image()).permute(0, 3, 1, 2)
# Today's, of which a checkpoint says nothing: a network from one has the published ones.
ANCHORS = make_anchors((official_case.SIZE,) * 2, official_case.LEVELS, scale=4.0)


def recorded(name: str) -> dict[str, np.ndarray]:
    with np.load(official_case.FOLDER / f"{name}.npz") as content:
        return dict(content)


def drawn_weights(official: dict[str, np.ndarray], path: Path) -> Path:
    """Write the weights of the recorded network by their official names."""
    variables = {}
    for line in official["variables"].tobytes().decode().splitlines():
        name, shape = line.split(" ")
        variables[name] = official_case.drawn(name, tuple(int(n) for n in shape.split(",") if n))
    np.savez(path, **variables)
    return path


@pytest.fixture(scope="module")
def official() -> dict[str, np.ndarray]:
    return recorded("efficientdet_d0")


@pytest.fixture(scope="module")
def model(
    official: dict[str, np.ndarray], tmp_path_factory: pytest.TempPathFactory
) -> EfficientDet:
    path = drawn_weights(official, tmp_path_factory.mktemp("official") / "d0.npz")
    return efficientdet.create_model("efficientdet_d0", weights=path).eval()


@pytest.fixture(scope="module")
def outputs(model: EfficientDet) -> Outputs:
    with torch.inference_mode():
        return model(IMAGES)


def test_outputs(model: EfficientDet, outputs: Outputs, official: dict[str, np.ndarray]) -> None:
    assert model.load_report is not None
    assert model.load_report.complete
    for kind, levels in zip(("cls", "box"), outputs, strict=True):
        for level, values in zip(official_case.LEVELS, levels, strict=True):
            found = official_case.thinned(level, values.permute(0, 2, 3, 1).numpy())
            wanted = official[f"{kind}_{level}"]
            assert found.shape == wanted.shape
            assert np.abs(found - wanted).max() < 1e-5 * np.abs(wanted).max(), (kind, level)


def test_targets_and_losses(outputs: Outputs, official: dict[str, np.ndarray]) -> None:
    np.testing.assert_allclose(ANCHORS, official["anchors"][:, XYXY], rtol=0, atol=1e-4)
    boxes = torch.tensor(official_case.BOXES)[:, XYXY]
    targets = assign(ANCHORS, [boxes], [torch.tensor(official_case.CLASSES) - 1])
    assert targets.anchors.tolist() == official["positive"].tolist()
    assert targets.labels.tolist() == official["positive_labels"].tolist()
    np.testing.assert_allclose(targets.codes, official["positive_codes"], rtol=0, atol=1e-6)
    loss = detection_loss(*outputs, targets)
    np.testing.assert_allclose([part.item() for part in loss], official["losses"], rtol=1e-5)


def test_detections(outputs: Outputs, official: dict[str, np.ndarray]) -> None:
    """The official Soft-NMS of each class, among the 5000 best pairs of anchor and class."""
    (found,) = postprocess(*outputs, ANCHORS, method="soft")
    assert (found.labels + 1).tolist() == official["detected_classes"].tolist()
    np.testing.assert_allclose(found.scores, official["detected_scores"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(
        found.boxes_xyxy, official["detected_boxes"][:, XYXY], rtol=0, atol=1e-3
    )


def test_a_classifier(tmp_path: Path) -> None:
    official = recorded("efficientnetv2_b0")
    path = drawn_weights(official, tmp_path / "b0.npz")
    model = efficientnetv2.create_model("efficientnetv2_b0", weights=path).eval()
    with torch.inference_mode():
        found = model(IMAGES).numpy()
    assert np.abs(found - official["logits"]).max() < 1e-5 * np.abs(official["logits"]).max()
