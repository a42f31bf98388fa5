"""Better anchors as configuration that a training takes, and whether they are worth it."""

from collections.abc import Mapping
from typing import Any

from compound.doctor.findings import Finding
from efficientdet.doctor.coverage import AnchorShapes, Coverage, in_words

# What the proposal must gain in recall to be worth a word: an anchor that overlaps enough already
# gains nothing by overlapping more.
WORTH = 0.02
# Recall of the present anchors below which they hardly fit at all.
POOR = 0.5


def proposal_finding(now: Coverage, then: Coverage, shapes: AnchorShapes) -> Finding | None:
    """Return that other anchors would fit the training's boxes, if they would.

    Args:
        now: how the present anchors fit.
        then: how the proposed ones do.
        shapes: the proposed ones.
    """
    if then.recall - now.recall < WORTH:
        return None
    return Finding(
        "warning" if now.recall < POOR else "hint",
        "anchors",
        f"train: anchors overlap {now.recall:.1%} of the boxes by 0.5 or more; others would "
        f"overlap {then.recall:.1%} (mean IoU {now.mean_iou:.2f}, then {then.mean_iou:.2f})",
        f"train with {overrides(shapes)}, from weights of the backbone alone: a detector's own "
        "would have to learn its boxes anew",
    )


def overrides(shapes: AnchorShapes) -> str:
    """Return anchors as words of a training's command line."""
    return " ".join(f"'model.{key}={value}'" for key, value in _values(shapes).items())


def to_yaml(
    shapes: AnchorShapes,
    *,
    size: tuple[int, int],
    now: Mapping[str, Coverage],
    then: Mapping[str, Coverage],
) -> str:
    """Return anchors as an experiment's file.

    Args:
        shapes: the anchors.
        size: height and width of the network's input that they are for.
        now: how the present ones fit the training's boxes, by size.
        then: how these do.
    """
    gains = ", ".join(f"{name} {now[name].recall:.3f} -> {then[name].recall:.3f}" for name in now)
    values = "".join(f"  {key}: {value}\n" for key, value in _values(shapes).items())
    return (
        "# @package _global_\n"
        "# Copied to configs/experiment/anchors.yaml: uv run tools/train.py experiment=anchors,\n"
        "# with another experiment experiment=[<that one>,anchors],\n"
        f"# or at the end of a command line: {overrides(shapes)}\n"
        f"# For model.image_size={in_words(size)}. Best possible recall at IoU 0.5: {gains}.\n"
        f"model:\n{values}"
    )


def to_dict(shapes: AnchorShapes) -> dict[str, Any]:
    """Return plain values, with the keys that ``model`` has."""
    aspects = shapes.aspects if isinstance(shapes.aspects, str) else list(shapes.aspects)
    return {
        "anchor_scale": shapes.scale,
        "aspects": aspects,
        "octaves": list(shapes.octaves),
    }


def _values(shapes: AnchorShapes) -> dict[str, str]:
    return {
        key: in_words(value) if isinstance(value, list) else str(value)
        for key, value in to_dict(shapes).items()
    }
