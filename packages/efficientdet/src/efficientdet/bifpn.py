"""BiFPN: weighted bidirectional feature fusion (arXiv:1911.09070, Sec. 3).

Shapes: B = batch, W = the BiFPN's channels; level l of the pyramid has stride ``2 ** l``.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from backbone.layers import ACTIVATIONS, batch_norm
from backbone.specs import Act
from efficientdet.layers import SeparableConv, resize_to
from efficientdet.specs import Fusion

FUSION_EPS = 1e-4

Node = tuple[int, tuple[int, ...]]


def bifpn_nodes(min_level: int, max_level: int) -> list[Node]:
    """Return a cell's fusion nodes as (level, ids of the inputs).

    Ids 0.. are the cell's inputs from the finest level up; every node takes the next id. First
    the top-down path, then the bottom-up path, whose inner levels also see the cell's own input.
    """
    last = {level: level - min_level for level in range(min_level, max_level + 1)}
    inputs = dict(last)
    nodes: list[Node] = []
    for level in range(max_level - 1, min_level - 1, -1):
        nodes.append((level, (inputs[level], last[level + 1])))
        last[level] = len(inputs) + len(nodes) - 1
    for level in range(min_level + 1, max_level + 1):
        own = (inputs[level], last[level]) if level < max_level else (inputs[level],)
        nodes.append((level, (*own, last[level - 1])))
        last[level] = len(inputs) + len(nodes) - 1
    return nodes


class Lateral(nn.Sequential):
    """Bring a backbone map to the BiFPN's channels: 1x1 with bias, batch norm, no activation."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 1)
        self.norm: nn.Module = batch_norm(out_channels)


class FusionNode(nn.Module):
    """Resample the inputs to one level, fuse them, then activation, separable conv, batch norm.

    The official code activates *before* the convolution; the paper's text says after.

    Args:
        in_channels: channels of each input; where they differ from ``channels`` a 1x1 goes first.
        channels: W.
        fusion: ``fast`` normalised fusion (Sec. 3.3) or a plain ``sum``.
        act: activation.
    """

    def __init__(self, in_channels: list[int], channels: int, *, fusion: Fusion, act: Act) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(
            nn.Identity() if c == channels else Lateral(c, channels) for c in in_channels
        )
        self.weights = nn.Parameter(torch.ones(len(in_channels))) if fusion == "fast" else None
        self.act = ACTIVATIONS[act]()
        self.conv = SeparableConv(channels, channels)
        self.norm: nn.Module = batch_norm(channels)

    def forward(self, inputs: list[Tensor], size: tuple[int, int]) -> Tensor:
        """Fuse maps of any sizes into ``(B, W, *size)``."""
        maps = [
            resize_to(lateral(x), size) for lateral, x in zip(self.laterals, inputs, strict=True)
        ]
        return self.norm(self.conv(self.act(self.fuse(maps))))

    def fuse(self, maps: list[Tensor]) -> Tensor:
        """Add up maps of one shape, weighted by `fusion_shares`."""
        if self.weights is None:
            return sum(maps[1:], start=maps[0])
        shares = fusion_shares(self.weights)
        fused = maps[0] * shares[0]
        for x, share in zip(maps[1:], shares[1:], strict=True):
            fused = torch.addcmul(fused, x, share)
        return fused


def fusion_shares(weights: Tensor) -> Tensor:
    """Return how much each input counts, ``relu(w) / (sum relu(w) + 1e-4)`` (Sec. 3.3)."""
    weights = F.relu(weights)
    return weights / (weights.sum() + FUSION_EPS)


class BiFPNCell(nn.Module):
    """One pass of top-down and bottom-up fusion.

    Args:
        in_channels: level -> channels of the cell's inputs.
        channels: W.
        fusion: see `FusionNode`.
        act: activation.
    """

    def __init__(
        self, in_channels: dict[int, int], channels: int, *, fusion: Fusion, act: Act
    ) -> None:
        super().__init__()
        self.graph = bifpn_nodes(min(in_channels), max(in_channels))
        widths = list(in_channels.values()) + [channels] * len(self.graph)
        self.nodes = nn.ModuleList(
            FusionNode([widths[i] for i in ids], channels, fusion=fusion, act=act)
            for _, ids in self.graph
        )

    def forward(self, features: dict[int, Tensor]) -> dict[int, Tensor]:
        """Map one feature map a level to ``{level: (B, W, h, w)}`` of the same sizes."""
        maps = list(features.values())
        sizes = {level: tuple(x.shape[-2:]) for level, x in features.items()}
        out = dict(features)
        for (level, ids), node in zip(self.graph, self.nodes, strict=True):
            out[level] = node([maps[i] for i in ids], sizes[level])
            maps.append(out[level])
        return out


class BiFPN(nn.Module):
    """Extra levels from the backbone's last one, then ``cells`` BiFPN cells.

    Args:
        in_channels: level -> channels of the backbone's maps, from level 3 up.
        channels: W.
        cells: number of cells.
        max_level: coarsest level, 7 (8 for D7x).
        fusion: see `FusionNode`.
        act: activation.
    """

    def __init__(
        self,
        in_channels: dict[int, int],
        channels: int,
        *,
        cells: int,
        max_level: int,
        fusion: Fusion,
        act: Act,
    ) -> None:
        super().__init__()
        self.levels = range(min(in_channels), max_level + 1)
        self.top = max(in_channels)
        self.extra = Lateral(in_channels[self.top], channels)
        first = {level: in_channels.get(level, channels) for level in self.levels}
        later = dict.fromkeys(self.levels, channels)
        self.cells = nn.ModuleList(
            BiFPNCell(later if index else first, channels, fusion=fusion, act=act)
            for index in range(cells)
        )
        _initialise(self)

    def forward(self, features: dict[int, Tensor]) -> dict[int, Tensor]:
        """Map the backbone's maps to ``{level: (B, W, h, w)}`` for every level."""
        maps = {level: features[level] for level in self.levels if level <= self.top}
        # P6 is a 1x1 convolution of the raw P5 and then a pooling; higher levels only pool.
        x = self.extra(features[self.top])
        for level in range(self.top + 1, self.levels.stop):
            x = resize_to(x, (-(-x.shape[-2] // 2), -(-x.shape[-1] // 2)))
            maps[level] = x
        for cell in self.cells:
            maps = cell(maps)
        return maps


def _initialise(module: nn.Module) -> None:
    """Keras' default for every kernel: glorot uniform, biases zero.

    Keras counts fans from the kernel's last two axes, so that a depthwise kernel over C channels
    has a fan-in of k * k * C and a fan-out of k * k.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            area = layer.kernel_size[0] * layer.kernel_size[1]
            fan_sum = area * (layer.in_channels + layer.out_channels // layer.groups)
            bound = math.sqrt(6.0 / fan_sum)
            nn.init.uniform_(layer.weight, -bound, bound)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
