"""A wrong name is answered with the nearest right ones."""

import pytest

from backbone.models import create_model
from compound.errors import UserError, closest

NAMES = ["efficientnet_b0", "efficientnet_b1", "resnet"]


def test_an_accepted_name_comes_back() -> None:
    assert closest("resnet", NAMES, what="model") == "resnet"
    assert closest("b", iter("abc"), what="letter") == "b"


def test_near_names_are_suggested_and_far_ones_are_not() -> None:
    with pytest.raises(UserError) as caught:
        closest("eficientnet_b1", NAMES, what="model")
    assert str(caught.value) == (
        "model 'eficientnet_b1' is unknown; did you mean efficientnet_b1 or efficientnet_b0?"
    )


def test_without_a_near_name_all_are_listed() -> None:
    with pytest.raises(UserError) as caught:
        closest("qqq", iter(["b", "a", "b"]), what="key")
    assert str(caught.value) == "key 'qqq' is unknown; accepted: b, a"


def test_create_model_suggests() -> None:
    with pytest.raises(UserError, match="did you mean efficientnet_b8"):
        create_model("efficientnet-b8")
