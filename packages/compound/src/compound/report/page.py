"""One self-contained page out of sections: texts, numbers, tables, charts, pictures with boxes."""

import base64
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple

import cv2
import numpy as np
from jinja2 import Environment, PackageLoader
from markupsafe import Markup

Tone = Literal["plain", "good", "warn", "bad"]
# Cells of a heatmap beyond this many columns have no room for their numbers.
NUMBERED_COLUMNS = 25
# Of boxes: annotated and found, annotated and not found, found rightly, found wrongly.
KINDS = ("truth", "missed", "right", "wrong")
# Of the pictures' JPEG.
QUALITY = 80


class Text(NamedTuple):
    """A paragraph."""

    text: str
    tone: Tone = "plain"


class Numbers(NamedTuple):
    """What is read first, as pairs of a label and a value."""

    values: Sequence[tuple[str, str]]


class Table(NamedTuple):
    """A title, the columns' names, and cells as they are shown; a reader can sort by columns."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""


class Chart(NamedTuple):
    """A drawing, see `compound.report.charts.svg_of`."""

    title: str
    svg: str
    note: str = ""


class Heatmap(NamedTuple):
    """Counts ``(R, C)``; colours are shares of their row."""

    title: str
    rows: Sequence[str]
    columns: Sequence[str]
    values: np.ndarray
    note: str = ""


class Box(NamedTuple):
    """A box in pixels of its picture; ``score`` is None of what was annotated.

    ``kind`` is one of `KINDS`; readers hide kinds that they do not want to see.
    """

    xyxy: tuple[float, float, float, float]
    label: int
    score: float | None
    kind: str


class Shot(NamedTuple):
    """A small picture, see `shot`; ``size`` is its width and height."""

    jpeg: bytes
    size: tuple[int, int]
    caption: str
    boxes: Sequence[Box] = ()


class Gallery(NamedTuple):
    """Pictures; with boxes there are switches for their kinds and a slider for their scores.

    ``least`` is the score that the slider begins with.
    """

    title: str
    shots: Sequence[Shot]
    class_names: Sequence[str] = ()
    note: str = ""
    least: float = 0.0


class Details(NamedTuple):
    """A text as it is, such as a configuration, folded away until it is asked for."""

    title: str
    text: str


Part = Text | Numbers | Table | Chart | Heatmap | Gallery | Details


class Section(NamedTuple):
    """What belongs together, under a heading."""

    title: str
    parts: Sequence[Part]


def shot(pixels: np.ndarray, caption: str, boxes: Sequence[Box] = (), *, side: int = 480) -> Shot:
    """Return a picture, shrunk so that its longer side is at most ``side``, with its boxes.

    Args:
        pixels: ``(H, W, 3)`` uint8 RGB.
        caption: what is written below it.
        boxes: in its pixels; they are brought into those of the small picture.
        side: in pixels.
    """
    height, width = pixels.shape[:2]
    factor = min(1.0, side / max(height, width))
    # Of a picture of 1 x 5000 pixels a line is left.
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    small = pixels if factor == 1 else cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    done, encoded = cv2.imencode(
        ".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), (cv2.IMWRITE_JPEG_QUALITY, QUALITY)
    )
    assert done
    x, y = size[0] / width, size[1] / height
    moved = [
        box._replace(xyxy=(box.xyxy[0] * x, box.xyxy[1] * y, box.xyxy[2] * x, box.xyxy[3] * y))
        for box in boxes
    ]
    return Shot(encoded.tobytes(), size, caption, moved)


def share(value: float) -> str:
    """Return a share with three places, nothing for nan."""
    return "" if value != value else f"{value:.3f}"


def write_page(path: Path, *, title: str, summary: str, sections: Sequence[Section]) -> None:
    """Write a page, replacing an older one only when it is complete.

    Args:
        path: where to.
        title: its heading.
        summary: one sentence below it.
        sections: the content; empty ones are left out.
    """
    shown = [section for section in sections if section.parts]
    text = _environment().get_template("page.html.jinja").render(
        title=title, summary=summary, sections=shown
    )  # fmt: skip
    part = path.with_suffix(".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("compound.report", ""),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    loader = environment.loader
    assert loader is not None
    environment.globals |= {
        "file": lambda name: Markup(loader.get_source(environment, name)[0]),
        "shades": _shades,
        "kinds": _kinds,
        "scored": _scored,
        "wordy": _wordy,
        "numbered_columns": NUMBERED_COLUMNS,
    }
    environment.filters |= {
        "kind": lambda part: type(part).__name__,
        "data": lambda jpeg: Markup(base64.b64encode(jpeg).decode()),
        "svg": Markup,
    }
    return environment


def _shades(heatmap: Heatmap) -> list[list[tuple[str, int, float]]]:
    """Return each row's cells as they are written, with their percent and share of the row."""
    values = np.asarray(heatmap.values, np.float64)
    total = values.sum(1, keepdims=True)
    shares = np.divide(values, total, out=np.zeros_like(values), where=total > 0)
    return [
        [
            (f"{value:g}", round(100 * share), round(share, 3))
            for value, share in zip(*row, strict=True)
        ]
        for row in zip(values.tolist(), shares.tolist(), strict=True)
    ]


def _kinds(gallery: Gallery) -> list[str]:
    """Return the kinds of a gallery's boxes."""
    found = {box.kind for shot in gallery.shots for box in shot.boxes}
    return [kind for kind in KINDS if kind in found]


def _scored(gallery: Gallery) -> bool:
    """Return whether there is something for a slider to do."""
    return any(box.score is not None for shot in gallery.shots for box in shot.boxes)


def _wordy(table: Table) -> list[bool]:
    """Return of each column whether it holds words, which stand on the left, or numbers."""
    columns = zip(*table.rows, strict=True) if table.rows else [()] * len(table.columns)
    return [
        i == 0 or any(cell and not cell.lstrip("+-")[:1].isdigit() for cell in column)
        for i, column in enumerate(columns)
    ]
