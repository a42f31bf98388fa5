"""What a comparison found, as files: CSV, JSON and a page."""

import base64
import csv
import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from efficientnetv2.comparison.tables import Table

_STYLE = (
    "body{font:15px sans-serif;margin:2em;max-width:75em}table{border-collapse:collapse}"
    "td,th{border:1px solid #bbb;padding:.25em .6em;text-align:right}"
    "td:first-child,th:first-child{text-align:left}img{max-width:100%}"
)


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


def write_page(
    path: Path, *, title: str, notes: Sequence[str], tables: Sequence[Table], plots: Sequence[Path]
) -> None:
    """Write a page that needs no other file and no network.

    Args:
        path: where to.
        title: its heading.
        notes: paragraphs on how to read it.
        tables: what was found.
        plots: PNG files, which the page takes in.
    """
    parts = [
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>',
        f"<style>{_STYLE}</style><h1>{escape(title)}</h1>",
        *(f"<p>{escape(note)}</p>" for note in notes),
        *map(_table, tables),
    ]
    for plot in plots:
        content = base64.b64encode(plot.read_bytes()).decode()
        parts.append(f'<p><img alt="{escape(plot.stem)}" src="data:image/png;base64,{content}">')
    path.write_text("\n".join([*parts, "</html>", ""]), encoding="utf-8")


def _table(table: Table) -> str:
    lines = [f"<h2>{escape(table.title)}</h2><table>", _line(table.columns, "th")]
    return "\n".join([*lines, *(_line(row, "td") for row in table.rows), "</table>"])


def _line(cells: Sequence[str], tag: str) -> str:
    return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"
