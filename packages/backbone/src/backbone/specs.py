"""Networks as tables (arXiv:1905.11946, Table 1; coefficients of the official code).

A network is its rows: nothing here imports torch, so a configuration can read sizes for free.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from backbone.scaling import (
    V1_MAX_LOSS,
    Coefficients,
    compound_coefficients,
    round_channels,
    round_layers,
)
from compound.errors import UserError

BlockKind = Literal["mbconv", "fused"]
Act = Literal["silu", "relu6"]
Interpolation = Literal["bicubic", "bilinear"]


@dataclass(frozen=True, slots=True)
class StageSpec:
    """One row of a table: ``layers`` blocks of one kind, of which the first has the stride.

    ``expand`` is the expansion ratio of a block, ``se_ratio`` the width of squeeze-and-excitation
    relative to the block's *input* channels (0 turns it off; fused blocks have none).
    """

    expand: int
    kernel: int
    stride: int
    channels: int
    layers: int
    se_ratio: float = 0.25
    block: BlockKind = "mbconv"


@dataclass(frozen=True, slots=True)
class LayerStyle:
    """What every layer of a network has in common.

    ``padding`` is TensorFlow's SAME or torchvision's symmetric ``kernel // 2``; weights trained
    with one lose accuracy with the other. ``bn_momentum`` is torch's, 1 - TensorFlow's.
    """

    act: Act = "silu"
    padding: Literal["same", "symmetric"] = "same"
    bn_momentum: float = 0.01
    bn_eps: float = 1e-3


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How a picture becomes the network's input in evaluation.

    ``mean`` and ``std`` are of red, green and blue on the scale 0..255. ``crop`` is the share of
    the short side that the centre crop keeps; None squashes the whole picture.
    """

    mean: tuple[float, float, float] = (0.485 * 255, 0.456 * 255, 0.406 * 255)
    std: tuple[float, float, float] = (0.229 * 255, 0.224 * 255, 0.225 * 255)
    interpolation: Interpolation = "bicubic"
    crop: float | None = 0.875


@dataclass(frozen=True, slots=True)
class NetSpec:
    """A whole network: stem, stages, head, and what it is trained and evaluated with.

    ``image_size`` is the side of the evaluated picture, ``survival`` the survival probability
    that stochastic depth approaches at the last block.
    """

    name: str
    stem: int
    stages: tuple[StageSpec, ...]
    head: int
    image_size: int
    dropout: float
    survival: float = 0.8
    style: LayerStyle = LayerStyle()
    preprocessing: Preprocessing = Preprocessing()

    def __post_init__(self) -> None:
        """Refuse rates that no training can use."""
        if not 0 <= self.dropout < 1:
            raise UserError(f"model.dropout={self.dropout}: expected a share in [0, 1)")
        if not 0 < self.survival <= 1:
            raise UserError(f"model.survival={self.survival}: expected a probability in (0, 1]")

    def scale(
        self,
        coefficients: Coefficients,
        *,
        name: str,
        max_loss: float = V1_MAX_LOSS,
        fixed_ends: bool = False,
    ) -> "NetSpec":
        """Return this network with every axis scaled at once.

        Args:
            coefficients: depth, width and resolution; see `compound_coefficients`.
            name: of the new network.
            max_loss: see `round_channels`.
            fixed_ends: keep stem and head as wide and the first and last stage as deep as they
                are, as Lite does.
        """
        stages = [
            replace(
                stage,
                channels=round_channels(stage.channels, coefficients.width, max_loss=max_loss),
                layers=round_layers(stage.layers, coefficients.depth),
            )
            for stage in self.stages
        ]
        stem = round_channels(self.stem, coefficients.width, max_loss=max_loss)
        head = round_channels(self.head, coefficients.width, max_loss=max_loss)
        if fixed_ends:
            stem, head = self.stem, self.head
            for end in (0, -1):
                stages[end] = replace(stages[end], layers=self.stages[end].layers)
        return replace(
            self,
            name=name,
            stem=stem,
            stages=tuple(stages),
            head=head,
            image_size=max(1, round(self.image_size * coefficients.resolution)),
        )

    def same_network(self, other: "NetSpec") -> bool:
        """Return whether both have the same tensors: all but names, sizes and rates agree."""
        mine, theirs = (
            (spec.stem, spec.stages, spec.head, spec.style.act) for spec in (self, other)
        )
        return mine == theirs

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as checkpoints store them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "NetSpec":
        """Return what `to_dict` was called on.

        Raises:
            UserError: see `known_fields`.
        """
        with known_fields(values):
            preprocessing = dict(values["preprocessing"])
            for key in ("mean", "std"):
                preprocessing[key] = tuple(preprocessing[key])
            own = {
                "stages": tuple(StageSpec(**stage) for stage in values["stages"]),
                "style": LayerStyle(**values["style"]),
                "preprocessing": Preprocessing(**preprocessing),
            }
            return cls(**{**values, **own})

    @classmethod
    def stored(cls, metadata: Mapping[str, Any]) -> "NetSpec | None":
        """Return the network that a file's metadata describe, None if they describe none.

        Raises:
            UserError: see `known_fields`.
        """
        values = metadata.get("model")
        return None if values is None or "stages" not in values else cls.from_dict(values)


@contextmanager
def known_fields(values: Mapping[str, Any]) -> Iterator[None]:
    """Explain why a spec cannot be made of stored values.

    Raises:
        UserError: they have a field too many or lack one.
    """
    try:
        yield
    except (KeyError, TypeError) as error:
        raise UserError(
            f"the stored network {values.get('name')} does not have the fields of this version "
            f"({error}); use the version that wrote it"
        ) from error


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

# Lite leaves squeeze-and-excitation out and takes relu6 (tensorflow/tpu, `lite/`).
LITE_BASELINE = replace(
    BASELINE,
    name="efficientnet_lite0",
    stages=tuple(replace(stage, se_ratio=0.0) for stage in BASELINE.stages),
    style=LayerStyle(act="relu6"),
    preprocessing=Preprocessing(mean=(127.0, 127.0, 127.0), std=(128.0, 128.0, 128.0)),
)


def scale(
    phi: float,
    *,
    alpha: float = 1.2,
    beta: float = 1.1,
    gamma: float = 1.15,
    baseline: NetSpec = BASELINE,
    name: str | None = None,
    fixed_ends: bool = False,
) -> NetSpec:
    """Return ``baseline`` scaled by the compound coefficient ``phi``.

    ``backbone.create_model(backbone.scale(1.5))`` is a network between B1 and B2. The published
    networks come from the same step with the official table's coefficients, which are not
    exactly powers of alpha, beta and gamma (see `published`).

    Args:
        phi: how much larger, any real number; the multiply-adds grow about as ``2 ** phi``.
        alpha: base of the depth.
        beta: base of the width.
        gamma: base of the resolution.
        baseline: the network of ``phi = 0``.
        name: of the new network; by default the baseline's with phi.
        fixed_ends: see `NetSpec.scale`.

    Raises:
        ValueError: see `compound_coefficients`.
    """
    coefficients = compound_coefficients(phi, alpha=alpha, beta=beta, gamma=gamma)
    name = name or f"{baseline.name}_phi{phi:g}"
    return baseline.scale(coefficients, name=name, fixed_ends=fixed_ends)


def published(
    baseline: NetSpec,
    name: str,
    row: tuple[float, float, int, float],
    *,
    max_loss: float = V1_MAX_LOSS,
    fixed_ends: bool = False,
) -> NetSpec:
    """Return a network of an official table.

    Args:
        baseline: the network that the table scales.
        name: the network's.
        row: width and depth coefficients, resolution in pixels, dropout.
        max_loss: see `round_channels`.
        fixed_ends: see `NetSpec.scale`.
    """
    width, depth, size, dropout = row
    coefficients = Coefficients(depth=depth, width=width, resolution=size / baseline.image_size)
    spec = baseline.scale(coefficients, name=name, max_loss=max_loss, fixed_ends=fixed_ends)
    # Until 2021, when the published weights were made, the crop left a border of 16 pixels.
    crop = replace(baseline.preprocessing, crop=size / (size + 32))
    return replace(spec, dropout=dropout, preprocessing=crop)


_V1_ROWS: dict[str, tuple[float, float, int, float]] = {
    # name: width, depth, resolution, dropout
    "b0": (1.0, 1.0, 224, 0.2),
    "b1": (1.0, 1.1, 240, 0.2),
    "b2": (1.1, 1.2, 260, 0.3),
    "b3": (1.2, 1.4, 300, 0.3),
    "b4": (1.4, 1.8, 380, 0.4),
    "b5": (1.6, 2.2, 456, 0.4),
    "b6": (1.8, 2.6, 528, 0.5),
    "b7": (2.0, 3.1, 600, 0.5),
    "b8": (2.2, 3.6, 672, 0.5),
    "l2": (4.3, 5.3, 800, 0.5),
}
_LITE_ROWS: dict[str, tuple[float, float, int, float]] = {
    "lite0": (1.0, 1.0, 224, 0.2),
    "lite1": (1.0, 1.1, 240, 0.2),
    "lite2": (1.1, 1.2, 260, 0.3),
    "lite3": (1.2, 1.4, 280, 0.3),
    "lite4": (1.4, 1.8, 300, 0.3),
}

EFFICIENTNET: dict[str, NetSpec] = {
    f"efficientnet_{key}": published(BASELINE, f"efficientnet_{key}", row)
    for key, row in _V1_ROWS.items()
} | {
    f"efficientnet_{key}": published(LITE_BASELINE, f"efficientnet_{key}", row, fixed_ends=True)
    for key, row in _LITE_ROWS.items()
}
