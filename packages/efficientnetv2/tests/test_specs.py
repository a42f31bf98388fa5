"""The published V2 networks, to the parameter."""

import pytest
import torch
from torch import nn

from backbone import EfficientNet
from compound.errors import UserError
from efficientnetv2 import EFFICIENTNETV2, create_model, list_models

# name: trainable parameters, and all with the norms' statistics (official unit test)
PARAMETERS = {
    "efficientnetv2_s": (21_458_488, 21_612_360),
    "efficientnetv2_m": (54_139_356, 54_431_388),
    "efficientnetv2_l": (118_515_272, 119_027_848),
    "efficientnetv2_xl": (208_119_808, 208_896_832),
    "efficientnetv2_b0": (7_139_704, 7_200_312),
    "efficientnetv2_b1": (8_141_052, 8_212_124),
    "efficientnetv2_b2": (10_096_086, 10_178_374),
    "efficientnetv2_b3": (14_358_406, 14_467_622),
}


def test_every_network_is_counted() -> None:
    assert list(PARAMETERS) == list(EFFICIENTNETV2) == list_models()


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters(name: str) -> None:
    with torch.device("meta"):
        model = create_model(name)
    trainable = sum(p.numel() for p in model.parameters())
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert (trainable, trainable + 2 * sum(m.num_features for m in norms)) == PARAMETERS[name]
    assert {m.momentum for m in norms} == {0.1}


def test_b3_has_no_ten_percent_rule() -> None:
    spec = EFFICIENTNETV2["efficientnetv2_b3"]
    assert (spec.stem, spec.head) == (40, 1536)
    assert [(stage.channels, stage.layers) for stage in spec.stages] == [
        (16, 2), (40, 3), (56, 3), (112, 5), (136, 7), (232, 12)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("key", "channels"),
    [
        ("s", [24, 48, 64, 160, 256]),
        ("m", [24, 48, 80, 176, 512]),
        ("l", [32, 64, 96, 224, 640]),
        ("xl", [32, 64, 96, 256, 640]),
        ("b0", [16, 32, 48, 112, 192]),
    ],
)
def test_levels(key: str, channels: list[int]) -> None:
    with torch.device("meta"):
        trunk = EfficientNet(EFFICIENTNETV2[f"efficientnetv2_{key}"]).trunk
    assert trunk.channels == dict(enumerate(channels, start=1))


def test_published_sizes_and_dropouts() -> None:
    found = [(spec.image_size, spec.dropout) for spec in EFFICIENTNETV2.values()]
    assert found == [
        (384, 0.2), (480, 0.3), (480, 0.4), (512, 0.4),
        (224, 0.2), (240, 0.2), (260, 0.3), (300, 0.3),
    ]  # fmt: skip
    # At 320 pixels and above the official evaluation squashes the whole picture.
    # The official `preprocess_for_eval` crops below 320 pixels, whatever the network.
    small = create_model("efficientnetv2_s", num_classes=2, image_size=256)
    assert small.spec.preprocessing.crop == 256 / 288
    assert (
        create_model("efficientnetv2_s", num_classes=2, image_size=320).spec.preprocessing.crop
        is None
    )
    crops = [spec.preprocessing.crop for spec in EFFICIENTNETV2.values()]
    assert crops == [None] * 4 + [224 / 256, 240 / 272, 260 / 292, 300 / 332]


def test_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean efficientnetv2_"):
        create_model("efficientnetv2_z")
