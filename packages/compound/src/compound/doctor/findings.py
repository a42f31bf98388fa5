"""What a data set's check says: findings by severity, each with its places and the way out."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

Severity = Literal["error", "warning", "hint"]
# So many of a finding's places are shown; files hold all of them.
SHOWN = 5


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to know about a data set.

    Attributes:
        severity: an ``error`` makes a training or its score wrong or impossible, a ``warning``
            makes it worse, a ``hint`` may be as it should.
        check: a short name that stays the same, for programs and for docs/doctor.md.
        text: a sentence that says what was found and where.
        advice: the way out.
        places: files, objects or classes.
        count: how many there are, where not all of them are named.
    """

    severity: Severity
    check: str
    text: str
    advice: str
    places: Sequence[str] = ()
    count: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as JSON has them, with all places."""
        return asdict(self) | {"places": list(self.places), "count": self.total}

    @property
    def total(self) -> int:
        """How many places there are."""
        return len(self.places) if self.count is None else self.count

    def shown(self, most: int = SHOWN) -> list[str]:
        """Return the first places, and how many more there are."""
        first = list(self.places[:most])
        left = self.total - len(first)
        return [*first, f"and {left} more"] if first and left else first


def ordered(findings: Sequence[Finding]) -> list[Finding]:
    """Return the findings with the severest first, else in the order in which they came."""
    return sorted(findings, key=lambda finding: get_args(Severity).index(finding.severity))


def passes(findings: Sequence[Finding]) -> bool:
    """Return whether there is no error."""
    return all(finding.severity != "error" for finding in findings)


def lines(finding: Finding) -> Iterator[str]:
    """Yield a finding as text, its places indented below it."""
    yield f"{finding.severity}: {finding.text}; {finding.advice}"
    for place in finding.shown():
        yield f"    {place}"


def line(finding: Finding, *, most: int = 2) -> str:
    """Return a finding in one line."""
    places = ", ".join(finding.shown(most))
    return f"{finding.text}{f' ({places})' if places else ''}; {finding.advice}"


def tally(findings: Sequence[Finding]) -> str:
    """Return how many findings of each severity there are, in words."""
    counts = Counter(finding.severity for finding in findings)
    words = [
        f"{counts[name]} {name}{'' if counts[name] == 1 else 's'}" for name in get_args(Severity)
    ]
    return ", ".join(words)
