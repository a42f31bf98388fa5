"""Every detector equals effdet's and the official one under the same weights."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import parity_detectors as parity
import pytest
import torch

from backbone.specs import NetSpec
from compound.errors import UserError
from compound.weights.tensorflow import to_torch
from efficientdet import create_model
from efficientdet.specs import EFFICIENTDET
from efficientdet.weights import _under_our_names

TOLERANCE = 1e-4
QUICK = {"efficientdet_d0", "efficientdet_lite0", "efficientdet_lite1"}


@pytest.mark.parity
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[] if name in QUICK else pytest.mark.long) for name in EFFICIENTDET],
)
def test_equals_effdet(name: str) -> None:
    assert parity.against_effdet(name) < TOLERANCE


@pytest.mark.parity
def test_a_wrong_row_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the test above would see if Lite0's row were not the official one."""
    row = EFFICIENTDET["efficientdet_lite0"]
    monkeypatch.setitem(EFFICIENTDET, row.name, replace(row, act="silu"))
    assert parity.against_effdet(row.name) > 10 * TOLERANCE
    for changes in ({"fusion": "fast"}, {"backbone": "efficientnet_b0"}, {"fpn_cells": 4}):
        monkeypatch.setitem(EFFICIENTDET, row.name, replace(row, **changes))
        with pytest.raises(UserError, match="belong to another network"):
            parity.against_effdet(row.name)


@pytest.mark.real
@pytest.mark.parametrize("name", EFFICIENTDET)
def test_official_names_and_shapes(name: str, compound_data: Path) -> None:
    """The official variables of every detector are those that the loader looks for."""
    variables = {}
    file = compound_data / "expected/tf/names" / f"{name.replace('_', '-')}.txt"
    for line in file.read_text().splitlines():
        variable, shape, *_ = line.split("\t")
        sizes = [int(n) for n in shape.strip("[]").split(",") if n.strip()]
        variables[variable] = np.empty(sizes, "f4")
    with torch.device("meta"):
        model = create_model(name)
    assert isinstance(model.spec.backbone, NetSpec)
    found = _under_our_names(to_torch(variables), model.spec, model.spec.backbone, "tensorflow")
    own = model.state_dict()
    wanted = {k: tuple(v.shape) for k, v in own.items() if not k.endswith("num_batches_tracked")}
    assert {key: tuple(value.shape) for key, value in found.items()} == wanted
