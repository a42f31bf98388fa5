"""Means of networks' weights, uniform and greedy: "Model soups" (arXiv:2203.05482, Sec. 2)."""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from textwrap import shorten
from typing import Any

import torch
from torch import Tensor, nn

from compound.training.freeze import Norm

State = Mapping[str, Tensor]

# What networks of equal tensors may differ in: nothing that a weight depends on.
_FREE = ("image_size", "dropout", "survival", "backbone_survival", "epochs")


class Mean:
    """A mean of networks that holds their sum alone, in float64.

    What is no float, as the counters of batch norms, is no average: it stays the first network's.
    """

    def __init__(self) -> None:
        self._count = 0
        self._sums: dict[str, Tensor] = {}

    def plus(self, state: State) -> "Mean":
        """Return the mean of one network more; this one stays as it is."""
        more = Mean()
        more._count = self._count + 1
        for name, value in state.items():
            before, adds = self._sums.get(name), value.is_floating_point()
            if before is None:
                more._sums[name] = value.double() if adds else value
            else:
                more._sums[name] = before + value if adds else before
        return more

    def state(self) -> dict[str, Tensor]:
        """Return the mean in float32."""
        return {
            name: (value / self._count).float() if value.is_floating_point() else value
            for name, value in self._sums.items()
        }


@dataclass(frozen=True, slots=True)
class Soup:
    """A mean, its score, and which networks are in it, in the order in which they were taken."""

    state: dict[str, Tensor]
    score: float
    taken: tuple[int, ...]


def uniform(
    scores: Sequence[float], read: Callable[[int], State], score: Callable[[State], float]
) -> Soup:
    """Return the mean of all networks.

    Args:
        scores: of each network.
        read: returns the state of the i-th.
        score: returns the score of a mean; more is better, nan the worst.
    """
    mean = Mean()
    for i in range(len(scores)):
        mean = mean.plus(read(i))
    state = mean.state()
    return Soup(state, score(state), tuple(range(len(scores))))


def greedy(
    scores: Sequence[float], read: Callable[[int], State], score: Callable[[State], float]
) -> Soup:
    """Return the mean of the best network and of each next one that does not lower its score.

    Recipe 1 of the paper. The score of the best alone is taken as given, so that the soup's is
    never less than it. Arguments are as in `uniform`.
    """
    first, *others = ranked(scores)
    mean, reached, taken = Mean().plus(read(first)), scores[first], [first]
    for i in others:
        candidate = mean.plus(read(i))
        found = score(candidate.state())
        if _order(found) >= _order(reached):
            mean, reached = candidate, found
            taken.append(i)
    return Soup(mean.state(), reached, tuple(taken))


METHODS = {"uniform": uniform, "greedy": greedy}


def ranked(scores: Sequence[float]) -> list[int]:
    """Return the places of scores, the best first; of equal ones the first."""
    return sorted(range(len(scores)), key=lambda i: -_order(scores[i]))


def _order(score: float) -> float:
    return -math.inf if math.isnan(score) else score


def first_difference(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """Return what makes a mean of two networks meaningless, or nothing.

    Sizes of pictures and the rates of a training may differ; architecture, conventions,
    preprocessing, anchors and classes may not.

    Args:
        one: what a file says of its network, see `compound.weights.read_file`.
        other: what another one says.
    """
    # Lists, as .safetensors have them, are a checkpoint's tuples.
    mine, theirs = (json.loads(json.dumps(values)) for values in (one, other))
    return _difference(mine, theirs, "")


def _difference(one: dict[str, Any], other: dict[str, Any], prefix: str) -> str:
    for key in one | other:
        a, b = one.get(key), other.get(key)
        if key in _FREE or a == b:
            continue
        if isinstance(a, dict) and isinstance(b, dict):
            if inner := _difference(a, b, f"{prefix}{key}."):
                return inner
            continue
        a, b = (shorten(str(value), 80, placeholder=" ...") for value in (a, b))
        return f"{prefix}{key} is {b}, not {a}"
    return ""


@torch.no_grad()
def estimate_norms(model: nn.Module, batches: Iterable[Any]) -> None:
    """Give batch norms that learn the statistics of a network's own activations.

    The mean of running statistics is not the statistics of the mean. Every batch counts alike,
    whatever the momentum. Torch's ``update_bn`` does the same, but for frozen norms too, which
    keep theirs here, and with dropout and stochastic depth, which no evaluation has.

    Args:
        model: the network; it is left in evaluation mode.
        batches: its inputs, one batch at least.
    """
    model.eval()
    norms = [m for m in model.modules() if isinstance(m, Norm) and m.weight.requires_grad]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a cumulative average
        norm.train()
    for batch in batches:
        model(batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()
