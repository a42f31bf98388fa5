"""The rows of a comparison: an architecture, a recipe, and how long it learns at which size."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from compound.compare.contest import Contest, Row, check_counts
from compound.errors import UserError, closest


def read_rows(
    given: Mapping[str, Any],
    contest: Contest,
    *,
    epochs: float,
    images: int,
    batch_size: int,
    only: Sequence[str] | None = None,
) -> tuple[Row, ...]:
    """Return rows as a configuration writes them.

    Args:
        given: fields of each row by its name.
        contest: the networks and recipes that rows may have.
        epochs: of a row that does not say.
        images: the same.
        batch_size: the same.
        only: the names that are wanted; None for all.

    Raises:
        UserError: there is none, or one names what does not exist.
    """
    if not given:
        raise UserError("rows: there is none; choose rows=table7, or add +rows.mine.model=<name>")
    if only is not None and not only:
        raise UserError("only=[]: name at least one row, or null for all")
    for name in only or ():
        closest(name, given, what="row of only")
    check_counts("", epochs, images, batch_size)
    defaults = {"epochs": epochs, "images": images, "batch_size": batch_size}
    rows = tuple(_row(str(name), values, defaults, contest) for name, values in given.items())
    for row in rows:
        for name in row.baseline:
            closest(name, given, what=f"rows.{row.name}.baseline")
            if name == row.name:
                raise UserError(f"rows.{name}.baseline={name}: a row compares with another one")
    return tuple(row for row in rows if only is None or row.name in only)


def _row(name: str, values: object, defaults: Mapping[str, Any], contest: Contest) -> Row:
    if not isinstance(values, Mapping):
        raise UserError(f"rows.{name}={values}: expected fields, such as rows.{name}.model")
    known = [field.name for field in fields(Row) if field.name != "name"]
    for key in values:
        closest(str(key), known, what=f"field of rows.{name}")
    # What is null is as good as left out.
    plain = dict(defaults) | {key: value for key, value in values.items() if value is not None}
    if "model" not in plain:
        raise UserError(
            f"rows.{name} has no model; name one, such as {next(iter(contest.networks))}"
        )
    plain.setdefault("recipe", contest.recipes[-1])
    for key, accepted in (("model", contest.networks), ("recipe", contest.recipes)):
        plain[key] = closest(str(plain[key]), accepted, what=f"rows.{name}.{key}")
    size = plain.get("size")
    if size is not None and (not isinstance(size, int) or size < contest.min_size):
        raise UserError(f"rows.{name}.size={size}: expected {contest.min_size} pixels or more")
    for key in ("baseline", "train"):
        value = plain.get(key, ())
        plain[key] = tuple(map(str, value if isinstance(value, list | tuple) else [value]))
    return Row(name=name, **plain)


def pairs(rows: Sequence[Row]) -> tuple[tuple[Row, Row], ...]:
    """Return every row with each baseline that is among the rows."""
    by_name = {row.name: row for row in rows}
    return tuple((row, by_name[name]) for row in rows for name in row.baseline if name in by_name)


def paper_ratio(row: Row, baseline: Row) -> float | None:
    """Return how many times faster a row's training was in the paper, if it says so of both."""
    if row.paper_hours is None or baseline.paper_hours is None:
        return None
    return baseline.paper_hours / row.paper_hours


def paper_inference_ratio(row: Row, baseline: Row) -> float | None:
    """Return the same of inference."""
    if row.paper_images_per_second is None or baseline.paper_images_per_second is None:
        return None
    return row.paper_images_per_second / baseline.paper_images_per_second
