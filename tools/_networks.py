"""The network that ``weights`` mean where no training data say what it is."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from _runs import checkpoint_of, run_of
from omegaconf import DictConfig, OmegaConf


def network_of(config: DictConfig) -> Any:
    """Return the network that ``weights`` hold: rebuilt from a file of ours, or the task's.

    Raises:
        UserError: there are no such weights, or they do not say what network they are of and the
            configuration's is another.
    """
    import backbone
    import efficientdet
    from backbone.weights import read_file

    run = run_of(config.weights)
    weights = Path(str(config.weights)).expanduser() if run is None else checkpoint_of(run)
    if weights.is_file():
        spec = read_file(weights).metadata.get("model", {})
        if "fpn_cells" in spec:
            return efficientdet.load_model(weights)
        if "stages" in spec:
            return backbone.load_model(weights)
    settings: Any = OmegaConf.to_container(config.model, resolve=True)
    settings["weights"] = str(weights) if weights.exists() else config.weights
    if settings.pop("_target_", None) is None:
        return efficientdet.create_model(**settings)
    from hydra.utils import instantiate

    return instantiate(config.model, weights=settings["weights"])()


def class_names_of(model: Any) -> Sequence[str]:
    """Return the classes: the network's own, COCO's or ImageNet's by their number, or numbers."""
    from timm.data.imagenet_info import ImageNetInfo

    from efficientdet.coco_classes import PUBLISHED_ROWS

    if model.class_names is not None:
        return model.class_names
    detects = hasattr(model, "bifpn")
    count = model.num_classes if detects else model.classifier.out_features
    if detects and count == len(PUBLISHED_ROWS):
        return PUBLISHED_ROWS
    if not detects and count == 1000:
        return list(ImageNetInfo("imagenet-1k").label_descriptions())
    return [f"class {i}" for i in range(count)]
