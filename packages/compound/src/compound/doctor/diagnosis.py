"""All that the check of a data set came to, and the files that it is written to."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compound.doctor.findings import Finding, ordered, passes, tally
from compound.doctor.sections import findings_section
from compound.profiling.settings import check_whole
from compound.report.page import Section, write_page


@dataclass(frozen=True, slots=True)
class Options:
    """How thoroughly a data set is checked.

    Attributes:
        pictures: how many of a split are read; None for all.
        samples: augmented training pictures on the page.
        generations: of the search for better anchors.
        seed: of all that is drawn.

    Raises:
        UserError: one of them is no such number.
    """

    pictures: int | None = None
    samples: int = 24
    generations: int = 300
    seed: int = 0

    def __post_init__(self) -> None:
        check_whole(self, samples=0, generations=0)
        if self.pictures is not None:
            check_whole(self, ", or null for all", pictures=1)


@dataclass(slots=True)
class Diagnosis:
    """What was found.

    Attributes:
        findings: in the order in which they came up.
        facts: numbers about the data set, as plain values.
        sections: of the page, after the findings.
        files: contents of further files, by their names.
    """

    findings: list[Finding]
    facts: dict[str, Any]
    sections: list[Section] = field(default_factory=list)
    files: Mapping[str, str] = field(default_factory=dict)

    def write(self, folder: Path, *, title: str) -> list[Path]:
        """Write ``doctor.json``, ``doctor.html`` and the further files; return their paths."""
        findings = ordered(self.findings)
        content = {
            "passed": passes(findings),
            **self.facts,
            "findings": [finding.to_dict() for finding in findings],
        }
        texts = {"doctor.json": json.dumps(content, indent=2) + "\n", **self.files}
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8")
        page = folder / "doctor.html"
        sections = [findings_section(findings), *self.sections]
        write_page(page, title=title, summary=verdict(findings), sections=sections)
        return [*(folder / name for name in texts), page]


def verdict(findings: Sequence[Finding]) -> str:
    """Return in one line whether a data set passes, and what was found."""
    return f"{'passed' if passes(findings) else 'failed'}: {tally(findings)}"
