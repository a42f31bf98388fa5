"""How large a report on COCO's validation split is, and how soon it is written and open.

``uv run benchmarks/report.py`` writes ``results/report.json``. The split is drawn: 5,000 pictures
of 640 x 480, as many objects and classes as COCO's, and a hundred detections of each picture.
Opening needs Chromium, otherwise it is left out.
"""

import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import provenance
from PIL import Image

from compound.report.page import write_page
from efficientdet.data.index import AnnotationIndex
from efficientdet.evaluation.evaluator import CocoEvaluator
from efficientdet.report import detector_sections

PICTURES, OBJECTS, CLASSES, DETECTIONS = 5_000, 36_781, 80, 100
WIDTH, HEIGHT = 640, 480


def main() -> None:
    """Draw, write, open."""
    with tempfile.TemporaryDirectory() as folder:
        index, rows = drawn(Path(folder))
        began = time.perf_counter()
        results = CocoEvaluator(index).scored(rows, index.image_ids)
        sections = detector_sections(results, index, split="val")
        analysed = time.perf_counter()
        page = Path(folder, "report.html")
        write_page(page, title="COCO's size", summary="drawn", sections=sections)
        written = time.perf_counter()
        result = {
            "pictures": PICTURES,
            "detections": len(results.rows),
            "analysis_seconds": analysed - began,
            "writing_seconds": written - analysed,
            "megabytes": page.stat().st_size / 1e6,
            "opening_seconds": opening_seconds(page),
        }
    told = {"command": "uv run benchmarks/report.py"}
    provenance.keep(provenance.RESULTS / "report.json", told, {"report": result})
    for name, value in result.items():
        print(f"{name:<18} {value}")


def drawn(folder: Path) -> tuple[AnnotationIndex, np.ndarray]:
    """Return a split, and detections of which a part are its objects, moved a little."""
    rng = np.random.default_rng(0)
    names = [f"{i}.jpg" for i in range(8)]
    for name in names:
        noise = rng.integers(0, 256, (HEIGHT // 16, WIDTH // 16, 3), np.uint8)
        Image.fromarray(noise).resize((WIDTH, HEIGHT)).save(folder / name)
    counts = rng.multinomial(OBJECTS, np.full(PICTURES, 1 / PICTURES))
    corners = rng.uniform(0, (WIDTH - 40, HEIGHT - 40), (OBJECTS, 2))
    sides = np.minimum(rng.lognormal(4, 0.8, (OBJECTS, 2)), (WIDTH, HEIGHT) - corners)
    boxes = np.hstack([corners, corners + sides])
    ids = np.arange(1, PICTURES + 1)
    labels = rng.integers(0, CLASSES, OBJECTS)
    index = AnnotationIndex(
        image_dir=folder,
        file_names=np.array([names[i % len(names)] for i in range(PICTURES)]),
        image_ids=ids,
        sizes=np.tile(np.array([WIDTH, HEIGHT], np.int32), (PICTURES, 1)),
        offsets=np.concatenate([[0], counts.cumsum()]),
        boxes=boxes,
        labels=labels,
        crowd=np.zeros(OBJECTS, bool),
        areas=sides.prod(1),
        class_names=tuple(f"class {i}" for i in range(CLASSES)),
        category_ids=np.arange(1, CLASSES + 1),
        repairs={},
    )
    near = np.column_stack([
        np.repeat(ids, counts), boxes[:, :2] + rng.normal(0, 4, (OBJECTS, 2)), sides,
        rng.beta(4, 3, OBJECTS), labels + 1,
    ])  # fmt: skip
    rest = PICTURES * DETECTIONS - OBJECTS
    far = np.column_stack([
        rng.choice(ids, rest), rng.uniform(0, (WIDTH - 60, HEIGHT - 60), (rest, 2)),
        rng.uniform(10, 60, (rest, 2)), rng.beta(1, 12, rest), rng.integers(1, CLASSES + 1, rest),
    ])  # fmt: skip
    rows = np.concatenate([near, far])
    return index, rows[np.argsort(rows[:, 0], kind="stable")]


def opening_seconds(page: Path) -> float | None:
    """Return the seconds until Chromium has laid the page out; None without it."""
    chromium = shutil.which("chromium")
    if chromium is None:
        return None
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        tab = browser.new_page()
        began = time.perf_counter()
        tab.goto(page.as_uri())
        tab.evaluate("document.body.getBoundingClientRect().height")
        seconds = time.perf_counter() - began
        browser.close()
    return seconds


if __name__ == "__main__":
    main()
