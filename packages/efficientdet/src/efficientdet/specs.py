"""EfficientDet as a table (arXiv:1911.09070, Table 1; official `hparams_config.py`).

The paper's scaling equations do not reproduce the published networks (D2's width, D5's cells,
D7's resolution): the official table is the definition. Nothing here imports torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from backbone.errors import UserError


@dataclass(frozen=True, slots=True)
class DetSpec:
    """One variant: its backbone, BiFPN, heads, anchors and native picture size.

    ``backbone_survival`` is the backbone's stochastic-depth survival probability: D0 trains
    without stochastic depth, all others with 0.8.
    """

    name: str
    backbone: str
    image_size: int
    fpn_channels: int
    fpn_cells: int
    head_repeats: int
    max_level: int = 7
    anchor_scale: float = 4.0
    fusion: Literal["fast", "sum"] = "fast"
    backbone_survival: float = 0.8
    min_level: int = 3

    @property
    def levels(self) -> range:
        """The pyramid levels that the heads see; level l has stride ``2 ** l``."""
        return range(self.min_level, self.max_level + 1)


def both_sides(image_size: int | Sequence[int]) -> tuple[int, int]:
    """Return the height and width that one side, or height and width, stand for.

    Raises:
        UserError: it is neither; it may come from a command line.
    """
    sides: Any = image_size if isinstance(image_size, Sequence) else (image_size, image_size)
    if len(sides) != 2 or not all(isinstance(side, int) and side > 0 for side in sides):
        raise UserError(f"image_size={image_size}: expected pixels, such as 512 or [384,512]")
    return sides[0], sides[1]


def _spec(name: str, backbone: str, *numbers: int, **rest: float | str) -> DetSpec:
    return DetSpec(f"efficientdet_{name}", f"efficientnet_{backbone}", *numbers, **rest)  # type: ignore[arg-type]


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
        _spec("d7", "b6", 1536, 384, 8, 5, fusion="sum", anchor_scale=5.0),
        _spec("d7x", "b7", 1536, 384, 8, 5, fusion="sum", max_level=8),
    )
}
