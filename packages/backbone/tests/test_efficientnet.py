"""EfficientNet: shapes, stochastic depth, and parity with timm's port of the official weights."""

from typing import cast

import pytest
import timm
import torch
from torch import nn

from backbone import EFFICIENTNET, EfficientNet, EfficientNetTrunk, create_model
from backbone.blocks import MBConv

SIZES = [(224, 224), (131, 97)]


def randomise_norms(model: nn.Module) -> None:
    """Give batch norms statistics and weights that a mistake would show with."""
    for norm in (m for m in model.modules() if isinstance(m, nn.BatchNorm2d)):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias, std=0.2)
        nn.init.normal_(cast(torch.Tensor, norm.running_mean), std=0.2)
        nn.init.uniform_(cast(torch.Tensor, norm.running_var), 0.2, 1.0)


@pytest.mark.parity
def test_outputs_equal_timm() -> None:
    torch.manual_seed(0)
    theirs = timm.create_model("tf_efficientnet_b0", pretrained=False).eval()
    randomise_norms(theirs)
    ours = create_model("efficientnet_b0").eval()
    # Both list their tensors in the order of the computation.
    pairs = list(zip(ours.state_dict(), theirs.state_dict().values(), strict=True))
    ours.load_state_dict(dict(pairs))

    for size in SIZES:
        images = torch.randn(2, 3, *size)
        with torch.no_grad():
            logits, features = ours(images), ours.trunk(images)
            expected = {}
            x = theirs.bn1(theirs.conv_stem(images))
            for level, stages in enumerate(([0], [1], [2], [3, 4], [5, 6]), start=1):
                for stage in stages:
                    x = theirs.blocks[stage](x)
                expected[level] = x
            expected_logits = theirs(images)
        assert list(features) == list(expected)
        for level, x in expected.items():
            assert (features[level] - x).abs().max() < 1e-4 * x.abs().max(), (size, level)
        assert (logits - expected_logits).abs().max() < 1e-4 * expected_logits.abs().max(), size


@pytest.mark.parametrize("size", [*SIZES, (33, 64), (1, 1)])
def test_levels_have_their_strides(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    trunk = EfficientNetTrunk(EFFICIENTNET["efficientnet_b0"]).eval()
    assert trunk.channels == {1: 16, 2: 24, 3: 40, 4: 112, 5: 320}
    with torch.no_grad():
        features = trunk(torch.randn(1, 3, *size))
    assert {level: tuple(x.shape) for level, x in features.items()} == {
        level: (1, trunk.channels[level], -(-size[0] // 2**level), -(-size[1] // 2**level))
        for level in (1, 2, 3, 4, 5)
    }


def test_survival_falls_over_all_blocks() -> None:
    with torch.device("meta"):
        trunk = EfficientNetTrunk(EFFICIENTNET["efficientnet_b0"])
    survivals = [block.survival for block in trunk.modules() if isinstance(block, MBConv)]
    # 16 blocks: 1 - 0.2 * index / 16; the last is 1 - 0.2 * 15 / 16
    assert survivals[:2] == pytest.approx([1.0, 0.9875])
    assert survivals[-1] == pytest.approx(0.8125)
    assert len(survivals) == 16


def test_training_drops_blocks_and_evaluation_does_not() -> None:
    torch.manual_seed(0)
    stage = EFFICIENTNET["efficientnet_b0"].stages[3]
    block = MBConv(stage.channels, stage, stride=1, survival=0.5)
    x = torch.randn(64, stage.channels, 2, 2)
    with torch.no_grad():
        untouched = (block(x) == x).flatten(1).all(1).sum().item()
        assert 16 < untouched < 48  # 32 expected, four deviations of 4
        block.eval()
        assert not (block(x) == x).flatten(1).all(1).any()


def test_classes_and_input_channels() -> None:
    model = EfficientNet(EFFICIENTNET["efficientnet_b0"], num_classes=7, in_channels=1).eval()
    assert model(torch.randn(2, 1, 40, 33)).shape == (2, 7)
