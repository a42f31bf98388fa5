"""How often each class occurs, and whether their names are really different."""

import re
from collections.abc import Mapping, Sequence

import numpy as np

from compound.doctor.findings import Finding, Severity

# Fewer examples than this teach little.
FEW = 10
# How much more frequent the most frequent class may be before it is said.
RATIO = 100


def balance_findings(
    counts: Mapping[str, np.ndarray], class_names: Sequence[str], *, things: str
) -> list[Finding]:
    """Return what is odd about the classes.

    Args:
        counts: ``(K,)`` for each split.
        class_names: in the order of the labels.
        things: what is counted, such as objects.
    """
    findings = _alike(class_names)
    scored = sum(
        (one for split, one in counts.items() if split != "train"), np.zeros(len(class_names), int)
    )
    for split, of_split in counts.items():
        missing, few = of_split == 0, (of_split > 0) & (of_split < FEW)
        here, none = f"have no {things} here, but some elsewhere", f"have no {things} at all"
        told: list[tuple[Severity, str, np.ndarray, str, str]] = [
            ("warning", "class_missing", missing & (scored > 0), here,
             "they can only be missed; add examples or take the classes out"),
            ("warning", "class_missing", missing & (scored == 0), none,
             "add examples or take the classes out"),
            ("hint", "class_rare", few, f"have fewer than {FEW} {things}",
             "expect little of them, or add examples"),
        ]  # fmt: skip
        if split != "train":
            advice = "their score is unknown; give the split some"
            told = [("hint", "class_unscored", missing, f"have no {things}", advice)]
        for severity, check, chosen, text, advice in told:
            if chosen.any():
                text = f"{split}: {chosen.sum()} of {len(chosen)} classes {text}"
                rows = np.flatnonzero(chosen).tolist()
                places = [class_names[k] for k in rows]
                if check == "class_rare":
                    places = [f"{class_names[k]}: {of_split[k]}" for k in rows]
                findings.append(Finding(severity, check, text, advice, places))
        if split == "train":
            findings += _unbalanced(of_split, class_names, things)
    return findings


def class_facts(
    counts: Mapping[str, np.ndarray], class_names: Sequence[str]
) -> dict[str, dict[str, int]]:
    """Return the counts ``(K,)`` of each split by the names of the classes."""
    return {
        split: dict(zip(class_names, of_split.tolist(), strict=True))
        for split, of_split in counts.items()
    }


def _unbalanced(counts: np.ndarray, class_names: Sequence[str], things: str) -> list[Finding]:
    most, least = int(counts.argmax()), int(np.where(counts > 0, counts, counts.max()).argmin())
    if not counts[most] > RATIO * counts[least] > 0:
        return []
    text = (
        f"train: {class_names[most]} has {counts[most]} {things}, {class_names[least]} "
        f"{counts[least]}: {counts[most] / counts[least]:.0f} times fewer"
    )
    advice = "watch the classes' own scores, or add examples of the rare ones"
    return [Finding("hint", "class_balance", text, advice)]


def _alike(class_names: Sequence[str]) -> list[Finding]:
    """Return names that differ in case, spaces, hyphens or underscores alone."""
    groups: dict[str, list[str]] = {}
    for name in class_names:
        groups.setdefault(re.sub(r"[\s_-]+", "", name).casefold() or name, []).append(name)
    same = [" / ".join(names) for names in groups.values() if len(names) > 1]
    if not same:
        return []
    text = f"{len(same)} classes are written in more than one way"
    advice = "they may be one class; give them one name"
    return [Finding("warning", "class_names", text, advice, same)]
