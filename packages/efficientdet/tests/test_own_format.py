"""The reader that docs/data.md shows for a format of one's own."""

import re
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

DOCS = Path(__file__).parents[3] / "docs/data.md"


def test_the_documented_reader_reads(tmp_path: Path) -> None:
    section = DOCS.read_text(encoding="utf-8").partition("## A format of your own")[2]
    code = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    assert code is not None
    module: dict[str, Any] = {}
    exec(code[1], module)
    for name in ("a.png", "b.png"):
        Image.new("RGB", (60, 40)).save(tmp_path / name)
    (tmp_path / "train.txt").write_text("a.png;12;7;40;30;screw\na.png;0;0;10;10;nut\n")
    (tmp_path / "val.txt").write_text("b.png;5;5;10;20;screw\n")
    splits = module["read"](str(tmp_path))
    assert splits["train"].class_names == splits["val"].class_names == ("nut", "screw")
    np.testing.assert_array_equal(splits["train"].boxes, [[12, 7, 52, 37], [0, 0, 10, 10]])
    assert splits["train"].labels.tolist() == [1, 0]
    assert (splits["val"].sizes.tolist(), splits["val"].image_ids.tolist()) == ([[60, 40]], [1])
