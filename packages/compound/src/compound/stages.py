"""The stages of a training whose pictures grow (arXiv:2104.00298, Sec. 4)."""

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

# Times are quotients of whole numbers; rounding errors are far smaller than a step.
_TINY = 1e-9


@dataclass(frozen=True, slots=True)
class Stage:
    """What a stage shows and how strongly it regularises.

    Attributes:
        image_size: longer side of the training pictures in pixels.
        magnitude: of RandAugment's operations; nothing where the policy is none.
        mixup: alpha of mixup's beta distribution; for detectors the probability of mixup.
        cutmix: alpha of CutMix's beta distribution.
        dropout: probability before the classifier.
        batch_size: pictures of a step on one device.
    """

    image_size: int
    magnitude: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    dropout: float = 0.0
    batch_size: int = 1


@dataclass(frozen=True, slots=True)
class Progression:
    """Stages that follow each other.

    Attributes:
        stages: the first to the last.
        ends: when each ends, in epochs; the last one's is the end of the training.
    """

    stages: tuple[Stage, ...]
    ends: tuple[float, ...]

    @property
    def last_start(self) -> float:
        """Return when the last stage begins, in epochs."""
        return (0.0, *self.ends)[-2]

    def at(self, time: float) -> int:
        """Return the number of the stage of a step that is done after ``time`` epochs."""
        return min(bisect_left(self.ends, time - _TINY), len(self.stages) - 1)

    def work_done(self, time: float) -> float:
        """Return the share of all pixels that ``time`` epochs have shown."""
        starts = (0.0, *self.ends[:-1])
        pixels = [stage.image_size**2 for stage in self.stages]
        spans = [(start, end) for start, end in zip(starts, self.ends, strict=True)]
        done = sum(
            p * (min(time, end) - start)
            for p, (start, end) in zip(pixels, spans, strict=True)
            if time > start
        )
        return done / sum(p * (end - start) for p, (start, end) in zip(pixels, spans, strict=True))

    def columns(self) -> dict[str, tuple[float, ...]]:
        """Return each value by stage, and the ends."""
        plain = [asdict(stage) for stage in self.stages]
        return {name: tuple(row[name] for row in plain) for name in plain[0]} | {"ends": self.ends}

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for a checkpoint."""
        return {"stages": [asdict(stage) for stage in self.stages], "ends": list(self.ends)}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        """Return what `to_dict` was made of."""
        return cls(tuple(Stage(**stage) for stage in plain["stages"]), tuple(plain["ends"]))
