"""Detectors as folders of the Hugging Face hub; nothing here reaches the hub."""

import json
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard
from torch import Tensor, nn

from backbone import EfficientNet
from compound.errors import UserError
from compound.weights import metadata_of, read_file
from efficientdet import EfficientDet, create_model

NAMES = ["cat", "dog", "owl"]
SETTINGS: dict[str, dict[str, Any]] = {
    "lite0": {"name": "efficientdet_lite0", "image_size": 128},
    "v2, anchors of its own": {
        "name": "efficientdet_d0",
        "image_size": (96, 128),
        "backbone": "efficientnetv2_b0",
        "aspects": [1.0, 2.5, 0.4],
        "octaves": [1.0, 1.3, 1.7],
        "anchor_scale": 3.5,
    },
    "timm's, more levels": {
        "name": "efficientdet_lite0",
        "image_size": 128,
        "backbone": "timm/resnet10t",
        "max_level": 8,
    },
}


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no network in this test")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def build(case: str) -> EfficientDet:
    torch.manual_seed(0)
    model = create_model(**SETTINGS[case], num_classes=3, class_names=NAMES).eval()
    for layer in model.modules():  # as after a training, so that each would be missed
        if isinstance(layer, nn.BatchNorm2d) and layer.running_mean is not None:
            layer.running_mean.normal_(std=0.1)
    return model


@pytest.mark.parametrize("case", SETTINGS)
def test_a_folder_loads_to_equal_outputs(case: str, tmp_path: Path) -> None:
    model = build(case)
    again = EfficientDet.from_pretrained(model.save_pretrained(tmp_path / "owls"))
    assert not again.training
    assert (again.spec, again.class_names) == (model.spec, tuple(NAMES))
    assert (again.image_size, again.preprocessing) == (model.image_size, model.preprocessing)
    shape = (2, 3, *model.image_size)
    images = torch.randint(0, 256, shape, dtype=torch.uint8)
    with torch.inference_mode():
        outputs = [net(net.normalize(images)) for net in (model, again)]
    for ours, theirs in zip(*outputs, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(ours, theirs, strict=True))
    for ours, theirs in zip(model.predict(images), again.predict(images), strict=True):
        assert all(torch.equal(x, y) for x, y in zip(ours, theirs, strict=True))


def test_what_weights_say_and_the_card(tmp_path: Path) -> None:
    model = build("v2, anchors of its own")
    about: dict[str, Any] = {"metrics": {"val/mAP": 0.31}, "license": "apache-2.0"}
    folder = model.save_pretrained(tmp_path / "owls", **about, dataset="Owls, 2024")
    told = json.loads((folder / "config.json").read_text())
    assert told == read_file(folder).metadata == metadata_of(model, **about)
    assert (told["architecture"], told["model"]["backbone"]["name"]) == (
        "efficientdet_d0",
        "efficientnetv2_b0",
    )
    assert told["class_names"] == NAMES
    assert told["image_size"] == [96, 128]
    preprocessing = told["preprocessing"]
    # V2's pictures go to -1..1; the pad colour is what becomes zero, see `pad_colour`
    assert preprocessing == {
        "mean": list(model.preprocessing.mean),
        "std": list(model.preprocessing.std),
        "interpolation": "bilinear",
        "crop": None,
        "pad_colour": list(model.pad_colour),
    }
    card = ModelCard.load(folder / "README.md")
    (result,) = card.data.eval_results or ()
    assert (result.metric_type, result.metric_value, result.dataset_name) == (
        "mAP",
        0.31,
        "Owls, 2024",
    )
    assert card.data.pipeline_tag == "object-detection"
    for text in ("| backbone | efficientnetv2_b0 |", "| anchors | scale 3.5, octaves 1, 1.3, 1.7",
                 "cat, dog, owl.", "Scaled until they fit into 96 x 128", "1911.09070",
                 "2104.00298", 'EfficientDet.from_pretrained("owls")'):  # fmt: skip
        assert text in card.text, text


def test_rows_by_class_name(tmp_path: Path) -> None:
    model = build("lite0")
    folder = model.save_pretrained(tmp_path / "owls")
    other = create_model(
        "efficientdet_lite0", num_classes=2, class_names=["owl", "elk"], weights=folder
    )

    def rows(net: EfficientDet) -> Tensor:
        return net.state_dict()["class_head.predict.pointwise.weight"].unflatten(0, (9, -1))

    assert torch.equal(rows(other)[:, 0], rows(model)[:, 2])
    with pytest.raises(UserError, match="holds an EfficientNet; it is of task=det"):
        EfficientNet.from_pretrained(folder)
    with pytest.raises(UserError, match="do not fit efficientdet_d0"):
        create_model("efficientdet_d0", num_classes=3, weights=folder)


class Halves(nn.Module):
    """A pyramid of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.channels = {3: 3, 4: 3, 5: 3}

    def forward(self, images: Tensor) -> dict[int, Tensor]:
        return {level: images[..., :: 2**level, :: 2**level] for level in self.channels}


def test_what_no_file_can_rebuild_is_refused(tmp_path: Path) -> None:
    own = create_model("efficientdet_lite0", num_classes=3, backbone=Halves())
    with pytest.raises(UserError, match="backbone=own/Halves is a pyramid of your own"):
        own.save_pretrained(tmp_path / "own")
    fast = build("lite0").optimize(runtime="eager")
    with pytest.raises(UserError, match="optimized copy"):
        fast.save_pretrained(tmp_path / "fast")
    assert not list(tmp_path.iterdir())
