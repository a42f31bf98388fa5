"""What a comparison found, as files: CSV, JSON and a page."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from compound.report.charts import svg_of
from compound.report.page import Chart, Section, Table, Text, write_page


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write one line a row; its columns are all keys, in the order in which they come up."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


def flat(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested values side by side, ``{"hours": {"median": 1}}`` as ``hours_median``."""
    found: dict[str, Any] = {}
    for key, value in content.items():
        if isinstance(value, Mapping):
            found |= {f"{key}_{inner}": v for inner, v in flat(value).items()}
        elif isinstance(value, list | tuple):
            found[key] = " ".join(map(str, value))
        else:
            found[key] = value
    return found


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write plain values."""
    path.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def write_comparison(
    path: Path,
    *,
    title: str,
    notes: Sequence[str],
    tables: Sequence[Table],
    figures: Mapping[str, Figure],
) -> None:
    """Write the page.

    Args:
        path: where to.
        title: its heading.
        notes: paragraphs on how to read it.
        tables: what was found.
        figures: what was drawn, by its name.
    """
    charts = [Chart(name.capitalize(), svg_of(figure)) for name, figure in figures.items()]
    sections = [
        Section("What was found", tables),
        Section("Drawn", charts),
        Section("How to read it", [Text(note) for note in notes]),
    ]
    write_page(path, title=title, summary="Written by tools/compare.py.", sections=sections)
