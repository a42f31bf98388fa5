"""How the verb that runs was called."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Call:
    """How a verb was called, on the command line or from Python.

    Attributes:
        verb: its name.
        choices: of the configuration's groups, by their names.
        overrides: the settings, as the command line has them.
        multirun: whether this is one of several runs.
    """

    verb: str = ""
    choices: Mapping[str, str | None] = field(default_factory=dict)
    overrides: Sequence[str] = ()
    multirun: bool = False


_CALL: ContextVar[Call] = ContextVar("call")


def current_call() -> Call:
    """Return how the verb that runs was called; an empty call outside of one."""
    return _CALL.get(Call())


@contextmanager
def as_call(call: Call) -> Iterator[None]:
    """Make a call the current one inside the block."""
    token = _CALL.set(call)
    try:
        yield
    finally:
        _CALL.reset(token)
