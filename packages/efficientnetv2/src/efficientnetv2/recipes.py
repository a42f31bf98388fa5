"""How each classifier is trained in EfficientNetV2's comparison.

The official code (`effnetv2_configs.py`) and the paper (arXiv:2104.00298, Table 6) disagree; both
are here by name.
"""

from dataclasses import dataclass, replace

from backbone.specs import EFFICIENTNET, NetSpec
from compound.errors import UserError, closest
from efficientnetv2.specs import EFFICIENTNETV2

NETWORKS: dict[str, NetSpec] = EFFICIENTNET | EFFICIENTNETV2
SOURCES = ("official", "paper")

# V1's networks learn at four fifths of the size they are scored at, rounded down to this.
_V1_SHARE, _V1_MULTIPLE = 0.8, 16


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a classifier's training ends with; a progressive one begins with less.

    Attributes:
        train_size: side of the training pictures in pixels.
        dropout: before the classifier.
        policy: AutoAugment (``v0``) or RandAugment with its magnitude, in timm's words.
        mixup: alpha of mixup's beta distribution.
        cutmix: the same of CutMix, which the paper does not name.
        scale: range of the random crop's area.
    """

    train_size: int
    dropout: float
    policy: str = "v0"
    mixup: float = 0.0
    cutmix: float = 0.0
    scale: tuple[float, float] = (0.08, 1.0)


def _searched(
    train_size: int, magnitude: int, dropout: float, mixup: float, cutmix: float = 0.0
) -> Recipe:
    # Officially an operation is never skipped, and magnitudes go beyond 10.
    policy = f"rand-m{magnitude}-n2-mmax{magnitude}-p1"
    return Recipe(train_size, dropout, policy, mixup, cutmix, scale=(0.05, 1.0))


_OFFICIAL = {
    # train size, magnitude, dropout, mixup, cutmix
    "efficientnetv2_s": _searched(300, 10, 0.2, 0.0),
    "efficientnetv2_m": _searched(384, 15, 0.3, 0.2, 0.2),
    "efficientnetv2_l": _searched(384, 20, 0.4, 0.5, 0.5),
    "efficientnetv2_xl": _searched(384, 20, 0.4, 0.5, 0.5),
    "efficientnetv2_b0": Recipe(192, 0.2),
    "efficientnetv2_b1": Recipe(192, 0.2),
    "efficientnetv2_b2": Recipe(208, 0.3),
    "efficientnetv2_b3": Recipe(240, 0.3),
}
_PAPER = {
    "efficientnetv2_s": _searched(300, 15, 0.3, 0.0),
    "efficientnetv2_m": _searched(380, 20, 0.4, 0.2),
    "efficientnetv2_l": _searched(380, 25, 0.5, 0.4),
}


def recipe(name: str, source: str = "official") -> Recipe:
    """Return the recipe of a published classifier, V2's or V1's.

    What the paper does not say is the official code's.

    Raises:
        UserError: there is no such classifier, or no such source.
    """
    if source not in SOURCES:
        raise UserError(f"recipe.source={source}: expected official or paper")
    spec = _spec(name)
    if source == "paper" and name in _PAPER:
        return _PAPER[name]
    size = int(_V1_SHARE * spec.image_size / _V1_MULTIPLE) * _V1_MULTIPLE
    return _OFFICIAL.get(name) or Recipe(size, spec.dropout)


def sized_recipe(name: str, source: str, image_size: int) -> Recipe:
    """Return the recipe for a network that is scored at ``image_size``.

    At the published size training pictures have the recipe's, at another they keep the proportion.

    Raises:
        UserError: there is no such classifier, or no such source.
    """
    found = recipe(name, source)
    return replace(found, train_size=round(found.train_size * image_size / _spec(name).image_size))


def _spec(name: str) -> NetSpec:
    return NETWORKS[closest(name, NETWORKS, what="model")]
