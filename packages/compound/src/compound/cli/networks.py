"""The network that ``weights`` mean where no training data say what it is."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from compound.cli.runs import WORDS, checkpoint_of, run_of
from compound.errors import UserError


def file_of(weights: object) -> Path:
    """Return the path that ``weights`` mean; of a word it is one that does not exist.

    Raises:
        UserError: they are a run's folder without a checkpoint, or on a hub that does not give it.
    """
    from compound.weights import pretrained_file

    run = run_of(weights)
    if run is not None:
        return checkpoint_of(run)
    found = None if weights in WORDS else pretrained_file(str(weights))
    return found or Path(str(weights)).expanduser()


def network_of(config: DictConfig, *, exported: bool = False) -> Any:
    """Return the network that ``weights`` hold: rebuilt from a file of ours, or the task's.

    Args:
        config: of a tool.
        exported: whether it may be what runs an exported file, which has no layers.

    Raises:
        UserError: there are no such weights, or they do not say what network they are of and the
            configuration's is another.
    """
    import backbone
    import efficientdet
    from compound.export.runtime import is_program
    from compound.weights import read_file

    weights = file_of(config.weights)
    if is_program(weights):
        if not exported:
            raise UserError(f"weights={weights} is an exported file, which only predict.py takes")
        return _exported(weights)
    if weights.is_file():
        spec = read_file(weights).metadata.get("model", {})
        if "fpn_cells" in spec:
            return efficientdet.load_model(weights)
        if "stages" in spec:
            return backbone.load_model(weights)
    settings: Any = OmegaConf.to_container(config.model, resolve=True)
    overrides = HydraConfig.get().overrides.task
    if not any(o.lstrip("+").startswith("model.image_size=") for o in overrides):
        settings.pop("image_size", None)  # the drawn data sets propose sizes of their own
    settings["weights"] = str(weights) if weights.exists() else config.weights
    if "_target_" not in settings:
        return efficientdet.create_model(**settings)
    from hydra.utils import instantiate

    return instantiate(settings)()


def _exported(path: Path) -> Any:
    from backbone.classification.export import ExportedClassifier
    from compound.export.runtime import open_program
    from efficientdet.export.detector import ExportedDetector

    opened = open_program(path)
    is_detector = "fpn_cells" in opened.metadata["model"]
    return (ExportedDetector if is_detector else ExportedClassifier)(opened)


def detects(model: Any) -> bool:
    """Return whether a network finds boxes; a classifier has no colour to pad pictures with."""
    return hasattr(model, "pad_colour")


def class_names_of(model: Any) -> Sequence[str]:
    """Return the classes: the network's own, COCO's or ImageNet's by their number, or numbers."""
    from timm.data.imagenet_info import ImageNetInfo

    from efficientdet.coco_classes import PUBLISHED_ROWS

    if model.class_names is not None:
        return model.class_names
    boxes, count = detects(model), model.num_classes
    if boxes and count == len(PUBLISHED_ROWS):
        return PUBLISHED_ROWS
    if not boxes and count == 1000:
        return list(ImageNetInfo("imagenet-1k").label_descriptions())
    return [f"class {i}" for i in range(count)]
