"""Names that version 0.1 had elsewhere, so that its command lines and run folders still work."""

import logging
from typing import Any

from omegaconf import DictConfig, ListConfig

log = logging.getLogger(__name__)

# Modules of version 0.1 whose classes and functions a configuration may name.
MODULES = {
    "backbone.module": "backbone.classification.module",
    "backbone.tracking": "backbone.classification.media",
    "backbone.data.module": "backbone.classification.data.datamodule",
    "backbone.data.cifar": "backbone.classification.data.cifar",
    "backbone.data.folders": "backbone.classification.data.folders",
    "backbone.data.shapes": "backbone.classification.data.figures",
    "backbone.train.batch_norm": "compound.training.batch_norm",
    "backbone.train.ema": "compound.training.ema",
    "backbone.train.optim": "compound.training.optim",
    "backbone.train.profile": "compound.training.profile",
    "backbone.train.progress": "compound.training.progress",
    "backbone.train.schedule": "compound.training.schedule",
    "backbone.train.trackers": "compound.tracking.trackers",
    "backbone.train.vitals": "compound.tracking.monitor",
    "backbone.train.wandb_run": "compound.tracking.wandb_run",
    "efficientdet.data.module": "efficientdet.data.datamodule",
    "efficientdet.tracking": "efficientdet.media",
}
_TARGET = "_target_"


def moved(name: Any) -> Any:
    """Return the name that a ``_target_`` has now; what has not moved is returned as it is."""
    module, _, attribute = str(name).rpartition(".")
    return f"{MODULES[module]}.{attribute}" if module in MODULES else name


def rename_targets(config: DictConfig, *, source: str) -> None:
    """Give every ``_target_`` its name of today, in place; log that ``source`` has an old one."""
    found: dict[str, str] = {}
    _rename(config, found)
    if found:
        old, new = next(iter(found.items()))
        others = f" (and {len(found) - 1} other old names)" if len(found) > 1 else ""
        log.warning("%s: %s is now %s%s", source, old, new, others)


def _rename(node: DictConfig | ListConfig, found: dict[str, str]) -> None:
    keys: Any = node.keys() if isinstance(node, DictConfig) else range(len(node))
    for key in keys:
        inner: Any = node._get_node(key)
        if isinstance(inner, DictConfig | ListConfig):
            if not inner._is_interpolation() and not inner._is_none() and not inner._is_missing():
                _rename(inner, found)
        elif key == _TARGET and (new := moved(inner._value())) != inner._value():
            found[str(inner._value())] = new
            inner._set_value(new)
