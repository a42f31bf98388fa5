"""The network equals effdet's port of the official one under the same random weights."""

import re
from typing import cast

import effdet
import pytest
import torch
from torch import Tensor, nn

from efficientdet import create_model

pytestmark = pytest.mark.parity

# effdet's names outside the backbone and ours
RENAMES = [
    (r"^fpn\.resample\.3\.conv\.conv\.", "bifpn.extra.conv."),
    (r"^fpn\.resample\.3\.conv\.bn\.", "bifpn.extra.norm."),
    (r"^fpn\.cell\.(\d+)\.fnode\.(\d+)\.", r"bifpn.cells.\1.nodes.\2."),
    (r"\.combine\.edge_weights$", ".weights"),
    # Each 1x1 belongs to the node's first input.
    (r"\.combine\.resample\.\d+\.conv\.conv\.", ".laterals.0.conv."),
    (r"\.combine\.resample\.\d+\.conv\.bn\.", ".laterals.0.norm."),
    (r"\.after_combine\.conv\.bn\.", ".norm."),
    (r"\.after_combine\.conv\.", ".conv."),
    (r"^(class|box)_net\.conv_rep\.", r"\1_head.convs."),
    (r"^(class|box)_net\.predict\.", r"\1_head.predict."),
    (r"\.conv_dw\.", ".depthwise."),
    (r"\.conv_pw\.", ".pointwise."),
]


def rename(name: str) -> str:
    """Return our name of effdet's tensor; not for the backbone."""
    norm = re.match(r"(class|box)_net\.bn_rep\.(\d+)\.(\d+)\.bn\.(.*)", name)
    if norm:
        head, layer, level, rest = norm.groups()
        return f"{head}_head.norms.{int(level) + 3}.{layer}.{rest}"
    for pattern, ours in RENAMES:
        name = re.sub(pattern, ours, name)
    return name


def converted(theirs: dict[str, Tensor], own_names: list[str]) -> dict[str, Tensor]:
    """Return effdet's state under our names."""
    # Both backbones list their tensors in the order of the computation.
    backbone = [value for name, value in theirs.items() if name.startswith("backbone.")]
    pyramid = [name for name in own_names if name.startswith("pyramid.")]
    state = dict(zip(pyramid, backbone, strict=True))
    others = {n: value for n, value in theirs.items() if not n.startswith("backbone.")}
    return state | {rename(name): value for name, value in others.items()}


def randomise(model: nn.Module) -> None:
    for norm in (m for m in model.modules() if isinstance(m, nn.BatchNorm2d)):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias, std=0.2)
        nn.init.normal_(cast(Tensor, norm.running_mean), std=0.2)
        nn.init.uniform_(cast(Tensor, norm.running_var), 0.2, 1.0)
    for name, parameter in model.named_parameters():
        if name.endswith("edge_weights"):
            nn.init.uniform_(parameter, -0.5, 2.0)


# D6 sums without weights and D7x has a level more; the others are D0 with other numbers.
@pytest.mark.parametrize(
    ("variant", "size"),
    [("d0", (128, 128)), ("d0", (192, 320)), ("d6", (128, 128)), ("d7x", (256, 384))],
)
def test_outputs_equal_effdet(variant: str, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    config = effdet.get_efficientdet_config(f"tf_efficientdet_{variant}")
    config.image_size = size
    theirs = effdet.EfficientDet(config, pretrained_backbone=False).eval()
    randomise(theirs)
    ours = create_model(f"efficientdet_{variant}").eval()
    ours.load_state_dict(converted(theirs.state_dict(), list(ours.state_dict())))
    images = torch.randn(2, 3, *size)
    with torch.no_grad():
        outputs, expected = ours(images), theirs(images)
    for kind, levels, wanted in zip(("classes", "boxes"), outputs, expected, strict=True):
        for level, (x, y) in enumerate(zip(levels, wanted, strict=True), start=3):
            assert x.shape == y.shape, (kind, level)
            # The prior bias would hide differences of the class outputs.
            spread = (y - y.mean()).abs().max()
            assert (x - y).abs().max() < 1e-4 * spread, (kind, level)
