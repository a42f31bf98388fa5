"""What is wrong with a data set: files, classes, duplicates."""

from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from scipy.fft import dctn

from backbone.classification.data.datamodule import ClassificationData
from backbone.classification.data.figures import draw_figure
from backbone.classification.data.folders import folder_splits
from backbone.classification.doctor import check_quickly, diagnose
from compound.data.images import open_picture
from compound.doctor.balance import balance_findings
from compound.doctor.diagnosis import Options
from compound.doctor.files import file_findings, look_at, look_through, orientation_of, spread
from compound.doctor.findings import Finding, line, lines, ordered, passes, tally
from compound.doctor.near_duplicates import NEAR, NEAR_DIFFERENCE, find_twins, group, hashes_of
from compound.errors import UserError

ERROR = Finding(
    "error", "unreadable", "train: 7 pictures", "fetch them", [f"{i}.jpg" for i in range(7)]
)
HINT = Finding("hint", "empty", "val: 1 picture", "look", ["a.jpg"])


def test_findings_are_cut_and_counted() -> None:
    assert list(lines(ERROR)) == [
        "error: train: 7 pictures; fetch them",
        "    0.jpg", "    1.jpg", "    2.jpg", "    3.jpg", "    4.jpg", "    and 2 more",
    ]  # fmt: skip
    assert line(ERROR) == "train: 7 pictures (0.jpg, 1.jpg, and 5 more); fetch them"
    assert ordered([HINT, ERROR]) == [ERROR, HINT]
    assert (passes([HINT]), passes([HINT, ERROR])) == (True, False)
    assert tally([HINT, ERROR, HINT]) == "1 error, 0 warnings, 2 hints"
    assert len(ERROR.to_dict()["places"]) == 7  # files have all
    # where not all are named
    assert Finding("hint", "", "", "", ["a"], 1000).shown() == ["a", "and 999 more"]


def test_difference_hash_is_of_neighbours() -> None:
    grid = np.random.default_rng(0).integers(0, 256, (8, 9), np.uint8)
    # Each spot is 6 x 10 pixels, so that its mean is itself.
    picture = np.kron(grid, np.ones((6, 10), np.uint8))[..., None].repeat(3, 2)
    bits = "".join(str(int(row[x] < row[x + 1])) for row in grid.tolist() for x in range(8))
    found = hashes_of(picture)
    assert found is not None
    assert found[1] == int(bits, 2)


def test_perceptual_hash_is_of_low_frequencies() -> None:
    grey = np.random.default_rng(1).integers(0, 256, (32, 32), np.uint8)
    lowest = dctn(grey.astype(float), norm="ortho")[:8, :8]
    bits = "".join(str(int(value > np.median(lowest))) for value in lowest.flatten())
    found = hashes_of(grey[..., None].repeat(3, 2))
    assert found is not None
    assert found[0] == int(bits, 2)


def test_a_picture_of_one_colour_has_none() -> None:
    assert hashes_of(np.full((50, 70, 3), 200, np.uint8)) is None
    strip = np.random.default_rng(0).integers(0, 256, (1, 5000, 3), np.uint8)
    assert hashes_of(strip) is not None


def recompressed(picture: np.ndarray) -> np.ndarray:
    return cv2.imdecode(cv2.imencode(".jpg", picture, (cv2.IMWRITE_JPEG_QUALITY, 40))[1], 1)


COPIES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "resized": lambda picture: cv2.resize(picture, None, fx=0.61, fy=0.61),
    "recompressed": recompressed,
    "brightened": lambda picture: cv2.convertScaleAbs(picture, alpha=1.1, beta=15),
    "all of it": lambda picture: recompressed(
        cv2.convertScaleAbs(cv2.resize(picture, None, fx=0.61, fy=0.61), alpha=0.9, beta=-5)
    ),
}


def near(one: tuple[int, int] | None, other: tuple[int, int] | None) -> bool:
    assert one is not None
    assert other is not None
    bits = [(a ^ b).bit_count() for a, b in zip(one, other, strict=True)]
    return bits[0] <= NEAR and bits[1] <= NEAR_DIFFERENCE


def figures(count: int) -> list[np.ndarray]:
    return [
        draw_figure(np.random.default_rng([7, i]), i % 7, picture_size=160) for i in range(count)
    ]


def test_copies_are_near_and_others_are_not() -> None:
    check_copies(figures(40), share=0.9)  # calm backgrounds, where noise decides some bits


def check_copies(pictures: list[np.ndarray], *, share: float) -> None:
    hashes = [hashes_of(picture) for picture in pictures]
    for way, copied in COPIES.items():
        found = [
            near(own, hashes_of(copied(picture)))
            for picture, own in zip(pictures, hashes, strict=True)
        ]
        assert np.mean(found) >= share, way
    assert not any(near(one, other) for one, other in combinations(hashes, 2))


@pytest.mark.real
def test_copies_of_photographs_are_near_and_others_are_not(compound_data: Path) -> None:
    folder = compound_data / "data" / "coco" / "val2017"
    check_copies([open_picture(path).whole() for path in sorted(folder.glob("*.jpg"))], share=0.97)


def test_twins_are_those_that_all_pairs_give() -> None:
    """Against looking at all pairs, with neighbours at every distance planted."""
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2**64, (120, 2), np.uint64)
    copies = hashes[rng.integers(0, 120, 180)].copy()
    for row, bits in enumerate(rng.integers(0, NEAR + 3, 180)):
        for bit in rng.permutation(64)[:bits].tolist():
            copies[row, 0] ^= np.uint64(1 << bit)
    hashes = np.concatenate([hashes, copies])[rng.permutation(300)]
    known = rng.random(300) < 0.95
    distances = np.bitwise_count(hashes[:, None] ^ hashes[None]).astype(int)
    is_near = (distances[..., 0] <= NEAR) & (distances[..., 1] <= NEAR_DIFFERENCE)
    is_near &= known[:, None] & known
    groups = group(hashes, known)
    train, val = np.arange(200), np.arange(200, 300)
    across = find_twins(groups, val, train)
    assert [twin.picture for twin in across] == val[is_near[200:, :200].any(1)].tolist()
    for row, other, distance in across:
        assert distance == distances[row, :200, 0][is_near[row, :200]].min()
        assert is_near[row, other]
    within = find_twins(groups, train)
    earlier = np.tril(is_near[:200, :200], -1)
    assert [twin.picture for twin in within] == np.flatnonzero(earlier.any(1)).tolist()
    assert all(earlier[row, other] for row, other, _ in within)


def test_many_equal_pictures_are_one_group() -> None:
    hashes = np.full((20_000, 2), 5, np.uint64)
    twins = find_twins(group(hashes, np.ones(20_000, bool)), np.arange(20_000))
    assert len(twins) == 19_999
    assert {twin.other for twin in twins} == {0}
    assert find_twins(group(hashes, np.zeros(20_000, bool)), np.arange(20_000)) == []


def test_classes_are_told_by_name() -> None:
    names = ("cat", "dog", "owl", "elk", "Cat ")
    counts = {"train": np.array([5000, 0, 0, 9, 20]), "val": np.array([5, 3, 0, 0, 1])}
    found = {
        (f.check, f.text): list(f.places) for f in balance_findings(counts, names, things="objects")
    }
    few = "train: 1 of 5 classes have"
    assert found == {
        ("class_names", "1 classes are written in more than one way"): ["cat / Cat "],
        ("class_missing", f"{few} no objects here, but some elsewhere"): ["dog"],
        ("class_missing", f"{few} no objects at all"): ["owl"],
        ("class_rare", f"{few} fewer than 10 objects"): ["elk: 9"],
        ("class_balance", "train: cat has 5000 objects, elk 9: 556 times fewer"): [],
        ("class_unscored", "val: 2 of 5 classes have no objects"): ["owl", "elk"],
    }  # fmt: skip


def test_every_picture_is_read_to_its_end(tmp_path: Path) -> None:
    sound = figures(1)[0]
    Image.fromarray(sound).save(tmp_path / "0.jpg")
    content = (tmp_path / "0.jpg").read_bytes()
    (tmp_path / "1.jpg").write_bytes(content[: len(content) // 2])
    (tmp_path / "2.jpg").write_text("none")
    Image.new("RGB", (40, 30), "red").save(tmp_path / "3.jpg")
    exif = Image.Exif()
    exif[0x0112] = 6  # Orientation: turn right
    Image.fromarray(sound).save(tmp_path / "4.jpg", exif=exif)

    def look(row: int) -> Any:
        path = tmp_path / f"{row}.jpg"
        return look_at(lambda: open_picture(path, upright=False), path)

    looks = look_through("train", look, 6)
    assert sorted(looks.problems) == [1, 2, 5]
    told = {1: "decoded", 2: "decoded", 5: "read: No such file or directory"}
    assert {
        row: text.partition(f"{row}.jpg cannot be ")[2] for row, text in looks.problems.items()
    } == told
    assert (looks.dull, looks.turned) == ([3], {4: 6})
    assert looks.known.tolist() == [True, False, False, False, True, False]
    assert looks.sizes[[0, 1, 3]].tolist() == [[160, 160], [0, 0], [30, 40]]
    findings = file_findings("train", looks, lambda row: f"{row}.jpg")
    assert [(f.severity, f.check, f.total) for f in findings] == [
        ("error", "unreadable", 3),
        ("hint", "one_colour", 1),
    ]
    assert orientation_of(tmp_path / "missing.jpg") == 1


def test_stopping_keeps_what_was_seen() -> None:
    def look(row: int) -> Any:
        if row == 5:
            raise KeyboardInterrupt
        return look_at(lambda: open_picture(Path("missing.jpg")))

    looks = look_through("train", look, 100)
    assert looks.seen == 5
    (stopped, _) = file_findings("train", looks, str)
    assert stopped.text == "train: only 5 of 100 pictures were looked at"
    assert stopped.severity == "error"


def test_some_pictures_are_spread_over_all() -> None:
    assert spread(10, None).tolist() == spread(10, 20).tolist() == list(range(10))
    assert spread(101, 3).tolist() == [0, 50, 100]
    assert spread(5, 0).tolist() == []


@pytest.mark.parametrize(
    "wrong", [{"pictures": 0}, {"pictures": "x"}, {"samples": -1}, {"generations": 1.5}]
)
def test_options_that_are_no_numbers_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=f"{next(iter(wrong))}=.*expected a whole number"):
        Options(**wrong)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes; b/3 is a copy of a/0, val/a/0 of train/a/1; a/4 is broken and b/9 is long."""
    drawn = iter(figures(40))
    for split, count in (("train", 6), ("val", 3)):
        for name in ("a", "b"):
            (tmp_path / split / name).mkdir(parents=True)
            for i in range(count):
                Image.fromarray(next(drawn)).save(tmp_path / split / name / f"{i}.png")
    train = tmp_path / "train"
    first, second = (np.asarray(Image.open(train / f"a/{i}.png")) for i in (0, 1))
    Image.fromarray(recompressed(first)).save(train / "b/3.png")  # in place of another
    Image.fromarray(cv2.resize(second, (100, 100))).save(tmp_path / "val/a/0.png")
    (train / "a/4.png").write_bytes((train / "a/4.png").read_bytes()[:3000])
    Image.fromarray(np.concatenate([next(drawn) for _ in range(4)])).save(train / "b/9.png")
    return tmp_path


def test_a_classifiers_data(folder: Path, tmp_path: Path) -> None:
    data = ClassificationData(
        root=str(folder), read=folder_splits, image_size=64, batch_size=2, seed=0
    )
    diagnosis = diagnose(data, Options(samples=4))
    found = {finding.check: list(finding.places) for finding in diagnosis.findings}
    (across,) = found.pop("duplicates_across")
    assert across.startswith("val/a/0.png and train/a/1.png (")
    (within,) = found.pop("duplicates_within")
    assert within.startswith("train/b/3.png and train/a/0.png (")
    assert found == {
        "class_rare": ["a: 6", "b: 7"],
        "unreadable": [f"{folder}/train/a/4.png cannot be decoded"],
        "long": ["train/b/9.png"],
        "contradiction": ["train/b/3.png is b, train/a/0.png is a"],
    }
    (out := tmp_path / "out").mkdir()
    paths = diagnosis.write(out, title="figures")
    assert [path.name for path in paths] == ["doctor.json", "doctor.html"]
    assert "pair 1: " in paths[1].read_text()
    assert [finding.check for finding in check_quickly(data)] == ["class_rare", "unreadable"]
