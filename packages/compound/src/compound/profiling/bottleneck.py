"""What binds a training and an inference, by their times."""

from dataclasses import dataclass

from compound.profiling.steps import Timed

# Less than this of what the slower one of loader and step gives is worth a word.
_WORTH_A_WORD = 0.9


@dataclass(frozen=True, slots=True)
class Verdict:
    """The part that binds, and why, in a sentence."""

    part: str
    reason: str


def judge_training(
    step: Timed, *, loader: float, together: float, num_workers: int, device: str
) -> Verdict:
    """Return what to make faster first.

    Args:
        step: the training step, its batch being there already.
        loader: pictures a second of the loader alone.
        together: pictures a second of loader and steps at once.
        num_workers: the loader's.
        device: ``cpu`` or ``cuda``.
    """
    part, share = _largest(step)
    alone = step.images_per_second
    rates = (
        f"the loader alone gives {_shown(loader)} images/s, the step alone takes "
        f"{_shown(alone)}, both at once {_shown(together)}"
    )
    # Two that share what computes give so much.
    shared = 1 / (1 / loader + 1 / alone)
    if num_workers == 0:
        rates += ", as they take turns (data.num_workers=0)"
    elif device == "cpu" and max(together, shared) < _WORTH_A_WORD * min(loader, alone):
        rates += ", as they share the cores"
    if loader < alone:
        advice = (
            f"more data.num_workers (now {num_workers}), smaller files or a lighter augmentation"
        )
        return Verdict("data", f"data bind: {rates}; {advice} would help")
    return Verdict(part, f"{part} binds, {share:.0%} of the step: {rates}")


def judge_inference(step: Timed) -> Verdict:
    """Return the largest part of an inference."""
    part, share = _largest(step)
    others = ", ".join(
        f"{name} {seconds / _whole(step):.0%}"
        for name, seconds in step.parts.items()
        if name != part
    )
    return Verdict(part, f"{part} binds, {share:.0%}; {others}")


def _largest(step: Timed) -> tuple[str, float]:
    part = max(step.parts, key=lambda name: step.parts[name])
    return part, step.parts[part] / _whole(step)


def _whole(step: Timed) -> float:
    return sum(step.parts.values())


def _shown(rate: float) -> str:
    return f"{rate:.0f}" if rate >= 100 else f"{rate:.3g}"
