"""Training pictures that cannot be read: replaced, counted, and told at the end."""

import logging
from collections.abc import Iterable

from compound.errors import UserError

log = logging.getLogger(__name__)

# More unreadable training pictures than this and something is wrong with the data as a whole.
MAX_UNREADABLE = 100


class Unreadable:
    """The pictures that a training has met and could not use."""

    def __init__(self) -> None:
        self.reasons: set[str] = set()

    def note(self, reasons: Iterable[str]) -> None:
        """Remember pictures, each by a sentence that names its file.

        Raises:
            UserError: there are more than `MAX_UNREADABLE` by now.
        """
        self.reasons.update(reasons)
        if len(self.reasons) > MAX_UNREADABLE:
            raise UserError(
                f"data: over {MAX_UNREADABLE} training pictures cannot be used, for one "
                f"{min(self.reasons)}; check the data set before training on it"
            )

    def tell(self) -> None:
        """Log them, if there are any."""
        if self.reasons:
            log.warning(
                "%d training pictures could not be used:\n  %s",
                len(self.reasons),
                "\n  ".join(sorted(self.reasons)),
            )
