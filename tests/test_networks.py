"""Every classifier equals timm's, torchvision's and the official ones under the same weights."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import parity
import pytest
import timm
import torch
from parity import TABLE

import backbone
from backbone import EfficientNet
from backbone.specs import LayerStyle
from backbone.weights import fill, read_weights
from backbone.weights.classifier import _under_our_names
from compound.weights.files import Content
from compound.weights.tensorflow import to_torch

TOLERANCE = 1e-4
QUICK = {
    *(f"efficientnet_{name}" for name in ("b0", "b1", "b2", "b3", "lite0", "lite2", "lite4")),
    *(f"efficientnetv2_{name}" for name in ("b0", "b1", "b3", "s")),
}


def sampled(names: Iterable[str]) -> list:
    """Return parameters of which all but quick networks are `long`."""
    return [pytest.param(n, marks=[] if n in QUICK else pytest.mark.long) for n in names]


@pytest.mark.parity
@pytest.mark.parametrize("name", sampled(TABLE))
def test_equals_timm(name: str) -> None:
    assert parity.against_timm(name) < TOLERANCE


@pytest.mark.parity
@pytest.mark.parametrize("name", sampled(parity.TORCHVISION))
def test_equals_torchvision(name: str) -> None:
    assert parity.against_torchvision(name) < TOLERANCE


@pytest.mark.parity
def test_a_wrong_convention_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the two tests above would see if padding or epsilon were not those of the weights."""
    for style in (LayerStyle(padding="symmetric"), LayerStyle(bn_eps=1e-5)):
        monkeypatch.setattr(
            "backbone.weights.classifier.conventions",
            lambda spec, *_, style=style: (style, spec.preprocessing),
        )
        assert parity.against_timm("efficientnet_b0") > 10 * TOLERANCE, style


@pytest.mark.real
@pytest.mark.parametrize("case", parity.OFFICIAL["efficientnetv2_b0"])
def test_v2_equals_the_official_code(case: str, compound_data: Path) -> None:
    folder = compound_data / "expected/tf/efficientnetv2-b0"
    # 3e-4 is what the official code's own float32 leaves
    assert parity.against_official("efficientnetv2_b0", folder, case) < 3e-4


@pytest.mark.parity
def test_timms_own_training_pads_symmetrically(tmp_path: Path) -> None:
    theirs = timm.create_model("efficientnet_b0")
    parity.randomise(theirs, "symmetric")
    path = tmp_path / "efficientnet_b0_ra-3dd342df.pth"  # as timm's release calls it
    torch.save(theirs.state_dict(), path)
    ours = backbone.create_model("efficientnet_b0", weights=path).eval()
    assert ours.spec.style == LayerStyle(padding="symmetric", bn_eps=1e-5)
    images = torch.randn(1, 3, 64, 77, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        assert parity.difference(ours(images), theirs(images)) < TOLERANCE


@pytest.mark.extra("tensorflow")
@pytest.mark.real
def test_backbone_of_an_official_detector(compound_data: Path) -> None:
    """Averages are taken, not the raw weights, and what is no backbone's is left out."""
    from tensorflow import train

    folder = compound_data / "expected/tf/efficientdet-d0/ckpt"
    weights = read_weights(folder, TABLE["efficientnet_b0"])
    model = EfficientNet(weights.spec)
    report = fill(model, weights)
    assert {name.partition(".")[0] for name in report.missing} == {"head", "classifier"}
    assert "outside efficientnet-b0/" in str(report)
    reader = train.load_checkpoint(str(folder / "model"))
    name = "efficientnet-b0/blocks_1/depthwise_conv2d/depthwise_kernel"
    average, raw = (reader.get_tensor(name + end) for end in ("/ExponentialMovingAverage", ""))
    kernel = model.state_dict()["trunk.stages.1.0.depthwise.conv.weight"]
    assert torch.equal(kernel, torch.from_numpy(average).permute(2, 3, 0, 1))
    assert not torch.equal(kernel, torch.from_numpy(raw).permute(2, 3, 0, 1))


@pytest.mark.real
@pytest.mark.parametrize("name", TABLE)
def test_official_names_and_shapes(name: str, compound_data: Path) -> None:
    """The official variables of every network are those that the loader looks for."""
    short = name.removeprefix("efficientnet_").replace("efficientnetv2_", "efficientnetv2-")
    file = f"{short}.txt" if "v2" in short else f"v1code_efficientnet-{short}.txt"
    variables = {}
    for line in (compound_data / "expected/tf/names" / file).read_text().splitlines():
        variable, shape, *_ = line.split("\t")
        variables[variable] = np.empty([int(n) for n in shape.strip("[]").split(",") if n], "f4")
    content = Content(to_torch(variables), official=True)
    tensors, ignored = _under_our_names(content, TABLE[name], "tensorflow")
    with torch.device("meta"):
        own = EfficientNet(TABLE[name]).state_dict()
    wanted = {k: tuple(v.shape) for k, v in own.items() if not k.endswith("num_batches_tracked")}
    assert {key: tuple(value.shape) for key, value in tensors.items()} == wanted
    assert ignored == ()
