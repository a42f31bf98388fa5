"""A classifier that is no MBConv network is trained, scored and used like the published ones."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from backbone import Preprocessing
from backbone.classification.data.datamodule import ClassificationData
from backbone.classification.data.index import ArrayIndex
from backbone.classification.module import EfficientNetModule
from backbone.classification.predictor import classify
from compound.hub.mixin import HubMixin
from compound.training.optim import OptimRecipe
from compound.training.schedule import warmup_constant
from compound.weights import check_fit, read_file


@dataclass(frozen=True)
class Table:
    name: str = "linear"
    image_size: int = 8
    dropout: float = 0.0
    preprocessing: Preprocessing = field(default_factory=Preprocessing)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class Linear(HubMixin, nn.Module):
    """One layer on the mean colour."""

    task = "cls"
    min_image_size = 1
    run = load_report = None

    def __init__(self, num_classes: int, class_names: Sequence[str]) -> None:
        super().__init__()
        self.spec = Table()
        self.num_classes, self.class_names = num_classes, tuple(class_names)
        self.layer = nn.Linear(3, num_classes)
        for name in ("mean", "std"):
            values = torch.tensor(getattr(self.spec.preprocessing, name)).view(3, 1, 1)
            self.register_buffer(name, values, persistent=False)

    @property
    def input(self) -> tuple[tuple[int, int], Mapping[str, Any]]:
        return (8, 8), asdict(self.spec.preprocessing)

    def normalize(self, images: Tensor) -> Tensor:
        return (images - self.mean) / self.std

    def forward(self, images: Tensor) -> Tensor:
        return self.layer(images.mean((2, 3)))


def coloured() -> ArrayIndex:
    """Return red and blue images, which a mean tells apart."""
    pictures = np.zeros((32, 8, 8, 3), np.uint8)
    labels = np.arange(32) % 2
    pictures[labels == 0, ..., 0] = 255
    pictures[labels == 1, ..., 2] = 255
    return ArrayIndex(pictures, labels, ("red", "blue"))


@pytest.mark.train
def test_is_trained_scored_and_rebuilt(tmp_path: Path) -> None:
    pl.seed_everything(0)
    index = coloured()
    data = ClassificationData(
        root=None, read=lambda: {"train": index, "val": index}, image_size=8, batch_size=8,
        seed=0, num_workers=0, scale=None,
    )  # fmt: skip
    optim = OptimRecipe(
        partial(torch.optim.SGD, momentum=0.9), lr=0.5, base_batch_size=8, weight_decay=0.0,
        warmup_epochs=0, schedule=warmup_constant,
    )  # fmt: skip
    module = EfficientNetModule(
        model=Linear, class_names=index.class_names, optim=optim, batch_size=8
    )
    trainer = pl.Trainer(
        max_epochs=3, accelerator="cpu", logger=False, default_root_dir=tmp_path,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, datamodule=data)
    assert trainer.callback_metrics["val/top1"] == 1.0
    trainer.save_checkpoint(tmp_path / "own.ckpt")
    content = read_file(tmp_path / "own.ckpt")
    assert (content.metadata["task"], content.name) == ("cls", "linear")
    again = Linear(2, content.metadata["class_names"])
    assert check_fit(again.state_dict(), content.tensors, source="own.ckpt") == ()
    again.load_state_dict(content.tensors)
    (red,) = classify(again, index.pictures[0], top=1)
    assert again.class_names[int(red.labels)] == "red"
