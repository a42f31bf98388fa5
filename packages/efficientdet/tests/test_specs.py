"""The published detectors: parameters and anchors, to the unit."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from backbone.specs import BASELINE
from compound.errors import UserError
from efficientdet.anchors import make_anchors
from efficientdet.models import create_model
from efficientdet.specs import EFFICIENTDET, DetSpec, both_sides

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
    "efficientdet_lite0": (3_243_470, 20_672 + 175_552, 88_398, 19_206),
    "efficientdet_lite1": (4_248_318, 28_424 + 362_472, 133_902, 27_621),
    "efficientdet_lite2": (5_252_334, 39_760 + 668_304, 186_318, 37_629),
    "efficientdet_lite3": (8_350_862, 61_920 + 1_497_440, 369_486, 49_104),
    "efficientdet_lite3x": (9_280_862, 77_400 + 2_255_800, 525_646, 76_725),
    "efficientdet_lite4": (15_130_894, 101_024 + 3_248_672, 631_630, 76_725),
}


def count(*modules: nn.Module) -> int:
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def test_every_detector_is_counted() -> None:
    assert list(NUMBERS) == list(EFFICIENTDET)


@pytest.mark.parametrize("name", NUMBERS)
def test_parameters(name: str) -> None:
    with torch.device("meta"):
        model = create_model(name)
    heads = count(model.class_head, model.box_head)
    assert (count(model), count(model.bifpn), heads) == NUMBERS[name][:3]


def test_80_classes_have_a_smaller_class_head() -> None:
    with torch.device("meta"):
        model = create_model("efficientdet_d0", num_classes=80)
    assert count(model) == 3_880_067 - 10 * 9 * (64 + 1)


@pytest.mark.parametrize("name", NUMBERS)
def test_anchors(name: str) -> None:
    spec = EFFICIENTDET[name]
    size = both_sides(spec.image_size)
    assert len(make_anchors(size, spec.levels, scale=spec.anchor_scale)) == NUMBERS[name][3]


@pytest.mark.real
@pytest.mark.parametrize("name", NUMBERS)
def test_table_is_the_official_one(name: str, compound_data: Path) -> None:
    """Every row against the official hyper-parameters, as the official code wrote them down."""
    table = json.loads((compound_data / "expected/tf/names/_totals_det.json").read_text())
    official, spec = table[name.replace("_", "-")], EFFICIENTDET[name]
    assert spec.backbone == official["backbone_name"].replace("-", "_")
    assert spec.image_size == official["image_size"]
    assert spec.fpn_channels == official["fpn_num_filters"]
    assert spec.fpn_cells == official["fpn_cell_repeats"]
    assert spec.head_repeats == official["box_class_repeats"]
    assert (spec.min_level, spec.max_level) == (official["min_level"], official["max_level"])
    assert spec.anchor_scale == official["anchor_scale"]
    assert spec.fusion == (official["fpn_weight_method"] or "fast")
    assert spec.act == {"swish": "silu", "relu6": "relu6"}[official["act_type"]]
    with torch.device("meta"):
        model = create_model(name)
    assert list(model.preprocessing.mean) == pytest.approx(numbers(official["mean_rgb"]))
    assert list(model.preprocessing.std) == pytest.approx(numbers(official["stddev_rgb"]))
    counters = "num_batches_tracked"
    total = sum(v.numel() for k, v in model.state_dict().items() if not k.endswith(counters))
    assert (count(model), total) == (official["trainable"], official["total"])


def numbers(value: float | list[float]) -> list[float]:
    return value if isinstance(value, list) else [value] * 3


def test_exceptions_of_the_table() -> None:
    """Only D0 trains its backbone without stochastic depth; D6 and up add without weights."""
    survivals = {name: spec.backbone_survival for name, spec in EFFICIENTDET.items()}
    assert survivals == {name: 1.0 if name == "efficientdet_d0" else 0.8 for name in NUMBERS}
    summing = {name for name, spec in EFFICIENTDET.items() if spec.fusion == "sum"}
    assert summing == {name for name in NUMBERS if "lite" in name or name[13:15] in ("d6", "d7")}
    long = {name for name, spec in EFFICIENTDET.items() if spec.epochs == 600}
    assert long == {"efficientdet_d7", "efficientdet_d7x"}
    assert {spec.epochs for spec in EFFICIENTDET.values()} == {300, 600}


def test_specs_survive_plain_values() -> None:
    spec = replace(
        EFFICIENTDET["efficientdet_d1"], backbone=BASELINE, image_size=(384, 512), aspects="rounded"
    )
    assert DetSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


@pytest.mark.parametrize("change", ["more", "fewer"])
def test_a_spec_of_another_version_is_one_line(change: str) -> None:
    values = EFFICIENTDET["efficientdet_d0"].to_dict()
    if change == "more":
        values["gates"] = 3
    else:
        del values["image_size"]
    with pytest.raises(UserError, match=r"efficientdet_d0 does not have.*(gates|image_size)"):
        DetSpec.from_dict(values)
