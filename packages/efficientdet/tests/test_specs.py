"""The published detectors: parameters and anchors, to the unit."""

import pytest
import torch
from torch import nn

from efficientdet.anchors import make_anchors
from efficientdet.efficientdet import EfficientDet
from efficientdet.specs import EFFICIENTDET

# name: trainable parameters with 90 classes (official tests for D0 to D7), BiFPN, both heads,
# anchors at the native size
NUMBERS = {
    "efficientdet_d0": (3_880_067, 20_672 + 175_609, 88_398, 49_104),
    "efficientdet_d1": (6_625_898, 28_424 + 362_548, 133_902, 76_725),
    "efficientdet_d2": (8_097_039, 39_760 + 668_399, 186_318, 110_484),
    "efficientdet_d3": (12_032_296, 61_920 + 1_497_554, 369_486, 150_381),
    "efficientdet_d4": (20_723_675, 101_024 + 3_248_805, 631_630, 196_416),
    "efficientdet_d5": (33_653_315, 148_320 + 5_257_573, 959_310, 306_900),
    "efficientdet_d6": (51_871_782, 222_336 + 10_361_472, 1_883_982, 306_900),
    "efficientdet_d7": (51_871_782, 222_336 + 10_361_472, 1_883_982, 441_936),
    "efficientdet_d7x": (77_147_166, 246_912 + 12_865_152, 1_891_662, 442_260),
}


def count(*modules: nn.Module) -> int:
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def test_every_detector_is_counted() -> None:
    assert list(NUMBERS) == list(EFFICIENTDET)


@pytest.mark.parametrize("name", NUMBERS)
def test_parameters(name: str) -> None:
    with torch.device("meta"):
        model = EfficientDet(EFFICIENTDET[name], num_classes=90)
    heads = count(model.class_head, model.box_head)
    assert (count(model), count(model.bifpn), heads) == NUMBERS[name][:3]


def test_80_classes_have_a_smaller_class_head() -> None:
    with torch.device("meta"):
        model = EfficientDet(EFFICIENTDET["efficientdet_d0"], num_classes=80)
    assert count(model) == 3_880_067 - 10 * 9 * (64 + 1)


@pytest.mark.parametrize("name", NUMBERS)
def test_anchors(name: str) -> None:
    spec = EFFICIENTDET[name]
    size = (spec.image_size, spec.image_size)
    assert len(make_anchors(size, spec.levels, scale=spec.anchor_scale)) == NUMBERS[name][3]


def test_exceptions_of_the_table() -> None:
    """Only D0 trains its backbone without stochastic depth; D6 and up add without weights."""
    specs = list(EFFICIENTDET.values())
    assert [s.name[13:] for s in specs if s.backbone_survival != 0.8] == ["d0"]
    assert EFFICIENTDET["efficientdet_d0"].backbone_survival == 1.0
    assert [s.name[13:] for s in specs if s.fusion == "sum"] == ["d6", "d7", "d7x"]
    assert [s.anchor_scale for s in specs] == [4.0] * 7 + [5.0, 4.0]
    assert [s.levels.stop - 1 for s in specs] == [7] * 8 + [8]
