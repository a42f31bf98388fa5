"""Means of networks: by hand, in float64, and torch's own statistics of batch norms."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from backbone import create_model
from backbone.specs import EFFICIENTNET
from compound.training.freeze import freeze
from compound.training.soup import Mean, Soup, estimate_norms, first_difference, greedy, uniform

Weights = dict[str, Tensor]


def mean_of(*states: Weights) -> Weights:
    mean = Mean()
    for state in states:
        mean = mean.plus(state)
    return mean.state()


def network(value: float) -> Weights:
    return {"w": torch.tensor([value], dtype=torch.float32)}


def test_means_are_those_of_float64() -> None:
    states = [{"w": torch.randn(50, 3), "half": torch.randn(7).half()} for _ in range(5)]
    found = mean_of(*states)
    for name, value in found.items():
        wanted = np.mean([state[name].double().numpy() for state in states], axis=0)
        assert value.dtype == torch.float32
        np.testing.assert_array_equal(value.numpy(), wanted.astype(np.float32))
    # 2 ** 24 + 1 is no float32: a sum in float32 would end with 4194304.5.
    assert mean_of(*map(network, (2.0**24, 1, 1, 2)))["w"].item() == 4194305


def test_counters_stay_those_of_the_first() -> None:
    states = [{"seen": torch.tensor(n), "on": torch.tensor([n == 7])} for n in (7, 100, 4)]
    found = mean_of(*states)
    assert (found["seen"].item(), found["seen"].dtype) == (7, torch.int64)
    assert found["on"].tolist() == [True]


def test_a_mean_stays_when_another_goes_on() -> None:
    one = Mean().plus(network(1))
    assert one.plus(network(4)).state()["w"].item() == 2.5
    assert one.plus(network(2)).state()["w"].item() == 1.5
    assert one.state()["w"].item() == 1


@pytest.mark.parametrize("count", [2, 3, 7])
def test_the_mean_of_one_network_is_it(count: int) -> None:
    state = {"w": torch.randn(1000) * 10.0 ** torch.arange(-20, 20, 0.04)}
    assert torch.equal(mean_of(*[state] * count)["w"], state["w"])


def near_three(state: dict[str, Tensor]) -> float:
    return -abs(state["w"].item() - 3)


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        # From 2.5: with 4 it is 3.25, nearer to 3. With 1 it would be 2.5, with 8 29 / 6.
        ((1.0, 4.0, 2.5, 8.0), (3.25, -0.25, (2, 1))),
        # From 2.5: 3 / 2 is farther off; the last one is 3 with the first.
        ((2.5, 0.5, 3.5), (3.0, 0.0, (0, 2))),
        # What does not raise the score does not lower it.
        ((2.0, 2.0), (2.0, -1.0, (0, 1))),
        # Nothing helps: the best alone.
        ((3.0, 2.0, 1.0), (3.0, 0.0, (0,))),
    ],
)
def test_greedy_by_hand(
    values: tuple[float, ...], wanted: tuple[float, float, tuple[int, ...]]
) -> None:
    networks = [network(value) for value in values]
    read: list[int] = []

    def reading(i: int) -> Weights:
        read.append(i)
        return networks[i]

    soup = greedy([near_three(state) for state in networks], reading, near_three)
    assert (soup.state["w"].item(), soup.score, soup.taken) == wanted
    scores = [near_three(networks[i]) for i in read]
    assert all(one >= other for one, other in pairwise(scores))
    assert sorted(read) == list(range(len(values)))  # each once


def test_uniform_takes_what_greedy_leaves() -> None:
    networks = [network(value) for value in (1.0, 4.0, 2.5, 8.0)]
    soup = uniform([near_three(n) for n in networks], networks.__getitem__, near_three)
    assert soup == Soup(soup.state, -0.875, (0, 1, 2, 3))
    assert soup.state["w"].item() == 15.5 / 4


def test_a_score_that_is_no_number_is_the_worst() -> None:
    networks = [network(value) for value in (math.nan, 3.0)]
    soup = greedy([near_three(n) for n in networks], networks.__getitem__, near_three)
    assert (soup.taken, soup.score) == ((1,), 0)


def test_what_networks_may_differ_in() -> None:
    spec = EFFICIENTNET["efficientnet_b0"].to_dict()
    one = {"model": spec, "class_names": ("cat", "dog"), "in_channels": 3}
    assert first_difference(one, {**one, "class_names": ["cat", "dog"]}) == ""
    rates = {"image_size": 99, "dropout": 0.5, "survival": 0.5}
    assert first_difference(one, {**one, "model": {**spec, **rates}}) == ""
    b1 = {**one, "model": EFFICIENTNET["efficientnet_b1"].to_dict()}
    assert first_difference(one, b1) == "model.name is efficientnet_b1, not efficientnet_b0"
    seen = {**one, "model": {**spec, "preprocessing": {**spec["preprocessing"], "crop": 0.9}}}
    assert first_difference(one, seen) == "model.preprocessing.crop is 0.9, not 0.875"
    turned = {**one, "class_names": ("dog", "cat")}
    assert first_difference(one, turned) == "class_names is ['dog', 'cat'], not ['cat', 'dog']"
    anchors = [{"model": {"aspects": aspects, "epochs": 1}} for aspects in ("exact", (1, 2, 0.5))]
    assert first_difference(*anchors) == "model.aspects is [1, 2, 0.5], not exact"
    many = {**one, "class_names": [f"class {i}" for i in range(1000)]}
    assert len(first_difference(one, many)) < 150


def test_statistics_by_hand() -> None:
    """Each batch counts alike, and variances are those of samples, as in training."""
    norm = nn.BatchNorm2d(1, momentum=0.3)
    batches = [torch.tensor([1.0, 3.0]), torch.tensor([5.0, 6.0, 10.0])]
    estimate_norms(norm, [batch.view(-1, 1, 1, 1) for batch in batches])
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert norm.running_mean.item() == pytest.approx((2 + 7) / 2)
    assert norm.running_var.item() == pytest.approx((2 + 7) / 2)  # 2 / 1 and (4 + 1 + 9) / 2
    assert (norm.momentum, norm.training) == (0.3, False)


def test_statistics_are_those_of_torch() -> None:
    model = create_model("efficientnet_lite0", num_classes=3, dropout=0.0, survival=1.0)
    batches = [torch.randn(4, 3, 64, 64) for _ in range(3)]
    estimate_norms(model, batches)
    found = {name: value.clone() for name, value in model.state_dict().items()}
    update_bn(batches, model)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(found[name], value)


def test_frozen_norms_keep_their_statistics() -> None:
    model = create_model("efficientnet_lite0", num_classes=3)
    freeze(model, ["stem", "stages.0-5"])
    before = {name: value.clone() for name, value in model.state_dict().items()}
    estimate_norms(model, [torch.randn(4, 3, 64, 64) for _ in range(2)])
    changed = {n for n, value in model.state_dict().items() if not torch.equal(value, before[n])}
    parts = ("running_mean", "running_var", "num_batches_tracked")
    learning = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    norms = {name.removesuffix(".running_mean") for name in before if name.endswith(parts[0])}
    wanted = {f"{norm}.{part}" for norm in norms for part in parts if f"{norm}.weight" in learning}
    assert changed == wanted
    assert any("stages.6" in name for name in changed)


def test_dropout_and_stochastic_depth_are_out() -> None:
    """Their noise would move the statistics from one estimate to the next."""
    model = create_model("efficientnet_lite0", num_classes=3, dropout=0.5, survival=0.5)
    batch = torch.randn(4, 3, 64, 64)
    states = []
    for _ in range(2):
        estimate_norms(model, [batch])
        states.append({name: value.clone() for name, value in model.state_dict().items()})
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
