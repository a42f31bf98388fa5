"""How well anchors fit, better ones, and that a training takes them."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from effdet.anchors import Anchors
from torchvision.ops import box_iou

from compound.errors import UserError
from compound.weights import read_file
from efficientdet.anchors import make_anchors
from efficientdet.doctor.coverage import (
    AnchorShapes,
    Coverage,
    best_iou,
    by_size,
    coverage_of,
    small_finding,
    smallest_side,
)
from efficientdet.doctor.evolution import kmeans, propose, starts
from efficientdet.doctor.fit import overrides, proposal_finding, to_dict, to_yaml
from efficientdet.models import create_model
from efficientdet.specs import EFFICIENTDET, DetSpec

LEVELS = range(3, 8)
SIZE = (256, 384)
WHERE: dict[str, Any] = {"size": SIZE, "levels": LEVELS}
FREE = AnchorShapes(2.5, (1.0, 6.0, 0.2), (1.0, 1.3, 1.7))


def random_boxes(count: int, *, aspect: float = 1.0, side: tuple[float, float] = (6, 180)) -> Any:
    """Return boxes in a picture of `SIZE`, ``aspect`` times as wide as high or so."""
    rng = np.random.default_rng(0)
    sides = np.exp(rng.uniform(*np.log(side), count))
    ratios = aspect * np.exp(rng.normal(0, 0.15, count))
    wide, high = sides * np.sqrt(ratios), sides / np.sqrt(ratios)
    x, y = (rng.uniform(0, 1, count) * np.maximum(limit - s, 1) for limit, s in
            ((SIZE[1], wide), (SIZE[0], high)))  # fmt: skip
    return np.stack([x, y, x + wide, y + high], 1)


@pytest.mark.parametrize("shapes", [AnchorShapes(4.0), AnchorShapes(3.0, "rounded"), FREE])
@pytest.mark.parametrize("size", [SIZE, (320, 320), (100, 300)])
def test_best_iou_is_that_of_all_anchors(shapes: AnchorShapes, size: tuple[int, int]) -> None:
    boxes = random_boxes(300, aspect=1.5)
    anchors = make_anchors(
        size, LEVELS, scale=shapes.scale, aspects=shapes.aspects, octaves=shapes.octaves
    )
    expected = box_iou(torch.from_numpy(boxes), anchors.double()).amax(1)
    found = best_iou(boxes, shapes, size=size, levels=LEVELS)
    torch.testing.assert_close(torch.from_numpy(found), expected, rtol=0, atol=1e-6)


@pytest.mark.parity
def test_free_anchors_equal_effdets() -> None:
    theirs = Anchors(3, 7, 3, [1.0, 6.0, 0.2], 2.5, SIZE).boxes[:, [1, 0, 3, 2]]
    ours = make_anchors(SIZE, LEVELS, scale=2.5, aspects=(1.0, 6.0, 0.2))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-3)


def test_coverage_by_cocos_sizes() -> None:
    found = by_size(np.array([0.5, 0.4, 0.9]), np.array([1023.0, 1024.0, 9216.0]))
    assert found["all"] == Coverage(3, pytest.approx(2 / 3), pytest.approx(0.6))
    assert found["small"] == (1, 1.0, 0.5)
    assert found["medium"] == (1, 0.0, pytest.approx(0.4))
    assert found["large"] == (1, 1.0, 0.9)
    assert list(by_size(np.array([0.5]), np.array([9.0]))) == ["all", "small"]


def test_boxes_smaller_than_the_smallest_anchor() -> None:
    shapes = AnchorShapes(4.0)
    assert smallest_side(shapes, SIZE, LEVELS) == pytest.approx(32)  # 4 strides of 8
    boxes = np.array([[0, 0, 31, 31], [0, 0, 16, 65], [0, 0, 33, 33.0]])  # 961, 1040, 1089
    (finding,) = small_finding("train", boxes, shapes, **WHERE)
    assert finding.text.startswith("train: 1 of 3 boxes (33.3%) are smaller than the smallest")
    assert small_finding("train", boxes[1:], shapes, **WHERE) == []
    assert small_finding("train", boxes[:0], shapes, **WHERE) == []


def test_kmeans_finds_three_heaps() -> None:
    heaps = [np.random.default_rng(i).normal(place, 0.1, 50) for i, place in enumerate((0, 2, 7))]
    wanted = [heap.mean() for heap in heaps]
    assert kmeans(np.concatenate(heaps[::-1])) == pytest.approx(wanted)
    assert kmeans(np.full(5, 3.0)) == pytest.approx([3, 3, 3])


@pytest.mark.parametrize("aspect", [6.0, 1 / 6])
def test_odd_shapes_get_anchors_of_their_own(aspect: float) -> None:
    boxes, present = random_boxes(1500, aspect=aspect, side=(20, 90)), AnchorShapes(4.0)
    before = coverage_of(best_iou(boxes, present, **WHERE))
    kept = propose(boxes, present, generations=0, **WHERE)
    found = propose(boxes, present, generations=150, **WHERE)
    after_kmeans, after = (coverage_of(best_iou(boxes, s, **WHERE)) for s in (kept, found))
    assert before.recall < 0.2
    assert after_kmeans.recall > 0.8
    assert after.recall + after.mean_iou > after_kmeans.recall + after_kmeans.mean_iou
    assert after.recall > 0.95
    assert not isinstance(found.aspects, str)
    assert all(0.5 < ratio / aspect < 2 for ratio in found.aspects)
    middle, wide, tall = found.aspects  # in the order of the published ones
    assert tall <= middle <= wide
    assert proposal_finding(before, after, found).severity == "warning"  # type: ignore[union-attr]


def test_anchors_that_fit_are_kept() -> None:
    """Boxes that are the anchors themselves cannot be fitted better."""
    present = AnchorShapes(4.0)
    anchors = make_anchors(SIZE, LEVELS, scale=4.0).double().numpy()
    boxes = anchors[np.random.default_rng(0).choice(len(anchors), 500)]
    assert propose(boxes, present, generations=40, **WHERE) == present
    now = coverage_of(best_iou(boxes, present, **WHERE))
    assert now.mean_iou == pytest.approx(1, abs=1e-6)
    assert proposal_finding(now, now, present) is None


def test_starts_have_every_octave() -> None:
    """Sides of 8 * 2 ** (1/4): whatever the level, a quarter of an octave above a power of two."""
    half = 8 * 2**0.25 / 2
    boxes = np.array([[100 - half * f, 100 - half * f, 100 + half * f, 100 + half * f]
                      for f in (1, 2, 4)])  # fmt: skip
    for shapes in starts(boxes, 4.0):
        fractions = np.log2(shapes.scale * np.array(shapes.octaves)) % 1
        assert fractions == pytest.approx([0.25] * 3, abs=1e-3)
    assert {round(s.scale, 2) for s in starts(boxes, 4.0)} == {1.19, 2.38, 4.76, 9.51}


def test_proposal_is_taken_by_a_model_and_travels_with_it() -> None:
    fit = {"all": Coverage(10, 0.25, 0.4)}
    text = to_yaml(FREE, size=SIZE, now=fit, then={"all": Coverage(10, 0.75, 0.6)})
    assert "For model.image_size=[256,384]. " in text
    assert "all 0.250 -> 0.750" in text
    assert text.startswith("# @package _global_\n")
    values = yaml.safe_load(text)["model"]
    assert values == to_dict(FREE)
    assert overrides(FREE) == (
        "'model.anchor_scale=2.5' 'model.aspects=[1,6,0.2]' 'model.octaves=[1,1.3,1.7]'"
    )
    model = create_model("efficientdet_lite0", num_classes=2, image_size=SIZE, **values)
    assert AnchorShapes.of(model.spec) == FREE
    anchors = model.anchors(torch.zeros(1, 3, *SIZE))
    sides = anchors[:9, 2:] - anchors[:9, :2]
    assert (sides[:, 0] / sides[:, 1]).tolist() == pytest.approx([1, 6, 0.2] * 3, rel=1e-5)
    # Octave by octave: areas (2.5 strides of 8 pixels)^2 = 400, times 1.69, times 2.89
    areas = [400.0] * 3 + [676.0] * 3 + [1156.0] * 3
    assert sides.prod(1).tolist() == pytest.approx(areas, rel=1e-5)
    assert DetSpec.from_dict(json.loads(json.dumps(model.spec.to_dict()))) == model.spec


def test_checkpoints_keep_anchors_and_older_ones_have_the_published(tmp_path: Any) -> None:
    from compound.weights.files import save_weights

    model = create_model("efficientdet_lite0", num_classes=2, image_size=64, **to_dict(FREE))
    path = tmp_path / "own.safetensors"
    told = {"model": model.spec.to_dict(), "class_names": ["a", "b"]}
    save_weights(path, model.state_dict(), told)
    again = create_model("efficientdet_lite0", num_classes=2, weights=path)
    assert AnchorShapes.of(again.spec) == FREE
    other = create_model("efficientdet_lite0", num_classes=2, weights=path, octaves=[1, 1.2, 1.5])
    assert (other.spec.octaves, other.spec.aspects) == ((1, 1.2, 1.5), FREE.aspects)
    stored = read_file(path).metadata["model"]
    del stored["octaves"]
    assert DetSpec.from_dict(stored).octaves == EFFICIENTDET["efficientdet_lite0"].octaves


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"aspects": [1.0, 2.0]}, r"model.aspects=\[1.0, 2.0\]: expected exact, rounded or three"),
        ({"aspects": [1.0, 2.0, -1]}, r"model.aspects=.*numbers above 0, such as \[1.0,2.0,0.5\]"),
        ({"aspects": [1.0, 2.0, "x"]}, "model.aspects="),
        ({"aspects": [1.0, 2.0, float("nan")]}, "model.aspects="),
        ({"aspects": 2.0}, "model.aspects=2.0: expected"),
        ({"aspects": "wide"}, "model.aspects 'wide' is unknown"),
        ({"octaves": "exact"}, "model.octaves=exact: expected three numbers above 0"),
        ({"octaves": [1, 2, True]}, "model.octaves="),
        ({"octaves": [1, 2, float("inf")]}, "model.octaves="),
        ({"anchor_scale": 0}, "model.anchor_scale=0: expected a number of strides"),
        ({"anchor_scale": "big"}, "model.anchor_scale=big"),
    ],
)
def test_anchors_that_are_none_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as told:
        replace(EFFICIENTDET["efficientdet_d0"], **change)
    assert "\n" not in str(told.value)
