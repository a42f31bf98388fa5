"""How to measure; plain Python, as those who only ask for a measurement need no torch."""

from dataclasses import dataclass

from compound.errors import UserError, closest

PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How to measure a training and an inference.

    Attributes:
        device: ``cpu`` or ``cuda``.
        precision: one of ``PRECISIONS``.
        rounds: steps that count, of which the median is taken.
        warmup: steps before them.
        clip: largest norm of the gradients, as the training clips them; 0 does not.
    """

    device: str
    precision: str = "32-true"
    rounds: int = 10
    warmup: int = 2
    clip: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what cannot be measured."""
        check_precision(self.precision, self.device)
        check_whole(self, rounds=1, warmup=0)


def check_precision(precision: str, device: str) -> None:
    """Refuse what a device cannot, or we do not know.

    Raises:
        UserError: the precision is none of ``PRECISIONS``, or needs another device.
    """
    closest(precision, PRECISIONS, what="precision")
    if precision == "16-mixed" and device == "cpu":
        raise UserError("precision=16-mixed needs a GPU; a CPU takes 32-true or bf16-mixed")


def check_whole(settings: object, others: str = "", **least: int) -> None:
    """Refuse settings whose attributes are no whole numbers of ``least`` or more.

    Args:
        settings: has the attributes.
        others: words on what else may be given.
        least: the smallest number of each attribute.

    Raises:
        UserError: one of them is not.
    """
    for key, smallest in least.items():
        value = getattr(settings, key)
        if not isinstance(value, int) or isinstance(value, bool) or value < smallest:
            raise UserError(f"{key}={value}: expected a whole number of {smallest} or more{others}")
