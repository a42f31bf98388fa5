"""A detector's BiFPN and heads for inference alone: norms folded, fusion weights fixed.

Shapes: B = batch, W = channels of the BiFPN; level l of the pyramid has stride ``2 ** l``.
"""

from copy import deepcopy

from torch import Tensor, nn

from backbone.layers import folded
from efficientdet.bifpn import BiFPN, BiFPNCell, FusionNode, Lateral, fusion_shares
from efficientdet.heads import Head
from efficientdet.layers import SeparableConv, resize_to


def fold_bifpn(bifpn: BiFPN) -> None:
    """Fold laterals and fusion nodes in evaluation mode, in place."""
    for lateral in bifpn.modules():
        if isinstance(lateral, Lateral):
            lateral.conv, lateral.norm = folded(lateral.conv, lateral.norm), nn.Identity()
    for cell in bifpn.cells:
        assert isinstance(cell, BiFPNCell)
        nodes = [node for node in cell.nodes if isinstance(node, FusionNode)]
        cell.nodes = nn.ModuleList(FoldedFusionNode(node) for node in nodes)


class FoldedFusionNode(nn.Module):
    """A `FusionNode` with constant weights, whose convolution does what its norm does.

    Args:
        node: its layers are taken over.
    """

    def __init__(self, node: FusionNode) -> None:
        super().__init__()
        self.laterals, self.act, self.conv = node.laterals, node.act, node.conv
        self.conv.pointwise = folded(node.conv.pointwise, node.norm)
        self.shares: tuple[float, ...] | None = None
        if node.weights is not None:
            self.shares = tuple(fusion_shares(node.weights).tolist())

    def forward(self, inputs: list[Tensor], size: tuple[int, int]) -> Tensor:
        """Fuse maps of any sizes into ``(B, W, *size)``."""
        maps = [
            resize_to(lateral(x), size) for lateral, x in zip(self.laterals, inputs, strict=True)
        ]
        if self.shares is None:
            return self.conv(self.act(sum(maps[1:], start=maps[0])))
        fused = maps[0] * self.shares[0]
        for x, share in zip(maps[1:], self.shares[1:], strict=True):
            fused = fused.add_(x, alpha=share)
        return self.conv(self.act(fused))


class FoldedHead(nn.Module):
    """A `Head` with convolutions of its own for each level, which do what its norms do.

    Args:
        head: its output layer is taken over.
    """

    def __init__(self, head: Head) -> None:
        super().__init__()
        self.act, self.predict = head.act, head.predict
        self.levels = nn.ModuleDict()
        for level, norms in head.norms.items():
            assert isinstance(norms, nn.ModuleList)
            convs = deepcopy(head.convs)
            for conv, norm in zip(convs, norms, strict=True):
                assert isinstance(conv, SeparableConv)
                conv.pointwise = folded(conv.pointwise, norm)
            self.levels[level] = convs

    def forward(self, features: dict[int, Tensor]) -> list[Tensor]:
        """Map ``{level: (B, W, h, w)}`` to one ``(B, out_channels, h, w)`` a level."""
        outputs = []
        for level, x in features.items():
            for conv in self.levels[str(level)].children():
                x = self.act(conv(x))
            outputs.append(self.predict(x))
        return outputs
