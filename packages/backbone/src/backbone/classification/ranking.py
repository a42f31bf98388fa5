"""What a classifier took the pictures of a split for, collected from all processes."""

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch import Tensor

from compound.training.gather import gathered

# Of each picture so many classes are kept.
TOP = 5


class Ranking(NamedTuple):
    """The likeliest classes of ``P`` pictures, in order of their positions in the split.

    Attributes:
        indices: ``(P,)`` int64, positions in the split.
        truth: ``(P,)`` int64, the pictures' own labels.
        labels: ``(P, k)`` int64, the likeliest first; k is `TOP`, or less with fewer classes.
        scores: ``(P, k)`` float32, their probabilities.
        losses: ``(P,)`` float32, the cross entropies.
    """

    indices: np.ndarray
    truth: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    losses: np.ndarray


class RankingCollector:
    """Collect batch by batch; `gather` returns all and begins anew."""

    def __init__(self) -> None:
        self._batches: list[Ranking] = []

    def add(self, indices: Tensor, truth: Tensor, probabilities: Tensor, losses: Tensor) -> None:
        """Add a batch: positions, labels and losses ``(B,)``, probabilities ``(B, K)``."""
        scores, labels = probabilities.topk(min(TOP, probabilities.shape[1]))
        columns = (indices, truth, labels, scores.float(), losses.float())
        self._batches.append(Ranking(*(column.cpu().numpy() for column in columns)))

    def gather(self) -> Ranking | None:
        """Return what all processes collected in the first, None in the others.

        A picture that was given twice, as samplers that pad do, counts once.
        """
        own, self._batches = _joined(self._batches), []
        parts = gathered(own)
        if parts is None:
            return None
        together = _joined([part for part in parts if part is not None])
        if together is None:
            return None
        _, first = np.unique(together.indices, return_index=True)
        return Ranking(*(column[first] for column in together))


def scores_of(ranking: Ranking) -> dict[str, float]:
    """Return the mean ``loss``, and the shares ``top1`` and ``top5`` that are right.

    With fewer than five classes ``top5`` counts all of them.
    """
    right = ranking.labels == ranking.truth[:, None]
    return {
        "loss": float(ranking.losses.mean(dtype=np.float64)),
        "top1": float(right[:, 0].mean()),
        "top5": float(right.any(1).mean()),
    }


def _joined(parts: Sequence[Ranking]) -> Ranking | None:
    if not parts:
        return None
    return Ranking(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def write_ranking(
    path: Path, ranking: Ranking, class_names: Sequence[str], name_of: Callable[[int], str]
) -> None:
    """Write a line a picture: its name, its class, its loss and the likeliest classes.

    Args:
        path: where to; an older file is replaced only when the new one is complete.
        ranking: what is written.
        class_names: in order of the labels.
        name_of: the name of the picture at a position of the split.
    """
    count = ranking.labels.shape[1]
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    with part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        pairs = [f"{what}{i}" for i in range(1, count + 1) for what in ("guess", "probability")]
        writer.writerow(["file", "class", "loss", *pairs])
        for index, truth, labels, scores, loss in zip(
            *(column.tolist() for column in ranking), strict=True
        ):
            guesses = (
                cell
                for label, score in zip(labels, scores, strict=True)
                for cell in (class_names[label], f"{score:.5f}")
            )
            writer.writerow([name_of(index), class_names[truth], f"{loss:.5f}", *guesses])
    part.replace(path)
