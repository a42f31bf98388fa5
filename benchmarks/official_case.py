# /// script
# requires-python = "==3.11.*"
# dependencies = [
#     "neural-structured-learning==1.4.0", "numpy==1.26.4", "opencv-python-headless==4.10.0.84",
#     "pycocotools", "pyyaml", "setuptools<81", "tensorflow-addons==0.23.0",
#     "tensorflow-cpu==2.15.1", "tensorflow-hub", "tensorflow-model-optimization",
# ]
# ///
"""Record what Google's TensorFlow code computes, small enough for the repository.

The networks are whole: their weights are drawn by the name of each variable (`drawn`), so that
nobody has to keep them. ``uv run --script benchmarks/official_case.py AUTOML`` runs the official
code in the clone of google/automl at AUTOML (recorded at 6a54c87) in an environment of its own,
as it needs an old TensorFlow. `tests/test_official_case.py` compares ours with the files.
"""

import sys
import tempfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).parent.parent / "tests" / "official"
SIZE = 128
LEVELS = range(3, 8)
# Maps that are kept as a whole; of larger ones every few pixels in a row, 5 and 3 of 16 x 16.
STEPS = {3: 5, 4: 3}
# Boxes y0 x0 y1 x1 in pixels and classes from 1: crowded, tiny, as large as the image.
BOXES = [[10.5, 20, 60, 90], [12, 22, 58, 88], [70, 5, 78, 12], [0, 0, 128, 128], [64, 64, 127, 90]]
CLASSES = [1, 90, 17, 44, 17]


def drawn(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Draw an official variable.

    Args:
        name: its official name, which seeds the draw.
        shape: its shape.

    Returns:
        float32 values at which signals neither grow nor vanish, so that a mistake anywhere shows.
    """
    seed = zlib.crc32(name.encode())
    values = np.random.RandomState(seed).standard_normal(shape)
    if name.endswith("kernel"):
        fan_in = np.prod(shape[:2] if "depthwise" in name else shape[:-1])
        gain = 5.0 if "class-predict/pointwise" in name else 1.0  # scores far from 0.5, and from 1
        values *= gain / np.sqrt(fan_in)
    elif name.endswith("moving_variance"):
        values = np.exp(0.2 * values)
    elif name.endswith("gamma"):
        values = 1.2 + 0.1 * values
    elif "WSM" in name:  # one fusion weight in six is negative
        values = 0.5 + 0.5 * values
    else:
        values *= 0.1
    return values.astype(np.float32)


def image() -> np.ndarray:
    """Return the normalised input, 1 x 128 x 128 x 3."""
    values = np.random.RandomState(0).standard_normal((1, SIZE, SIZE, 3))
    return values.astype(np.float32)


def thinned(level: int, values: np.ndarray) -> np.ndarray:
    """Return the positions of a map that the file keeps.

    Args:
        level: the pyramid level.
        values: ``(B, H, W, C)``.

    Returns:
        ``(B, N, C)``.
    """
    return values.reshape(len(values), -1, values.shape[-1])[:, :: STEPS.get(level, 1) ** 2]


def _fill(model: Any) -> np.ndarray:
    """Draw all variables; return lines ``name shape``."""
    lines = []
    for variable in model.variables:
        name, shape = variable.name.removesuffix(":0"), tuple(variable.shape)
        variable.assign(drawn(name, shape))
        lines.append(f"{name} {','.join(map(str, shape))}")
    return np.frombuffer("\n".join(lines).encode(), np.uint8)


def _detector() -> dict[str, Any]:
    import hparams_config  # type: ignore[import-not-found]
    import tensorflow as tf
    from tf2 import (  # type: ignore[import-not-found]
        anchors,
        postprocess,
        train_lib,
    )

    config = hparams_config.get_efficientdet_config("efficientdet-d0")
    config.image_size = SIZE
    config.is_training_bn = False
    config.model_dir = tempfile.mkdtemp()  # of summaries that nobody writes
    model = train_lib.EfficientDetNetTrain(config=config)
    model.build((1, SIZE, SIZE, 3))
    kept: dict[str, Any] = {"variables": _fill(model)}
    logits, codes = model(tf.constant(image()), training=False)
    for level, *outputs in zip(LEVELS, logits, codes, strict=True):
        for kind, values in zip(("cls", "box"), outputs, strict=True):
            kept[f"{kind}_{level}"] = thinned(level, values.numpy())

    grid = anchors.Anchors(3, 7, 3, config.aspect_ratios, config.anchor_scale, (SIZE, SIZE))
    kept["anchors"] = grid.boxes.numpy()
    labeler = anchors.AnchorLabeler(grid, config.num_classes)
    classes = tf.constant(CLASSES, tf.float32)[:, None]
    cls_targets, box_targets, positives = labeler.label_anchors(tf.constant(BOXES), classes)
    flat = np.concatenate([cls_targets[level].numpy().reshape(-1) for level in LEVELS])
    targets = np.concatenate([box_targets[level].numpy().reshape(-1, 4) for level in LEVELS])
    kept["positive"] = np.flatnonzero(flat >= 0)
    kept["positive_labels"] = flat[flat >= 0]
    kept["positive_codes"] = targets[flat >= 0]
    labels = {"mean_num_positives": tf.reshape(tf.cast(positives, tf.float32), (1, 1))}
    for level in LEVELS:
        labels[f"cls_targets_{level}"] = cls_targets[level][None]
        labels[f"box_targets_{level}"] = box_targets[level][None]
    model.compile(
        loss={
            "FocalLoss": train_lib.FocalLoss(
                config.alpha, config.gamma, reduction=tf.keras.losses.Reduction.NONE
            ),
            "BoxLoss": train_lib.BoxLoss(config.delta, reduction=tf.keras.losses.Reduction.NONE),
        }
    )
    losses: dict[str, Any] = {}
    model._detection_loss(logits, codes, labels, losses)
    names = ("det_loss", "cls_loss", "box_loss")
    kept["losses"] = np.array([float(losses[name]) for name in names], np.float32)

    params = config.as_dict()
    params["nms_configs"]["max_nms_inputs"] = 5000
    found = postprocess.postprocess_per_class(params, logits, codes)
    for name, values in zip(("boxes", "scores", "classes"), found, strict=False):
        kept[f"detected_{name}"] = values.numpy()[0]
    return kept


def _classifier() -> dict[str, Any]:
    import effnetv2_model  # type: ignore[import-not-found]
    import tensorflow as tf

    model = effnetv2_model.get_model("efficientnetv2-b0", weights=None)
    images = tf.constant(image())
    model(images, training=False)
    return {"variables": _fill(model), "logits": model(images, training=False)[0].numpy()}


def main(automl: str) -> None:
    """Write the files; each network in a process of its own, as their modules share names."""
    import subprocess

    if automl in ("efficientdet", "efficientnetv2"):
        kept = _detector() if automl == "efficientdet" else _classifier()
        name = {"efficientdet": "efficientdet_d0", "efficientnetv2": "efficientnetv2_b0"}[automl]
        FOLDER.mkdir(exist_ok=True)
        np.savez_compressed(FOLDER / f"{name}.npz", **kept)
        return
    for part in ("efficientdet", "efficientnetv2"):
        folder = Path(automl).absolute() / part
        call = [sys.executable, str(Path(__file__).absolute()), part]
        subprocess.run(call, env={"PYTHONPATH": str(folder)}, check=True)


if __name__ == "__main__":
    main(sys.argv[1])
