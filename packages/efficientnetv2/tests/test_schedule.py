"""The schedules against the tables that were published."""

import pytest

from compound.errors import UserError
from compound.stages import Progression, Stage
from efficientnetv2.recipes import recipe, sized_recipe
from efficientnetv2.schedule import (
    constant_memory,
    official_stages,
    paper_stages,
    stage_ends,
)


def bounds(name: str, source: str) -> tuple[Stage, Stage]:
    found = recipe(f"efficientnetv2_{name}", source)  # pyright: ignore[reportArgumentType]
    magnitude = float(found.policy.split("-")[1][1:]) if found.policy != "v0" else 0.0
    last = Stage(found.train_size, magnitude, found.mixup, found.cutmix, found.dropout)
    first = Stage(128, min(5.0, magnitude), dropout=min(0.1, found.dropout))
    return first, last


# Official `effnetv2_configs.py` and `main.py`: sizes, magnitudes, alphas of four stages.
OFFICIAL = {
    "s": ((171, 214, 257, 300), (5, 6.67, 8.33, 10), (0, 0, 0, 0), 0.2),
    "m": ((192, 256, 320, 384), (5, 8.33, 11.67, 15), (0, 0.067, 0.133, 0.2), 0.3),
    "l": ((192, 256, 320, 384), (5, 10, 15, 20), (0, 0.167, 0.333, 0.5), 0.4),
    "xl": ((192, 256, 320, 384), (5, 10, 15, 20), (0, 0.167, 0.333, 0.5), 0.4),
    "b0": ((144, 160, 176, 192), (0, 0, 0, 0), (0, 0, 0, 0), 0.2),
    "b1": ((144, 160, 176, 192), (0, 0, 0, 0), (0, 0, 0, 0), 0.2),
    "b2": ((148, 168, 188, 208), (0, 0, 0, 0), (0, 0, 0, 0), 0.3),
    "b3": ((156, 184, 212, 240), (0, 0, 0, 0), (0, 0, 0, 0), 0.3),
}


@pytest.mark.parametrize("name", OFFICIAL)
def test_official_stages(name: str) -> None:
    sizes, magnitudes, alphas, dropout = OFFICIAL[name]
    stages = official_stages(*bounds(name, "official"), 4)
    assert tuple(stage.image_size for stage in stages) == sizes
    assert [stage.magnitude for stage in stages] == pytest.approx(magnitudes, abs=0.005)
    assert [stage.mixup for stage in stages] == pytest.approx(alphas, abs=0.0005)
    assert [stage.cutmix for stage in stages] == [stage.mixup for stage in stages]
    assert [stage.dropout for stage in stages] == [dropout] * 4  # the code's does not change


# arXiv:2104.00298, Table 6: from and to, with Algorithm 1 between them.
PAPER = {
    "s": ((128, 185, 243, 300), (5, 15), (0, 0), (0.1, 0.3)),
    "m": ((128, 212, 296, 380), (5, 20), (0, 0.2), (0.1, 0.4)),
    "l": ((128, 212, 296, 380), (5, 25), (0, 0.4), (0.1, 0.5)),
}


@pytest.mark.parametrize("name", PAPER)
def test_papers_stages(name: str) -> None:
    sizes, *ranges = PAPER[name]
    stages = paper_stages(*bounds(name, "paper"), 4)
    assert tuple(stage.image_size for stage in stages) == sizes
    for field, (low, high) in zip(("magnitude", "mixup", "dropout"), ranges, strict=True):
        steps = [low, low + (high - low) / 3, low + (high - low) * 2 / 3, high]
        assert [getattr(stage, field) for stage in stages] == pytest.approx(steps)
    assert {stage.cutmix for stage in stages} == {0.0}  # the paper names mixup alone


def test_one_stage_is_the_last() -> None:
    first, last = Stage(128, 5.0, dropout=0.1), Stage(300, 10.0, 0.2, 0.2, 0.3)
    assert paper_stages(first, last, 1) == official_stages(first, last, 1) == (last,)


def test_borders_of_stages() -> None:
    assert stage_ends(4, 350, whole=False) == (87.5, 175, 262.5, 350)  # official
    assert stage_ends(4, 10, whole=True) == (2, 5, 8, 10)
    with pytest.raises(UserError, match="4 stages do not fit into 3 epochs"):
        stage_ends(4, 3, whole=True)


@pytest.mark.parametrize("steps_in_epoch", [1, 7, 306])
@pytest.mark.parametrize("epochs", [5, 350])
def test_a_step_belongs_to_the_stage_of_the_official_code(epochs: int, steps_in_epoch: int) -> None:
    total = epochs * steps_in_epoch
    progression = Progression((Stage(1),) * 4, stage_ends(4, epochs, whole=False))
    # Official `main.py` trains stage i up to step int((i + 1) / 4 * total).
    borders = [int((i + 1) / 4 * total) for i in range(4)]
    for step in range(total):
        epoch, batch = divmod(step, steps_in_epoch)
        expected = sum(step >= border for border in borders)
        assert progression.at(epoch + (batch + 1) / steps_in_epoch) == expected


def test_work_counts_pixels() -> None:
    progression = Progression((Stage(10), Stage(20)), (2.0, 3.0))
    # 2 epochs of 100 pixels, then one of 400: 600 in all.
    assert progression.work_done(0) == 0
    assert progression.work_done(1) == pytest.approx(100 / 600)
    assert progression.work_done(2.5) == pytest.approx(400 / 600)
    assert progression.work_done(3) == 1


def test_batches_grow_as_pictures_shrink() -> None:
    stages = [Stage(size, batch_size=8) for size in (150, 212, 300)]
    # 8 * 300**2 = 720000 pixels: 32 of 150**2, 16.02 of 212**2.
    assert [stage.batch_size for stage in constant_memory(stages)] == [32, 16, 8]
    odd = constant_memory([Stage(171, batch_size=32), Stage(300, batch_size=32)])
    assert odd[0].batch_size == 98  # 32 * 300**2 / 171**2 = 98.5, and mixing wants pairs


def test_recipes_of_v1() -> None:
    # Official `effnetv2_configs.py`: floor(0.8 * size / 16) * 16.
    sizes = {"b0": 176, "b1": 192, "b2": 208, "b3": 240, "b4": 304, "b5": 352, "b6": 416}
    sizes |= {"b7": 480, "b8": 528, "l2": 640}
    for name, size in sizes.items():
        for source in ("official", "paper"):
            found = recipe(f"efficientnet_{name}", source)
            assert (found.train_size, found.policy) == (size, "v0")
    assert recipe("efficientnet_b7").dropout == 0.5


def test_recipes_keep_the_proportion_at_other_sizes() -> None:
    assert sized_recipe("efficientnetv2_s", "official", 384).train_size == 300
    assert sized_recipe("efficientnetv2_s", "official", 128).train_size == 100  # 300 / 3
    with pytest.raises(UserError, match=r"recipe\.source=v3: expected official or paper"):
        sized_recipe("efficientnetv2_s", "v3", 384)  # pyright: ignore[reportArgumentType]
    with pytest.raises(UserError, match="did you mean efficientnetv2_s"):
        recipe("efficientnetv2-s")
