"""Every classifier equals timm's, torchvision's and the official ones under the same weights."""

import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn

import backbone
from backbone import EFFICIENTNET, EfficientNet
from backbone.specs import LayerStyle
from backbone.weights import fill, read_weights
from efficientnetv2 import EFFICIENTNETV2

TABLE = EFFICIENTNET | EFFICIENTNETV2
TORCHVISION = [f"efficientnet_b{i}" for i in range(8)] + [f"efficientnetv2_{s}" for s in "sml"]
# Even, and odd on both sides; both small, as the largest network has 480 million parameters.
SIZES = [(64, 64), (77, 51)]
TOLERANCE = 1e-4


def randomised(model: nn.Module, name: str) -> nn.Module:
    """Give a network without memory weights, and norms that a mistake would show with."""
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    model.to_empty(device="cpu")
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            assert layer.running_mean is not None
            assert layer.running_var is not None
            layer.weight.data.uniform_(0.5, 1.5, generator=generator)
            layer.bias.data.normal_(std=0.2, generator=generator)
            layer.running_mean.normal_(std=0.2, generator=generator)
            layer.running_var.uniform_(0.5, 1.5, generator=generator)
        elif isinstance(layer, nn.Conv2d | nn.Linear):
            layer.weight.data.normal_(std=layer.weight[0].numel() ** -0.5, generator=generator)
            if layer.bias is not None:
                layer.bias.data.normal_(std=0.2, generator=generator)
    return model.eval()


def with_their_weights(name: str, theirs: nn.Module, folder: Path) -> EfficientNet:
    """Return our network with their weights, through a file and our loader."""
    path = folder / "theirs.safetensors"
    save_file({key: value for key, value in theirs.state_dict().items()}, path)
    weights = read_weights(path, TABLE[name])
    path.unlink()
    with torch.device("meta"):
        ours = EfficientNet(weights.spec)
    # Not `fill`, which copies: the largest network is there once.
    ours.load_state_dict(weights.tensors, assign=True)
    return ours.eval()


def difference(x: Tensor, y: Tensor) -> float:
    assert x.shape == y.shape
    return ((x - y).abs().max() / y.abs().max()).item()


@pytest.mark.parity
@pytest.mark.parametrize("name", TABLE)
def test_equals_timm(name: str, tmp_path: Path) -> None:
    with torch.device("meta"):
        theirs = timm.create_model(f"tf_{name}")
    randomised(theirs, name)
    ours = with_their_weights(name, theirs, tmp_path)
    for size in SIZES:
        images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))
        with torch.inference_mode():
            features, logits = ours.trunk(images), ours(images)
            theirs_features = theirs.forward_intermediates(images, intermediates_only=True)
            theirs_logits = theirs(images)
        assert len(features) == len(theirs_features) == 5
        for level, expected in enumerate(theirs_features, start=1):
            assert difference(features[level], expected) < TOLERANCE, (size, level)
        assert difference(logits, theirs_logits) < TOLERANCE, size


@pytest.mark.parity
@pytest.mark.parametrize("name", TORCHVISION)
def test_equals_torchvision(name: str, tmp_path: Path) -> None:
    with torch.device("meta"):
        theirs = torchvision.models.get_model(name.replace("netv2", "net_v2"), weights=None)
    randomised(theirs, name)
    ours = with_their_weights(name, theirs, tmp_path)
    assert ours.spec.style.padding == "symmetric"
    for size in SIZES:
        images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))
        with torch.inference_mode():
            features, logits = ours.trunk(images), ours(images)
            x, last = images, {}
            for stage in theirs.features[:-1]:  # the last one is the head
                x = stage(x)
                last[x.shape[-2]] = x  # a later stage of the same size takes the place
            expected = [last[height] for height in sorted(last, reverse=True)]
            theirs_logits = theirs(images)
        for level, x in enumerate(expected, start=1):
            assert difference(features[level], x) < TOLERANCE, (size, level)
        assert difference(logits, theirs_logits) < TOLERANCE, size


@pytest.mark.parity
def test_timms_own_training_pads_symmetrically(tmp_path: Path) -> None:
    theirs = randomised(timm.create_model("efficientnet_b0"), "symmetric")
    path = tmp_path / "efficientnet_b0_ra-3dd342df.pth"  # as timm's release calls it
    torch.save(theirs.state_dict(), path)
    ours = backbone.create_model("efficientnet_b0", weights=path).eval()
    assert ours.spec.style == LayerStyle(padding="symmetric", bn_eps=1e-5)
    images = torch.randn(1, 3, 64, 77, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        assert difference(ours(images), theirs(images)) < TOLERANCE


@pytest.mark.real
@pytest.mark.parametrize("case", ["b1_224x224", "b1_171x133_odd", "b2_128x128"])
def test_v2_equals_the_official_code(case: str, compound_data: Path) -> None:
    folder = compound_data / "expected/tf/efficientnetv2-b0"
    weights = read_weights(folder / "weights_ema.npz", TABLE["efficientnetv2_b0"])
    model = EfficientNet(weights.spec).eval()
    report = fill(model, weights)
    assert (report.missing, report.skipped) == ((), ())
    images = torch.from_numpy(np.load(folder / case / "input.npy")).permute(0, 3, 1, 2)
    with np.load(folder / case / "outputs_ema.npz") as expected, torch.inference_mode():
        features, logits = model.trunk(images), model(images)
        # 3e-4 is what the official code's own float32 leaves
        assert difference(logits, torch.from_numpy(expected["logits"])) < 3e-4
        for level in range(1, 6):
            wanted = torch.from_numpy(expected[f"reduction_{level}"]).permute(0, 3, 1, 2)
            assert difference(features[level], wanted) < 3e-4, level


@pytest.mark.real
def test_backbone_of_an_official_detector(compound_data: Path) -> None:
    """Averages are taken, not the raw weights, and what is no backbone's is left out."""
    folder = compound_data / "expected/tf/efficientdet-d0/ckpt"
    weights = read_weights(folder, TABLE["efficientnet_b0"])
    model = EfficientNet(weights.spec)
    report = fill(model, weights)
    assert {name.partition(".")[0] for name in report.missing} == {"head", "classifier"}
    assert "outside efficientnet-b0/" in str(report)
    from tensorflow import train  # pyright: ignore[reportMissingImports]

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
    from backbone.weights.classifier import _under_our_names
    from backbone.weights.files import Content
    from backbone.weights.tensorflow import to_torch

    content = Content(to_torch(variables), official=True)
    tensors, ignored = _under_our_names(content, TABLE[name], "tensorflow")
    with torch.device("meta"):
        own = EfficientNet(replace(TABLE[name])).state_dict()
    wanted = {k: tuple(v.shape) for k, v in own.items() if not k.endswith("num_batches_tracked")}
    assert {key: tuple(value.shape) for key, value in tensors.items()} == wanted
    assert ignored == ()
