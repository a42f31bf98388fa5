"""The published networks, to the parameter."""

import pytest
import torch
from torch import nn

from backbone.efficientnet import EfficientNet
from backbone.specs import BASELINE, EFFICIENTNET

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
    assert sizes == [224, 240, 260, 300, 380, 456, 528, 600, 672, 800]
    dropouts = [spec.dropout for spec in EFFICIENTNET.values()]
    assert dropouts == [0.2, 0.2, 0.3, 0.3, 0.4, 0.4, 0.5, 0.5, 0.5, 0.5]
