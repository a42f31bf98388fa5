"""The notebook of the documentation runs from its first cell to its last."""

import json
from pathlib import Path
from typing import Any

import pytest

START = Path(__file__).parent.parent / "docs" / "start.ipynb"


@pytest.mark.train
def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COMPOUND_CACHE", str(tmp_path / "cache"))
    cells = json.loads(START.read_text(encoding="utf-8"))["cells"]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    # A fraction of the images is enough to run every line.
    less = {"num_train=200": "num_train=16", "num_val=20": "num_val=8", "=128": "=64"}
    for text, shorter in less.items():
        assert text in sources[0]
        sources[0] = sources[0].replace(text, shorter)
    names: dict[str, Any] = {}
    for i, source in enumerate(sources):
        exec(compile(source, f"{START.name}, cell {i}", "exec"), names)
    run = names["run"]
    assert run.path.parent.parent == tmp_path / "runs"
    assert run.path.parent.name == "det-d0"
    assert run.metrics["val/mAP"] == pytest.approx(names["scores"]["val/mAP"], abs=1e-4)
    assert run.report.is_file()
