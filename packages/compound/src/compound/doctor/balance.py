"""How often each class occurs, and whether their names are really different."""

import re
from collections.abc import Mapping, Sequence

import numpy as np

from compound.doctor.findings import Finding

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
    for split, of_split in counts.items():
        missing = of_split == 0
        if split == "train":
            scored = sum((other for name, other in counts.items() if name != "train"), of_split * 0)
            findings += _missing_in_training(missing, scored, class_names, things)
            findings += _rare(of_split, class_names, things)
        elif missing.any():
            findings.append(
                Finding(
                    "hint",
                    "class_unscored",
                    f"{split}: {missing.sum()} of {len(missing)} classes have no {things}",
                    "their score is unknown; give the split some",
                    _named(missing, class_names),
                )
            )
    return findings


def class_facts(
    counts: Mapping[str, np.ndarray], class_names: Sequence[str]
) -> dict[str, dict[str, int]]:
    """Return the counts ``(K,)`` of each split by the names of the classes."""
    return {
        split: dict(zip(class_names, of_split.tolist(), strict=True))
        for split, of_split in counts.items()
    }


def _missing_in_training(
    missing: np.ndarray, scored: np.ndarray, class_names: Sequence[str], things: str
) -> list[Finding]:
    findings = []
    for chosen, text, advice in (
        (
            missing & (scored > 0),
            f"have no {things} here, but some elsewhere",
            "they can only be missed; add examples or take the classes out",
        ),
        (
            missing & (scored == 0),
            f"have no {things} at all",
            "add examples or take the classes out",
        ),
    ):
        if chosen.any():
            text = f"train: {chosen.sum()} of {len(chosen)} classes {text}"
            places = _named(chosen, class_names)
            findings.append(Finding("warning", "class_missing", text, advice, places))
    return findings


def _rare(counts: np.ndarray, class_names: Sequence[str], things: str) -> list[Finding]:
    findings = []
    few = (counts > 0) & (counts < FEW)
    if few.any():
        places = [f"{class_names[int(k)]}: {counts[k]}" for k in np.flatnonzero(few)]
        text = f"train: {few.sum()} of {len(few)} classes have fewer than {FEW} {things}"
        advice = "expect little of them, or add examples"
        findings.append(Finding("hint", "class_rare", text, advice, places))
    most, least = int(counts.argmax()), int(np.where(counts > 0, counts, counts.max()).argmin())
    if counts[most] > RATIO * counts[least] > 0:
        text = (
            f"train: {class_names[most]} has {counts[most]} {things}, {class_names[least]} "
            f"{counts[least]}: {counts[most] / counts[least]:.0f} times fewer"
        )
        advice = "watch the classes' own scores, or add examples of the rare ones"
        findings.append(Finding("hint", "class_balance", text, advice))
    return findings


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


def _named(chosen: np.ndarray, class_names: Sequence[str]) -> list[str]:
    return [class_names[int(k)] for k in np.flatnonzero(chosen)]
