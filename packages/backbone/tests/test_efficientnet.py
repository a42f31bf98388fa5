"""EfficientNet: shapes, stochastic depth, gradient checkpointing."""

from copy import deepcopy

import pytest
import torch

from backbone import EFFICIENTNET, EfficientNet, EfficientNetTrunk, create_model
from backbone.blocks import FusedMBConv, MBConv
from backbone.grad_checkpointing import checkpoint_stages
from backbone.specs import LayerStyle, StageSpec
from compound.errors import UserError

SIZES = [(224, 224), (131, 97)]


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
    block = MBConv(stage.channels, stage, LayerStyle(), stride=1, survival=0.5)
    x = torch.randn(64, stage.channels, 2, 2)
    with torch.no_grad():
        untouched = (block(x) == x).flatten(1).all(1).sum().item()
        assert 16 < untouched < 48  # 32 expected, four deviations of 4
        block.eval()
        assert not (block(x) == x).flatten(1).all(1).any()


@pytest.mark.parametrize("bad", [{"dropout": 1.0}, {"survival": 0.0}, {"survival": -1.0}])
def test_rates_that_cannot_be(bad: dict[str, float]) -> None:
    (name,) = bad
    with pytest.raises(UserError, match=rf"model\.{name}="):
        create_model("efficientnet_b0", **bad)
    with pytest.raises(
        UserError, match="field of a network 'dropot' is unknown; did you mean dropout"
    ):
        create_model("efficientnet_b0", dropot=0.1)


def test_classes_and_input_channels() -> None:
    model = EfficientNet(EFFICIENTNET["efficientnet_b0"], num_classes=7, in_channels=1).eval()
    assert model(torch.randn(2, 1, 40, 33)).shape == (2, 7)
    assert model.normalize(torch.zeros(1, 1, 2, 2)).shape == (1, 1, 2, 2)


def test_normalize_takes_what_the_table_says() -> None:
    pixels = torch.tensor([[255.0, 0.0, 127.0]]).view(1, 3, 1, 1)
    lite = create_model("efficientnet_lite0").normalize(pixels).flatten()
    torch.testing.assert_close(lite, torch.tensor([1.0, -127 / 128, 0.0]))  # (x - 127) / 128
    red, green, _ = create_model("efficientnet_b0").normalize(pixels).flatten().tolist()
    assert red == pytest.approx((1 - 0.485) / 0.229, rel=1e-6)
    assert green == pytest.approx(-0.456 / 0.224, rel=1e-6)


def test_fused_block_without_expansion_is_one_convolution_and_adds_after_its_activation() -> None:
    torch.manual_seed(0)
    stage = StageSpec(1, 3, 1, 8, 1, se_ratio=0.0, block="fused")
    block = FusedMBConv(8, stage, LayerStyle(), stride=1).eval()
    assert sum(p.ndim == 4 for p in block.parameters()) == 1
    x = torch.randn(2, 8, 5, 5)
    with torch.no_grad():
        convolved = torch.nn.functional.conv2d(x, block.fused.conv.weight, padding=1)
        expected = x + torch.nn.functional.silu(convolved / (1 + 1e-3) ** 0.5)
        torch.testing.assert_close(block(x), expected)


def test_checkpointed_stages_change_nothing_but_memory() -> None:
    torch.manual_seed(0)
    model = EfficientNet(EFFICIENTNET["efficientnet_b0"], num_classes=3)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    images = torch.randn(4, 3, 33, 40)
    seen = []
    for stages in ((), range(7)):
        model.load_state_dict(state)
        checkpoint_stages(model.trunk, stages)
        model.zero_grad()
        torch.manual_seed(1)  # stochastic depth and dropout
        kept: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda x, kept=kept: kept.append(x.numel()) or x, lambda x: x
        ):
            loss = model(images).square().sum()
        loss.backward()
        gradients = [p.grad.clone() for p in model.parameters() if p.grad is not None]
        statistics = [b.clone() for b in model.buffers()]
        seen.append((loss.detach(), gradients, statistics, sum(kept)))
    plain, lean = seen
    assert torch.equal(plain[0], lean[0])
    for a, b in zip(plain[1] + plain[2], lean[1] + lean[2], strict=True):
        assert torch.equal(a, b)
    assert lean[3] < 0.2 * plain[3]


def test_a_checkpointed_copy_has_its_own_weights() -> None:
    model = EfficientNet(EFFICIENTNET["efficientnet_b0"], num_classes=3).eval()
    checkpoint_stages(model.trunk, range(7))
    names, images = list(model.state_dict()), torch.randn(2, 3, 32, 32)
    copied = deepcopy(model)
    for parameter in model.parameters():
        torch.nn.init.zeros_(parameter)
    assert list(copied.state_dict()) == names
    assert copied(images).abs().sum() > 0
    checkpoint_stages(copied.trunk, ())
    assert not any("forward" in vars(module) for module in copied.modules())
