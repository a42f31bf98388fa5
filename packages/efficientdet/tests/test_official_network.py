"""Network outputs and one training step equal those of the official TensorFlow code."""

import json
import os
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from compound.training.ema import Ema
from compound.training.optim import OptimRecipe, clip_each, parameter_groups
from compound.training.schedule import warmup_cosine
from compound.weights.tensorflow import to_torch
from efficientdet import EfficientDet, create_model
from efficientdet.anchors import make_anchors
from efficientdet.loss import detection_loss
from efficientdet.matcher import assign
from efficientdet.postprocess import Suppression, postprocess
from efficientdet.weights import _under_our_names

pytestmark = [pytest.mark.real, pytest.mark.extra("tensorflow")]
FOLDER = Path(os.environ.get("COMPOUND_DATA", ""), "expected/tf/efficientdet-d0")
# What the official code's own float32 leaves; the small case is closer.
TOLERANCES = {"b1_128x128": 1e-5, "b1_192x320_odd": 3e-4, "b2_256x256": 3e-4}
XYXY = [1, 0, 3, 2]  # the files have y before x


def under_our_names(variables: dict[str, np.ndarray]) -> dict[str, Tensor]:
    with torch.device("meta"):
        spec = create_model("efficientdet_d0").spec
    return _under_our_names(to_torch(variables), spec, spec.backbone, "tensorflow")  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def raw() -> dict[str, Tensor]:
    """The checkpoint's weights that training works on, not their averages."""
    from tensorflow import train

    reader = train.load_checkpoint(str(FOLDER / "ckpt/model"))
    names = list(reader.get_variable_to_shape_map())
    kept = [n for n in names if not n.endswith("Average") and n != "global_step"]
    return under_our_names({name: reader.get_tensor(name) for name in kept})


@pytest.fixture(scope="module")
def averaged() -> EfficientDet:
    return create_model("efficientdet_d0", weights=FOLDER / "ckpt").eval()


def images_of(case: str) -> Tensor:
    return torch.from_numpy(np.load(FOLDER / case / "input.npy")).permute(0, 3, 1, 2)


def largest_difference(model: EfficientDet, case: str, outputs: str) -> float:
    with torch.inference_mode():
        found = model(images_of(case))
    worst = 0.0
    with np.load(FOLDER / case / f"outputs_{outputs}.npz") as recorded:
        for kind, levels in zip(("cls", "box"), found, strict=True):
            for level, x in enumerate(levels, start=3):
                y = torch.from_numpy(recorded[f"{kind}_{level}"]).permute(0, 3, 1, 2)
                worst = max(worst, ((x - y).abs().max() / y.abs().max()).item())
    return worst


@pytest.mark.parametrize("case", TOLERANCES)
def test_outputs_of_the_averages(averaged: EfficientDet, case: str) -> None:
    assert averaged.load_report is not None
    assert averaged.load_report.complete
    assert largest_difference(averaged, case, "ema") < TOLERANCES[case]


def test_outputs_of_the_raw_weights(averaged: EfficientDet, raw: dict[str, Tensor]) -> None:
    model = create_model("efficientdet_d0").eval()
    model.load_state_dict(raw, strict=False)
    assert largest_difference(model, "b1_128x128", "raw") < TOLERANCES["b1_128x128"]
    assert largest_difference(averaged, "b1_128x128", "raw") > 0.1  # they do differ


class Step:
    """Ours after the recorded training step, and what is recorded of it."""

    def __init__(self, raw: dict[str, Tensor]) -> None:
        params = json.loads((FOLDER / "train_step.json").read_text())["params"]
        with np.load(FOLDER / "train_step.npz") as file:
            self.recorded = {
                when: under_our_names(
                    {k.rpartition("@")[0]: file[k] for k in file.files if k.endswith(f"@{when}")}
                )
                for when in ("momentum_before", "momentum_after", "after", "ema_after")
            }
        self.model = create_model("efficientdet_d0")
        self.model.load_state_dict(raw, strict=False)
        self.parameters = dict(self.model.named_parameters())
        recipe = OptimRecipe(
            partial(torch.optim.SGD, momentum=params["momentum"]),
            lr=params["learning_rate"],
            base_batch_size=64,
            weight_decay=params["weight_decay"],
            warmup_epochs=1,
        )
        optimizer = recipe.build(self.model, batch_size=params["batch_size"])
        epoch = 1000 / params["steps_per_epoch"]
        for group in optimizer.param_groups:
            group["lr"] *= warmup_cosine(epoch, epochs=params["num_epochs"], warmup=1)
        self.rate = optimizer.param_groups[0]["lr"]
        for name, momentum in self.recorded["momentum_before"].items():
            if name in self.parameters:
                optimizer.state[self.parameters[name]]["momentum_buffer"] = momentum.clone()
        self.loss = self.backward()
        clip_each(self.model.parameters(), params["clip_gradients_norm"])
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), params["clip_gradients_norm"])
        optimizer.step()
        self.momentum = {
            name: optimizer.state[parameter]["momentum_buffer"]
            for name, parameter in self.parameters.items()
        }

    def backward(self) -> float:
        labels = dict(np.load(FOLDER / "b2_256x256/labels.npz"))
        boxes = [torch.from_numpy(labels[f"gt_boxes_{i}"][:, XYXY].copy()) for i in range(2)]
        classes = [torch.from_numpy(labels[f"gt_classes_{i}"]).long().flatten() for i in range(2)]
        images = images_of("b2_256x256")
        targets = assign(self.model.anchors(images), boxes, [label - 1 for label in classes])
        loss = detection_loss(*self.model.train()(images), targets).total
        loss.backward()
        return loss.item()


@pytest.fixture(scope="module")
def step(raw: dict[str, Tensor]) -> Step:
    return Step(raw)


def relative(x: Tensor, y: Tensor) -> float:
    return ((x - y).norm() / y.norm()).item()


def shared(ours: dict[str, Any], theirs: dict[str, Tensor]) -> list[str]:
    names = sorted(ours.keys() & theirs.keys())
    assert len(names) > 50
    return names


def test_loss_and_rate_of_the_step(step: Step) -> None:
    summaries = json.loads((FOLDER / "train_step.json").read_text())["summaries_before"]
    assert step.loss == pytest.approx(summaries["trainloss/det_loss"], rel=1e-5)
    assert step.rate == pytest.approx(summaries["lrn_rate"], rel=1e-5)


def test_decay_of_the_step(raw: dict[str, Tensor]) -> None:
    """Officially half the decay times the squares of what decays is part of the loss."""
    summaries = json.loads((FOLDER / "train_step.json").read_text())["summaries_before"]
    model = create_model("efficientdet_d0")
    model.load_state_dict(raw, strict=False)
    loss = sum(
        0.5 * group["weight_decay"] * parameter.square().sum().item()
        for group in parameter_groups(model, 4e-5)
        for parameter in group["params"]
    )
    assert loss == pytest.approx(summaries["trainloss/reg_l2_loss"], rel=1e-5)


def test_gradients_of_the_step(step: Step) -> None:
    """Clipped ones: what the momentum gained, 0.9 of the old one aside."""
    before, after = step.recorded["momentum_before"], step.recorded["momentum_after"]
    ours, theirs = [], []
    for name in shared(step.momentum, after):
        ours.append((step.momentum[name].detach() - 0.9 * before[name]).flatten())
        theirs.append((after[name] - 0.9 * before[name]).flatten())
    assert relative(torch.cat(ours), torch.cat(theirs)) < 1e-2


def test_momentum_and_weights_after_the_step(step: Step) -> None:
    names = shared(step.momentum, step.recorded["momentum_after"])
    ours = torch.cat([step.momentum[name].flatten() for name in names])
    theirs = torch.cat([step.recorded["momentum_after"][name].flatten() for name in names])
    assert relative(ours, theirs) < 1e-2  # as the gradients
    # Each weight moves by the rate times its momentum: equal up to the gradients' own noise.
    for name in shared(step.parameters, step.recorded["after"]):
        wanted = step.recorded["after"][name]
        moved = step.rate * step.recorded["momentum_after"][name].abs().max()
        rounding = 2e-7 * wanted.abs().max()
        assert (step.parameters[name] - wanted).abs().max() < 1e-2 * moved + rounding, name


def test_averages_after_the_step(step: Step, raw: dict[str, Tensor]) -> None:
    """The decay of step n, counted after it, is min(0.9998, (1 + n) / (10 + n))."""
    state = step.model.state_dict()
    theirs = step.recorded["ema_after"]
    names = shared(state, theirs)
    from tensorflow import train

    reader = train.load_checkpoint(str(FOLDER / "ckpt/model"))
    ending = "/ExponentialMovingAverage"
    averages = under_our_names(
        {
            name.removesuffix(ending): reader.get_tensor(name)
            for name in reader.get_variable_to_shape_map()
            if name.endswith(ending)
        }
    )
    for name in names:
        average = averages[name].clone()
        Ema(0.9998)._average([average], [state[name]], 1001)
        assert (average - theirs[name]).abs().max() < 1e-5, name


@pytest.mark.parametrize("across_classes", [False, True])
@pytest.mark.parametrize("picture", ["same_256x256", "up_100x150", "down_411x300"])
def test_final_detections(averaged: EfficientDet, picture: str, across_classes: bool) -> None:
    """From official preprocessed pictures to the boxes that official serving gives."""
    with np.load(FOLDER / "pipeline" / f"{picture}.npz") as file:
        official = dict(file)
    images = torch.from_numpy(official["preprocessed"]).permute(0, 3, 1, 2)
    # The recorded run had today's anchors, which a checkpoint does not say.
    anchors = make_anchors((256, 256), range(3, 8), scale=4.0, aspects="exact")
    serving = Suppression(one_label=True, across_classes=across_classes, soft=True)
    with torch.inference_mode():
        results = postprocess(*averaged(images), anchors, method=serving)
    kind = "global" if across_classes else "per_class"
    for image, found in enumerate(results):
        wanted = {key: official[f"{kind}/{key}"][image] for key in ("boxes", "scores", "classes")}
        assert official[f"{kind}/valid_len"][image] == len(found.scores) == 100
        assert (found.labels + 1).tolist() == wanted["classes"].tolist()
        np.testing.assert_allclose(found.scores, wanted["scores"], atol=1e-4)
        # Officially only boxes of NMS across classes are cut at the border.
        boxes = found.boxes_xyxy.clamp(0, 256) if across_classes else found.boxes_xyxy
        boxes = boxes * official["image_scale_to_original"][image]
        np.testing.assert_allclose(boxes, wanted["boxes"][:, XYXY], atol=1e-2)
