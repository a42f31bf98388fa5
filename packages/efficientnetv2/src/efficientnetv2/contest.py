"""V1 against V2 as EfficientNetV2's paper compares them: what `compound.compare` asks of both."""

from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from timm.optim.rmsprop_tf import RMSpropTF
from torch.utils.data import DataLoader

import backbone
from backbone.classification.data.datamodule import ClassificationData
from backbone.classification.data.dataset import Batch
from backbone.classification.data.index import FileIndex
from backbone.classification.module import EfficientNetModule
from compound.compare.contest import Contest, Part, Row
from compound.data.drawing import background, finish
from compound.stages import Stage
from compound.training.optim import OptimRecipe
from efficientnetv2.models import create_model
from efficientnetv2.recipes import NETWORKS, SOURCES, Recipe, recipe
from efficientnetv2.schedule import INTERPOLATIONS, NUM_STAGES, first_size
from efficientnetv2.specs import EFFICIENTNETV2

NUM_CLASSES = 1000
# The loader's files have as many pixels as ImageNet's usual 500 x 375 images, and an epoch has more
# batches than are read.
SIDE, NUM_FILES, EPOCH_BATCHES = 433, 8, 1000


class V1AgainstV2(Contest):
    """EfficientNet and EfficientNetV2, each with the recipe of either.

    The recipe ``v1`` trains at the size of the evaluation, as V1 originally was trained, ``v2`` at
    the smaller size of V2's recipe.
    """

    title = "V1 against V2"
    networks = NETWORKS
    recipes = ("v1", "v2")
    sources = SOURCES
    metrics = ("val/top1", "val/top5")
    min_size = 32  # 1/32 of it, the last stage, is one pixel

    def parts(self, row: Row, source: str) -> tuple[Part, ...]:
        """Return the sizes that a row trains at; where they grow, one for each stage."""
        last = row.size or self.reading(row, source).train_size
        if not row.progressive:
            return (Part(last, 1.0),)
        stages = INTERPOLATIONS[source](Stage(first_size(last)), Stage(last), NUM_STAGES)
        return tuple(Part(stage.image_size, 1 / NUM_STAGES) for stage in stages)

    def eval_size(self, row: Row) -> int:
        """Return the published size of a network."""
        return NETWORKS[row.model].image_size

    def module(self, row: Row, source: str, *, channels_last: bool) -> EfficientNetModule:
        """Build the module, with the official RMSProp and without mixing."""
        build = create_model if row.model in EFFICIENTNETV2 else backbone.create_model
        optim = OptimRecipe(
            partial(RMSpropTF, alpha=0.9, momentum=0.9, eps=1e-3),
            lr=0.016,
            base_batch_size=256,
            weight_decay=1e-5,
            warmup_epochs=5,
            decay_biases=row.recipe == "v1",
        )
        return EfficientNetModule(
            model=partial(build, row.model, dropout=self.reading(row, source).dropout),
            class_names=[str(i) for i in range(NUM_CLASSES)],
            optim=optim,
            batch_size=row.batch_size,
            channels_last=channels_last,
        )

    def batch(self, row: Row, size: int, *, channels_last: bool) -> Batch:
        """Draw a random batch."""
        count = row.batch_size
        images = torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8)
        if channels_last:
            images = images.to(memory_format=torch.channels_last)
        if torch.cuda.is_available():
            images = images.pin_memory()
        return Batch(images, torch.randint(0, NUM_CLASSES, (count,)), torch.arange(count), [])

    def reading(self, row: Row, source: str) -> Recipe:
        """Return what a row's training ends with; V1's is at the size of the evaluation."""
        spec = NETWORKS[row.model]
        if row.recipe == "v1":
            return Recipe(spec.image_size, spec.dropout)
        return recipe(row.model, source)

    def loader(
        self,
        row: Row,
        source: str,
        size: int,
        *,
        batch_size: int,
        num_workers: int | None,
        folder: Path,
    ) -> DataLoader[Any]:
        """Build the loader; its augmentation is that of the last stage."""
        names = [f"{i}.jpg" for i in range(NUM_FILES)]
        for i, name in enumerate(names):
            rng = np.random.default_rng(i)
            cv2.imwrite(str(folder / name), finish(rng, background(rng, SIDE)))
        count = EPOCH_BATCHES * batch_size
        index = FileIndex(folder, np.resize(names, count), np.zeros(count, np.int64), ("drawn",))
        final = self.reading(row, source)
        data = ClassificationData(
            root=None,
            read=lambda: {"train": index, "val": index},
            image_size=size,
            batch_size=batch_size,
            seed=0,
            num_workers=num_workers,
            interpolation=NETWORKS[row.model].preprocessing.interpolation,
            scale=final.scale,
            policy=final.policy,
        )
        return data.train_dataloader()

    def overrides(self, row: Row, source: str) -> list[str]:
        """Return the task, the model and what is progressive."""
        card = row.model.replace("efficientnetv2_", "v2_").removeprefix("efficientnet_")
        words = [f"model={card}", "task=clsv2" if row.recipe == "v2" else "task=cls"]
        if row.recipe == "v2" and source == "paper":
            words += ["recipe.source=paper"]
        if row.recipe == "v2" or row.progressive:
            words += [f"progressive={'on' if row.progressive else 'off'}"]
        if row.progressive:
            words += [f"callbacks.progressive.interpolation={source}"]
        return words
