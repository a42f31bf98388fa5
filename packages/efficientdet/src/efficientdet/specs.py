"""EfficientDet as a table (arXiv:1911.09070, Table 1; official `hparams_config.py`).

The paper's scaling equations do not reproduce the published networks (D2's width, D5's cells,
D7's resolution): the official table is the definition. Nothing here imports torch.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

from backbone.specs import Act, NetSpec, known_fields
from compound.errors import UserError, closest

Fusion = Literal["fast", "sum"]
Aspects = Literal["exact", "rounded"]
# Sides of the anchors at one place, relative to the smallest: thirds of an octave.
OCTAVES = (1.0, 2 ** (1 / 3), 2 ** (2 / 3))


@dataclass(frozen=True, slots=True)
class DetSpec:
    """One variant: its backbone, BiFPN, heads and anchors, and what it is trained with.

    ``backbone`` is a network's table, the name of a published one, or ``timm/<name>``; the
    preprocessing is the backbone's. ``image_size`` is the side of the input, or height and width.

    ``aspects`` are the sides of the anchors that are not square, relative to the square one:
    ``exact`` is sqrt 2 and its inverse, as in the official code since September 2020; ``rounded``
    is 1.4 and 0.7, with which the published D0 to D7x were trained. Three numbers are widths over
    heights of anchors of one area. ``octaves`` are the sides of a place's three square anchors,
    relative to ``anchor_scale`` strides. Both have three values, as the heads have nine outputs.

    ``backbone_survival`` is the backbone's stochastic-depth survival probability: D0 trains
    without stochastic depth, all others with 0.8. ``epochs`` is the length of the official
    training (arXiv:1911.09070, Sec. 5.1).
    """

    name: str
    backbone: str | NetSpec
    image_size: int | tuple[int, int]
    fpn_channels: int
    fpn_cells: int
    head_repeats: int
    max_level: int = 7
    anchor_scale: float = 4.0
    aspects: Aspects | tuple[float, ...] = "exact"
    fusion: Fusion = "fast"
    act: Act = "silu"
    backbone_survival: float = 0.8
    epochs: int = 300
    min_level: int = 3
    octaves: tuple[float, ...] = OCTAVES

    def __post_init__(self) -> None:
        """Refuse words that no detector knows, and anchors that are none."""
        for key, choices in (("fusion", Fusion), ("act", Act)):
            closest(getattr(self, key), get_args(choices), what=f"model.{key}")
        if isinstance(self.aspects, str):
            closest(self.aspects, get_args(Aspects), what="model.aspects")
        else:
            object.__setattr__(self, "aspects", _three("aspects", self.aspects, "[1.0,2.0,0.5]"))
        object.__setattr__(self, "octaves", _three("octaves", self.octaves, "[1.0,1.26,1.59]"))
        if not _is_side(self.anchor_scale):
            raise UserError(
                f"model.anchor_scale={self.anchor_scale}: expected a number of strides, such as 4.0"
            )

    @property
    def levels(self) -> range:
        """The pyramid levels that the heads see; level l has stride ``2 ** l``."""
        return range(self.min_level, self.max_level + 1)

    def same_tensors(self, other: "DetSpec") -> bool:
        """Return whether both are one network but for sizes, anchors and rates.

        D6 and D7 differ in nothing that has a tensor: their names do.
        """
        return _architecture(self) == _architecture(other)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as checkpoints store them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "DetSpec":
        """Return what `to_dict` was called on.

        Raises:
            UserError: see `known_fields`.
        """
        with known_fields(values):
            backbone, size = values["backbone"], values["image_size"]
            if isinstance(backbone, dict):
                backbone = NetSpec.from_dict(backbone)
            size = size if isinstance(size, int) else tuple(size)
            return cls(**{**values, "backbone": backbone, "image_size": size})

    @classmethod
    def stored(cls, metadata: Mapping[str, Any]) -> "DetSpec | None":
        """Return the detector that a file's metadata describe, None if they describe none.

        Raises:
            UserError: see `known_fields`.
        """
        values = metadata.get("model")
        return None if values is None or "fpn_cells" not in values else cls.from_dict(values)


def _architecture(spec: DetSpec) -> tuple[Any, ...]:
    net = spec.backbone
    backbone = (net.stem, net.stages, net.style.act) if isinstance(net, NetSpec) else net
    fpn = (spec.fpn_channels, spec.fpn_cells, spec.fusion, spec.act, spec.levels)
    return (spec.name, backbone, *fpn, spec.head_repeats)


def both_sides(image_size: int | Sequence[int]) -> tuple[int, int]:
    """Return the height and width that one side, or height and width, stand for.

    Raises:
        UserError: it is neither; it may come from a command line.
    """
    sides: Any = image_size if isinstance(image_size, Sequence) else (image_size, image_size)
    if len(sides) != 2 or not all(isinstance(side, int) and side > 0 for side in sides):
        raise UserError(f"image_size={image_size}: expected pixels, such as 512 or [384,512]")
    return sides[0], sides[1]


def _three(key: str, values: Any, example: str) -> tuple[float, ...]:
    """Return three numbers above 0 in a tuple, as checkpoints and command lines have lists."""
    several = isinstance(values, Sequence) and not isinstance(values, str)
    if not several or len(values) != len(OCTAVES) or not all(map(_is_side, values)):
        words = "exact, rounded or " if key == "aspects" else ""
        raise UserError(
            f"model.{key}={list(values) if several else values}: expected {words}three numbers "
            f"above 0, such as {example}"
        )
    return tuple(map(float, values))


def _is_side(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and 0 < value < math.inf


def _spec(name: str, backbone: str, *numbers: int, **rest: float | str) -> DetSpec:
    return DetSpec(f"efficientdet_{name}", f"efficientnet_{backbone}", *numbers, **rest)  # type: ignore[arg-type]


def _lite(name: str, *numbers: int, backbone: str = "", anchor_scale: float) -> DetSpec:
    spec = _spec(name, backbone or name, *numbers, anchor_scale=anchor_scale)
    return replace(spec, fusion="sum", act="relu6")


EFFICIENTDET: dict[str, DetSpec] = {
    spec.name: spec
    for spec in (
        # backbone, size, BiFPN channels, BiFPN cells, head repeats
        _spec("d0", "b0", 512, 64, 3, 3, backbone_survival=1.0),
        _spec("d1", "b1", 640, 88, 4, 3),
        _spec("d2", "b2", 768, 112, 5, 3),
        _spec("d3", "b3", 896, 160, 6, 4),
        _spec("d4", "b4", 1024, 224, 7, 4),
        _spec("d5", "b5", 1280, 288, 7, 4),
        # "Use unweighted sum for stability" (hparams_config.py)
        _spec("d6", "b6", 1280, 384, 8, 5, fusion="sum"),
        _spec("d7", "b6", 1536, 384, 8, 5, fusion="sum", anchor_scale=5.0, epochs=600),
        _spec("d7x", "b7", 1536, 384, 8, 5, fusion="sum", max_level=8, epochs=600),
        _lite("lite0", 320, 64, 3, 3, anchor_scale=3.0),
        _lite("lite1", 384, 88, 4, 3, anchor_scale=3.0),
        _lite("lite2", 448, 112, 5, 3, anchor_scale=3.0),
        _lite("lite3", 512, 160, 6, 4, anchor_scale=4.0),
        _lite("lite3x", 640, 200, 6, 4, backbone="lite3", anchor_scale=3.0),
        _lite("lite4", 640, 224, 7, 4, anchor_scale=4.0),
    )
}
