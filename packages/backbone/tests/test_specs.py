"""The published networks, to the parameter."""

import json

import pytest
import torch
from torch import nn

from backbone.efficientnet import EfficientNet
from backbone.models import create_model
from backbone.specs import BASELINE, EFFICIENTNET, NetSpec, scale
from compound.errors import UserError

# name: trainable parameters, also without head and classifier (official tests for B0 to B7)
PARAMETERS = {
    "efficientnet_b0": (5_288_548, 3_595_388),
    "efficientnet_b1": (7_794_184, 6_101_024),
    "efficientnet_b2": (9_109_994, 7_202_562),
    "efficientnet_b3": (12_233_232, 10_103_336),
    "efficientnet_b4": (19_341_616, 16_742_216),
    "efficientnet_b5": (30_389_784, 27_288_112),
    "efficientnet_b6": (43_040_704, 39_403_992),
    "efficientnet_b7": (66_347_960, 62_143_440),
    "efficientnet_b8": (87_413_142, 82_608_046),
    "efficientnet_l2": (480_309_308, 467_219_796),
    # official Lite tests; trunks as in the EfficientDet-Lite detectors
    "efficientnet_lite0": (4_652_008, 2_958_848),
    "efficientnet_lite1": (5_416_680, 3_723_520),
    "efficientnet_lite2": (6_092_072, 4_357_952),
    "efficientnet_lite3": (8_197_096, 6_422_016),
    "efficientnet_lite4": (13_006_568, 11_149_568),
}


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def build(name: str, *, num_classes: int = 1000) -> EfficientNet:
    with torch.device("meta"):
        return EfficientNet(EFFICIENTNET[name], num_classes=num_classes)


def test_every_network_is_counted() -> None:
    assert list(PARAMETERS) == list(EFFICIENTNET)


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters(name: str) -> None:
    model = build(name)
    assert (count(model), count(model.trunk)) == PARAMETERS[name]


def test_parameters_with_100_classes() -> None:
    assert count(build("efficientnet_b0", num_classes=100)) == 4_135_648


def test_baseline_is_b0() -> None:
    assert EFFICIENTNET["efficientnet_b0"] == BASELINE
    assert scale(0.0, name="efficientnet_b0") == BASELINE


def test_any_phi_gives_a_network() -> None:
    # phi = 1 with the paper's constants: depth 1.2, width 1.1, resolution 224 * 1.15 = 257.6
    spec = scale(1.0)
    assert (spec.name, spec.image_size) == ("efficientnet_b0_phi1", 258)
    assert [(stage.channels, stage.layers) for stage in spec.stages] == [
        (16, 2), (24, 3), (48, 3), (88, 4), (120, 4), (208, 5), (352, 2)
    ]  # fmt: skip
    smaller = scale(-2.5, alpha=1.3, beta=1.05, gamma=1.2)
    # width 1.05 ** -2.5 = 0.885: 32 * 0.885 = 28.3 -> 32 (28.3 + 4 = 32.3); 1280 * 0.885 = 1133
    assert (smaller.stem, smaller.head, smaller.image_size) == (32, 1136, 142)
    assert [stage.layers for stage in smaller.stages] == [1, 2, 2, 2, 2, 3, 1]  # * 0.519, up
    model = create_model(scale(0.5), num_classes=3)
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 3)


@pytest.mark.parametrize("bad", [{"alpha": 0.0}, {"beta": -1.0}, {"phi": float("nan")}])
def test_scaling_needs_sound_coefficients(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="bases above 0"):
        scale(**{"phi": 1.0} | bad)


def test_lite_keeps_its_ends() -> None:
    spec = EFFICIENTNET["efficientnet_lite4"]  # width 1.4, depth 1.8
    assert (spec.stem, spec.head, spec.style.act) == (32, 1280, "relu6")
    assert [(stage.channels, stage.layers) for stage in spec.stages] == [
        (24, 1), (32, 4), (56, 4), (112, 6), (160, 6), (272, 8), (448, 1)
    ]  # fmt: skip
    assert not any(stage.se_ratio for stage in spec.stages)


def test_crops_are_those_of_the_published_weights() -> None:
    crops = [EFFICIENTNET[f"efficientnet_b{i}"].preprocessing.crop for i in range(9)]
    published = [0.875, 0.882, 0.890, 0.904, 0.922, 0.934, 0.943, 0.949, 0.955]
    assert crops == pytest.approx(published, abs=6e-4)


@pytest.mark.parametrize("name", EFFICIENTNET)
def test_specs_travel_as_plain_values(name: str) -> None:
    spec = EFFICIENTNET[name]
    assert NetSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


@pytest.mark.parametrize("change", ["more", "fewer"])
def test_a_spec_of_another_version_is_one_line(change: str) -> None:
    values = EFFICIENTNET["efficientnet_b0"].to_dict()
    if change == "more":
        values["gates"] = 3
    else:
        del values["image_size"]
    with pytest.raises(UserError, match=r"efficientnet_b0 does not have.*(gates|image_size)"):
        NetSpec.from_dict(values)


def test_b3_rows() -> None:
    spec = EFFICIENTNET["efficientnet_b3"]
    assert (spec.stem, spec.head, spec.image_size, spec.dropout) == (40, 1536, 300, 0.3)
    assert [(stage.channels, stage.layers) for stage in spec.stages] == [
        (24, 2), (32, 3), (48, 3), (96, 5), (136, 5), (232, 6), (384, 2)
    ]  # fmt: skip
    kernels_and_strides = [(stage.kernel, stage.stride) for stage in spec.stages]
    assert kernels_and_strides == [(3, 1), (3, 2), (5, 2), (3, 2), (5, 1), (5, 2), (3, 1)]


def test_published_sizes_and_dropouts() -> None:
    sizes = [spec.image_size for spec in EFFICIENTNET.values()]
    assert sizes == [224, 240, 260, 300, 380, 456, 528, 600, 672, 800, 224, 240, 260, 280, 300]
    dropouts = [spec.dropout for spec in EFFICIENTNET.values()]
    assert dropouts == [
        0.2, 0.2, 0.3, 0.3, 0.4, 0.4, 0.5, 0.5, 0.5, 0.5, 0.2, 0.2, 0.3, 0.3, 0.3
    ]  # fmt: skip
