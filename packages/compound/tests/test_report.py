import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from backbone.classification.data.index import FileIndex
from backbone.classification.ranking import Ranking
from backbone.classification.report import classifier_sections
from compound.report.charts import lines, new_figure, svg_of
from compound.report.page import (
    Box,
    Chart,
    Details,
    Gallery,
    Heatmap,
    Numbers,
    Section,
    Table,
    Text,
    shot,
    write_page,
)
from compound.report.parts import cells_of, confusion_part
from compound.report.training import read_metrics, training_section


def page(tmp_path: Path, *parts: object) -> str:
    path = tmp_path / "report.html"
    section = Section("One", parts)  # type: ignore[arg-type]
    write_page(path, title="a & b", summary="<i>", sections=[section, Section("Empty", [])])
    assert [p.name for p in tmp_path.glob("report*")] == ["report.html"]
    return path.read_text()


def test_what_is_shown_is_escaped(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>"
    evil_shot = shot(np.zeros((4, 4, 3), np.uint8), evil, [Box((0, 0, 2, 2), 0, 0.5, "right")])
    text = page(
        tmp_path, Text(evil), Table(evil, [evil], [[evil]], evil), Details(evil, evil),
        Heatmap(evil, [evil], [evil], np.ones((1, 1))),
        Gallery(evil, [evil_shot], [evil]),
    )  # fmt: skip
    assert "<script>alert" not in text
    assert "<title>a &amp; b</title>" in text
    assert "&lt;i&gt;" in text
    assert "Empty" not in text
    # One file that needs no other.
    assert not re.findall(r'(?:src|href)="(?!data:|#)', text)
    assert "http" not in re.sub(r"http://www.w3.org/\S+", "", text)


def test_cells_of_a_heatmap_are_shares_of_their_row(tmp_path: Path) -> None:
    values = np.array([[3, 1], [0, 0]])  # 3 / 4 and 1 / 4; a row without anything has no shares
    text = page(tmp_path, Heatmap("Confusions", ["cat", "dog"], ["cat", "dog"], values))
    cells = re.findall(r'<td style="--share:([\d.]+)"[^>]*title="([^"]*)">(\d*)', text)
    assert cells == [("0.75", "cat as cat: 3, 75 %", "3"), ("0.25", "cat as dog: 1, 25 %", "1")]


@pytest.mark.parametrize(("height", "width"), [(100, 960), (960, 100), (40, 30), (1, 5000)])
def test_boxes_shrink_with_their_picture(height: int, width: int) -> None:
    pixels = np.full((height, width, 3), 200, np.uint8)
    found = shot(pixels, "", [Box((0, 0, width, height), 0, None, "truth")])
    assert max(found.size) <= 480
    assert found.boxes[0].xyxy == pytest.approx((0, 0, *found.size))
    image = Image.open(io.BytesIO(found.jpeg))
    assert image.size == found.size
    assert abs(int(np.asarray(image)[0, 0, 0]) - 200) < 4


def test_of_many_classes_the_most_confused_are_shown() -> None:
    matrix = np.diag(np.full(61, 9))
    matrix[50, 7] = 5
    part = confusion_part(cells_of(matrix), [str(i) for i in range(61)], note="How.", always=[60])
    assert len(part.rows) == 40
    assert {"50", "7", "60"} <= set(part.rows)
    assert part.values[part.rows.index("50"), part.columns.index("7")] == 5
    assert part.note == "How. Of 61 classes the 40 with most confusions."


def test_metrics_that_end_within_a_line_are_read(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("epoch,step,train/loss,val/top1\n0,1,2.5,\n0,2,,0.25\n0,3,2.0,\n1,4,1.")
    metrics = read_metrics(path)
    assert metrics["train/loss"][0].tolist() == [1, 3, 4]
    assert metrics["train/loss"][1].tolist() == [2.5, 2.0, 1.0]
    assert metrics["val/top1"][1].tolist() == [0.25]
    titles = [part.title for part in training_section(metrics).parts if isinstance(part, Chart)]
    assert titles == ["Loss", "Score"]
    assert read_metrics(tmp_path / "none.csv") == {}


def test_what_a_run_took_is_told(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text(
        "epoch,step,speed/train_seconds,speed/val_seconds,speed/images_per_second,memory/peak_gib\n"
        "0,1,,,10,0.5\n0,2,40,3,,\n1,3,,,30,0.75\n1,4,80,5,,\n"
    )
    numbers, *charts = training_section(read_metrics(path)).parts
    assert numbers == Numbers([
        ("training, 2 epochs", "2 min"), ("validation, 2 epochs", "8.0 s"),
        ("images/s, median", "20.0"), ("peak memory", "0.75 GiB"),
    ])  # fmt: skip
    assert [c.title for c in charts if isinstance(c, Chart)] == [
        "Images a second", "Peak memory, GiB",
    ]  # fmt: skip


@pytest.fixture
def ranking() -> Ranking:
    """Return four pictures of two classes: right, right, wrong, right."""
    return Ranking(
        indices=np.arange(4),
        truth=np.array([0, 1, 1, 1]),
        labels=np.array([[0, 1], [1, 0], [0, 1], [1, 0]]),
        scores=np.array([[0.9, 0.1], [0.6, 0.4], [0.8, 0.2], [0.7, 0.3]], np.float32),
        losses=np.array([0.1, 0.5, 1.6, 0.4], np.float32),
    )


def test_pictures_that_have_moved_are_told_and_the_rest_is_shown(
    tmp_path: Path, ranking: Ranking
) -> None:
    names = np.array(["a.png", "b.png", "gone.png", "d.png"])
    for name in names[[0, 1, 3]]:
        Image.new("RGB", (8, 8)).save(tmp_path / str(name))
    index = FileIndex(tmp_path, names, ranking.truth, ("cat", "dog"))
    sections = {s.title: s.parts for s in classifier_sections(ranking, index, split="val")}
    numbers = dict(sections["At a glance: val"][0].values)  # type: ignore[union-attr]
    assert numbers["top-1"] == "0.750"  # three of four
    assert numbers["mean recall of classes"] == "0.833"  # (1 + 2 / 3) / 2
    assert numbers["loss"] == "0.650"  # (.1 + .5 + 1.6 + .4) / 4
    texts = [part.text for part in sections["Pictures"] if isinstance(part, Text)]
    assert len(texts) == 1
    assert texts[0].startswith("1 pictures are left out: ")
    assert "gone.png" in texts[0]
    shown = [s.caption for p in sections["Pictures"] if isinstance(p, Gallery) for s in p.shots]
    # From the picture that went wrong on; c.png is gone. The best is a.png.
    assert shown == ["dog, 0.60: b.png", "cat, 0.90: a.png", "dog, 0.70: d.png"]


def test_a_network_that_says_always_the_same_is_told_so(ranking: Ranking, tmp_path: Path) -> None:
    always = ranking._replace(labels=np.array([[0, 1]] * 4))
    index = FileIndex(tmp_path, np.array(list("abcd")), ranking.truth, ("cat", "dog"))
    (_, remark), *_ = (s.parts for s in classifier_sections(always, index, split="val"))
    assert remark == Text("Every picture was taken for cat: nothing has been learnt.", "bad")


def test_pictures_are_base64(tmp_path: Path) -> None:
    one = shot(np.zeros((4, 6, 3), np.uint8), "black")
    text = page(tmp_path, Gallery("Pictures", [one]))
    (found,) = re.findall(r'src="data:image/jpeg;base64,([^"]*)"', text)
    assert base64.b64decode(found) == one.jpeg
    assert "controls" not in text.partition("<main>")[2].partition("<script>")[0]


def test_names_in_charts_are_words() -> None:
    """A dollar begins no formula, and numbers of logarithmic axes are none of ours."""
    curves = [(r"a$\foo$", [1, 2], [1, 2]), ("_b", [1, 2], [2, 1])]
    svg = lines(curves, x="x", y="y")
    assert r">a$\foo$</text>" in svg
    assert ">b</text>" in svg
    figure, axes = new_figure()
    axes.plot([1, 1000], [1, 2])
    axes.set_xscale("log")
    assert "mathdefault" not in svg_of(figure)
