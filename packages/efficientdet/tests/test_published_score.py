"""Genuine weights on pictures of COCO: the published score."""

import json
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from torchvision.ops import box_iou

from compound.training.optim import OptimRecipe
from efficientdet.data.datamodule import DetectionData
from efficientdet.data.splits import coco_splits
from efficientdet.module import EfficientDetModule

pytestmark = pytest.mark.train


@pytest.mark.real
def test_genuine_weights_give_their_published_score(compound_data: Path, tmp_path: Path) -> None:
    """Lite0 on 100 pictures of COCO: the figures, and the detections behind them."""
    data = DetectionData(
        root=str(compound_data / "data/coco"), read=coco_splits, image_size=320, batch_size=4,
        seed=0, num_workers=1,
    )  # fmt: skip
    module = EfficientDetModule(
        model={
            "name": "efficientdet_lite0",
            "weights": compound_data / "weights/efficientdet_lite0.effdet.pth",
        },
        class_names=data.class_names,
        optim=OptimRecipe(
            torch.optim.SGD, lr=0.08, base_batch_size=64, weight_decay=4e-5, warmup_epochs=1
        ),
        batch_size=4,
        predict={"score_threshold": 0.01},
    )
    trainer = pl.Trainer(
        default_root_dir=tmp_path, accelerator="cpu", logger=False, enable_progress_bar=False
    )
    scores = trainer.validate(module, datamodule=data, verbose=False)[0]
    for metric, wanted in (("mAP", 0.299), ("AP50", 0.477), ("AP75", 0.314)):
        assert scores[f"val/{metric}"] == pytest.approx(wanted, abs=0.004), metric

    file = compound_data / "expected/efficientdet_lite0_float_detections_val100.json"
    recorded = [entry for entry in json.loads(file.read_text()) if entry["score"] > 0.2]
    rows = module.results["val"].rows
    again = 0
    for entry in recorded:
        same = (rows[:, 0] == entry["image_id"]) & (rows[:, 6] == entry["category_id"])
        x, y, w, h = entry["bbox"]
        wanted = torch.tensor([[x, y, x + w, y + h]], dtype=torch.float64)
        found = torch.from_numpy(rows[same][:, 1:5])
        found[:, 2:] += found[:, :2]
        overlap, row = box_iou(wanted, found).max(1)
        again += bool(overlap > 0.99) and abs(rows[same][row, 5] - entry["score"]) < 1e-3
    # Where two overlap by 0.5 almost exactly, the last bit decides which one stays.
    assert again > 0.99 * len(recorded) > 900
