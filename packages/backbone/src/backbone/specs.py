"""EfficientNet as tables (arXiv:1905.11946, Table 1; coefficients of the official code).

A network is its rows: nothing here imports torch, so a configuration can read sizes for free.
"""

from dataclasses import dataclass, replace

from backbone.scaling import round_channels, round_layers


@dataclass(frozen=True, slots=True)
class StageSpec:
    """One row of Table 1: ``layers`` MBConv blocks, of which the first has the stride.

    ``expand`` is the expansion ratio of a block, ``se_ratio`` the width of squeeze-and-excitation
    relative to the block's *input* channels (0 turns it off).
    """

    expand: int
    kernel: int
    stride: int
    channels: int
    layers: int
    se_ratio: float = 0.25


@dataclass(frozen=True, slots=True)
class NetSpec:
    """A whole network: stem, stages, head, and the resolution and dropout it is trained with.

    ``survival`` is the survival probability that stochastic depth approaches at the last block.
    """

    name: str
    stem: int
    stages: tuple[StageSpec, ...]
    head: int
    image_size: int
    dropout: float
    survival: float = 0.8

    def scale(
        self, name: str, *, width: float, depth: float, image_size: int, dropout: float
    ) -> "NetSpec":
        """Return this network with every axis scaled at once: the compound-scaling step."""
        stages = tuple(
            replace(
                stage,
                channels=round_channels(stage.channels, width),
                layers=round_layers(stage.layers, depth),
            )
            for stage in self.stages
        )
        return replace(
            self,
            name=name,
            stem=round_channels(self.stem, width),
            stages=stages,
            head=round_channels(self.head, width),
            image_size=image_size,
            dropout=dropout,
        )


BASELINE = NetSpec(
    name="efficientnet_b0",
    stem=32,
    stages=(
        # expand, kernel, stride, channels, layers
        StageSpec(1, 3, 1, 16, 1),
        StageSpec(6, 3, 2, 24, 2),
        StageSpec(6, 5, 2, 40, 2),
        StageSpec(6, 3, 2, 80, 3),
        StageSpec(6, 5, 1, 112, 3),
        StageSpec(6, 5, 2, 192, 4),
        StageSpec(6, 3, 1, 320, 1),
    ),
    head=1280,
    image_size=224,
    dropout=0.2,
)

# The published coefficients are not exactly powers of the paper's alpha, beta and gamma: the
# official table is the definition.
_COEFFICIENTS: dict[str, tuple[float, float, int, float]] = {
    # name: width, depth, resolution, dropout
    "efficientnet_b0": (1.0, 1.0, 224, 0.2),
    "efficientnet_b1": (1.0, 1.1, 240, 0.2),
    "efficientnet_b2": (1.1, 1.2, 260, 0.3),
    "efficientnet_b3": (1.2, 1.4, 300, 0.3),
    "efficientnet_b4": (1.4, 1.8, 380, 0.4),
    "efficientnet_b5": (1.6, 2.2, 456, 0.4),
    "efficientnet_b6": (1.8, 2.6, 528, 0.5),
    "efficientnet_b7": (2.0, 3.1, 600, 0.5),
    "efficientnet_b8": (2.2, 3.6, 672, 0.5),
    "efficientnet_l2": (4.3, 5.3, 800, 0.5),
}

EFFICIENTNET: dict[str, NetSpec] = {
    name: BASELINE.scale(name, width=width, depth=depth, image_size=size, dropout=dropout)
    for name, (width, depth, size, dropout) in _COEFFICIENTS.items()
}
