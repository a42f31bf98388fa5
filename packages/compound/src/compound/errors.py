"""How a user's mistake is told."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(ValueError):
    """A mistake that the user can mend.

    The message names the file, key or value and the way out. Tools print it and exit with 2,
    without a traceback.
    """


def closest(name: str, accepted: Iterable[str], *, what: str) -> str:
    """Return ``name`` if it is accepted.

    Raises:
        UserError: it is not; the message names the nearest accepted ones, or all if none is near.
    """
    accepted = list(dict.fromkeys(accepted))
    if name in accepted:
        return name
    near = get_close_matches(name, accepted, n=3, cutoff=0.5)
    advice = f"did you mean {' or '.join(near)}?" if near else f"accepted: {', '.join(accepted)}"
    raise UserError(f"{what} {name!r} is unknown; {advice}")


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message."""
    return (str(error) or repr(error)).strip().splitlines()[0]
