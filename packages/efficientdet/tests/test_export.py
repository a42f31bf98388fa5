"""Exported detectors in their own runtimes, against PyTorch."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from compound.errors import UserError
from compound.export.program import Program
from compound.export.runtime import open_program
from compound.export.targets import TARGETS, write
from efficientdet import Detections, EfficientDet, create_model, load_exported
from efficientdet.export.detector_program import detector_program
from efficientdet.export.differences import compare
from efficientdet.export.suppress import suppress

SIZE, LEAST = 128, 0.05


@pytest.fixture(scope="module")
def model() -> EfficientDet:
    """Return a detector that finds things of all classes, many over each other."""
    torch.manual_seed(0)
    names = ("a", "b", "c")
    model = create_model(
        "efficientdet_lite0", num_classes=3, image_size=SIZE, class_names=names, fpn_cells=1,
        head_repeats=1,
    )  # fmt: skip
    torch.nn.init.normal_(model.class_head.predict.pointwise.weight, std=50.0)
    torch.nn.init.normal_(model.class_head.predict.pointwise.bias, -2.0)  # pyright: ignore[reportArgumentType]
    torch.nn.init.normal_(model.box_head.predict.pointwise.weight, std=2.0)
    return model.eval()


def pictures(count: int, height: int = SIZE, width: int = SIZE) -> Tensor:
    generator = torch.Generator().manual_seed(count)
    return torch.randint(0, 256, (count, 3, height, width), generator=generator, dtype=torch.uint8)


def same(found: list[Detections], wanted: list[Detections]) -> None:
    assert sum(len(of_picture.scores) for of_picture in wanted) > 20
    assert len(found) == len(wanted)
    difference = compare(wanted, found)
    assert difference.unmatched == 0
    assert difference.score < 1e-4
    assert difference.box < 0.02
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one.scores, other.scores, atol=1e-4, rtol=0)


NMS = {"score_threshold": LEAST, "max_candidates": 400, "max_detections": 30}


@pytest.fixture(scope="module", params=[None, NMS], ids=["outside", "inside"])
def program(request: pytest.FixtureRequest, model: EfficientDet) -> Program:
    return detector_program(model, nms=request.param)


@pytest.mark.parametrize(
    "target",
    [
        "pt2",
        pytest.param("onnx", marks=pytest.mark.extra("runtimes")),
        pytest.param("openvino", marks=pytest.mark.extra("runtimes")),
    ],
)
def test_finds_the_same(model: EfficientDet, program: Program, target: str, tmp_path: Path) -> None:
    path = tmp_path / f"network{TARGETS[target].suffix}"
    write(program, path, target)
    exported = load_exported(path)
    for images in (pictures(1), pictures(3)):
        found = exported.predict(images, **({} if exported.nms else NMS))
        same(found, model.predict(images, **NMS))
    assert exported.class_names == model.class_names
    assert exported.pad_colour == model.pad_colour


@pytest.mark.extra("runtimes")
def test_any_size_with_everything_inside(model: EfficientDet, tmp_path: Path) -> None:
    path = tmp_path / "network.onnx"
    nms = {"score_threshold": LEAST, "method": "fast"}
    write(detector_program(model, image_size=256, any_size=True, nms=nms), path, "onnx")
    exported = load_exported(path, image_size=[256, 384])
    for images in (pictures(1, 256, 384), pictures(2, 512, 256)):
        same(exported.predict(images), model.predict(images, **nms))
    for size, near in ((300, 384), (128, 256), (9000, 8192)):
        told = rf"image_size={size} x {size}: .*multiples of 128 .*image_size=\[{near},{near}\]"
        with pytest.raises(UserError, match=told):
            load_exported(path, image_size=size)
    with pytest.raises(UserError, match="image_size=256 x 300"):
        exported.predict(pictures(1, 256, 300))
    photo = np.random.default_rng(0).integers(0, 256, (200, 300, 3), np.uint8)
    usual = model.image_size
    model.image_size = (256, 384)
    wanted = model.predict(photo, **nms)
    model.image_size = usual
    same(exported.predict([photo]), wanted)


def test_what_was_settled(model: EfficientDet, tmp_path: Path) -> None:
    """After NMS a higher threshold and fewer detections can still be had, and nothing else."""
    path = tmp_path / "network.pt2"
    write(detector_program(model, nms={"score_threshold": LEAST}), path, "pt2")
    exported = load_exported(path)
    usual = model.predict(pictures(2), score_threshold=LEAST)
    high = float(usual[0].scores[20])
    for settings in ({"score_threshold": high + 1e-3}, {"max_detections": 21}, {"nms_iou": 0.5}):
        wanted = model.predict(pictures(2), **{"score_threshold": LEAST, **settings})
        same(exported.predict(pictures(2), **settings), wanted)
        assert "nms_iou" in settings or len(wanted[0].scores) < len(usual[0].scores)
    for word, value in (("nms_iou", 0.3), ("score_threshold", 0.01), ("max_detections", 101)):
        with pytest.raises(UserError, match=f"{word}={value}: .* NMS inside, settled with {word}="):
            exported.predict(pictures(1), **{word: value})
    with pytest.raises(UserError, match=r"sigma=0.3: a program with NMS inside has method"):
        exported.predict(pictures(1), sigma=0.3)
    with pytest.raises(UserError, match="image_size=256 x 256: this program takes 128 x 128 alone"):
        load_exported(path, image_size=256)


def test_soft_suppression_is_refused(model: EfficientDet) -> None:
    with pytest.raises(UserError, match="method=soft: runtimes suppress hard only"):
        detector_program(model, nms={"method": "soft"})


def test_suppression_by_hand() -> None:
    """Of two boxes over each other (IoU 9/11) the better stays, in its class alone."""
    boxes = torch.tensor([[[0, 0, 10, 10], [0, 0, 10, 9], [0, 1, 10, 10], [0, 0, 9, 9.0]]])
    scores = torch.tensor([[0.9, 0.8, 0.7, 0.0]])
    settings: dict[str, Any] = {"iou": 0.5, "count": 9}
    groups = torch.tensor([[0, 0, 1, 1]])
    kept = suppress(boxes, scores, groups, num_groups=2, **settings)
    assert kept.tolist() == [[True, False, True, False]]  # the last has no score
    kept = suppress(boxes, scores, torch.zeros_like(groups), num_groups=1, **settings)
    assert kept.tolist() == [[True, False, False, False]]


def test_compared_by_hand() -> None:
    """One is moved by 2 pixels and .1, one of no area is where it was, one is of another class."""
    boxes = torch.tensor([[0, 0, 100, 100], [5, 5, 5, 9], [50, 0, 60, 10.0]])
    wanted = Detections(boxes, torch.tensor([0.9, 0.8, 0.7]), torch.tensor([0, 1, 2]))
    moved = boxes + torch.tensor([[2.0], [0.0], [0.0]])
    found = Detections(moved, torch.tensor([0.8, 0.8, 0.7]), torch.tensor([0, 1, 0]))
    difference = compare([wanted], [found])
    assert difference.score == pytest.approx(0.1)
    assert difference.box == pytest.approx(2)
    assert difference.unmatched == pytest.approx(2 / 6)
    nothing = Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.long))
    assert compare([wanted], [nothing]) == (0, 0, 1)
    assert compare([nothing], [nothing]) == (0, 0, 0)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("efficientdet_d0", {}),
        ("efficientdet_d0", {"backbone": "efficientnetv2_b0"}),
        (
            "efficientdet_d7x",
            {"backbone": "efficientnet_b0", "fpn_channels": 16, "head_repeats": 1},
        ),
        ("efficientdet_d0", {"backbone": "timm/resnet10t"}),
    ],
)
@pytest.mark.parametrize("inside", [False, True])
def test_other_networks(tmp_path: Path, name: str, changes: dict[str, Any], inside: bool) -> None:
    """Swish, squeeze-and-excite, fused blocks, six levels, foreign backbones; one class."""
    torch.manual_seed(0)
    size = 256 if "d7x" in name else 128
    made = {"fpn_cells": 1, "num_classes": 1, "image_size": size, **changes}
    model = create_model(name, **made).eval()
    last = model.class_head.predict.pointwise
    images = pictures(2, size, size)
    with torch.no_grad():  # spread the logits, or scores would be equal, in any order
        last.bias.zero_()
        outputs = model(model.normalize(images))[0]
        last.weight *= 2 / torch.cat([level.flatten() for level in outputs]).std()
    nms = {"score_threshold": LEAST, "max_candidates": 300}
    path = tmp_path / "network.pt2"
    program = detector_program(
        model, nms=nms if inside else None, metrics={"val/mAP": 0.5}, license="mit"
    )
    write(program, path, "pt2")
    images = pictures(2, size, size)
    same(
        load_exported(path).predict(images, **({} if inside else nms)), model.predict(images, **nms)
    )
    told = open_program(path).metadata
    assert (told["metrics"], told["license"]) == ({"val/mAP": 0.5}, "mit")
