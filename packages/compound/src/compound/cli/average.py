"""Average: ``uv run tools/average.py weights=<run> last=5``."""

import json
import logging
import math
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from compound.cli.evaluate import built, without_nan
from compound.cli.ingredients import common, home, ingredients, is_single
from compound.cli.runs import as_trained
from compound.errors import UserError, closest
from compound.training.soup import METHODS, Soup, estimate_norms, ranked
from compound.weights import read_file, save_weights

log = logging.getLogger(__name__)

RESULT = "average.safetensors"


def average(config: DictConfig) -> None:
    """Average one run's last epochs, or several runs; say whether that is better than the best."""
    _check(config)
    given = config.weights
    paths = ingredients(given, config.last)
    metadata = common(paths)
    config.weights = home(given)
    config = as_trained(config)
    plain: Any = OmegaConf.to_container(config, resolve=True)
    with TemporaryDirectory() as scratch:  # what a validation writes is of many networks
        folder, config.trainer.default_root_dir = Path(config.paths.output_dir), scratch
        scorer = Scorer(config, metadata["class_names"])

        def read(i: int) -> dict[str, Tensor]:
            return read_file(paths[i]).tensors

        scores = [scorer.single(read(i)) for i in range(len(paths))]
        soup = METHODS[config.method](scores, read, scorer.mean)
        state = scorer.settled(soup.state) if len(soup.taken) > 1 else soup.state
    _tell(paths, scores, soup, config.monitor)
    known = math.isfinite(soup.score)
    metadata["metrics"] = {config.monitor: soup.score} if known else None
    save_weights(folder / RESULT, state, metadata)
    OmegaConf.save(OmegaConf.create({**plain, "weights": given}), folder / "config.yaml")
    content = {
        "method": config.method,
        "norm_batches": config.norm_batches,
        "root": config.data.root,
        "monitor": config.monitor,
        **_described(paths, scores, soup),
    }
    (folder / "average.json").write_text(json.dumps(content, indent=2) + "\n")
    log.info("written to %s", folder / RESULT)


class Scorer:
    """Scores weights as a validation of the run does.

    Args:
        config: of the network, the data, the trainer and how a mean gets its batch-norm statistics.
        class_names: classes of the weights.

    Raises:
        UserError: the data are others than the weights were trained on, or cannot be scored.
    """

    def __init__(self, config: DictConfig, class_names: Sequence[str]) -> None:
        self._data, self._module, self._trainer = built(config, "val")
        self._monitor, self._norm_batches = config.monitor, config.norm_batches
        closest(config.monitor, self._module.monitors, what="monitor")
        if list(self._data.class_names) != list(class_names):
            raise UserError(
                "data: these weights know other classes, or in another order; an average is scored "
                "on what its networks were trained for"
            )
        if self._trainer.world_size > 1:
            raise UserError(
                f"trainer.devices={config.trainer.devices}: an average is scored on one device; "
                "give trainer.devices=1"
            )
        if config.norm_batches and "train" not in self._data.splits:
            raise UserError(
                f"norm_batches={config.norm_batches}: this data set has no training split to "
                "estimate batch-norm statistics on; norm_batches=0 averages them"
            )

    def single(self, state: Mapping[str, Tensor]) -> float:
        """Return the score of a network."""
        self._module.model.load_state_dict(state)
        scores = self._trainer.validate(self._module, datamodule=self._data, verbose=False)
        return float(scores[0][self._monitor])

    def mean(self, state: Mapping[str, Tensor]) -> float:
        """Return the score of a mean of networks."""
        return self.single(self.settled(state))

    def settled(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return a mean with batch-norm statistics of its own."""
        if not self._norm_batches:
            return dict(state)
        module, device = self._module, self._trainer.strategy.root_device
        module.inform(self._data)
        module.model.load_state_dict(state)
        module.to(device)
        # Made again, as its first epoch is the same for every mean.
        batches = islice(self._data.train_dataloader(), self._norm_batches)
        estimate_norms(module, (batch.images.to(device) for batch in batches))
        return {name: value.cpu().clone() for name, value in module.model.state_dict().items()}


def _check(config: DictConfig) -> None:
    """Refuse what no average can be made of or written to."""
    folder = Path(config.paths.output_dir)
    for name in (RESULT, "config.yaml"):  # a run has one too
        if (folder / name).exists():
            raise UserError(f"{folder / name} is there already; give hydra.run.dir another folder")
    closest(str(config.method), ("uniform", "greedy"), what="method")
    for key, least, rest in (("last", 2, ", or null"), ("norm_batches", 0, "")):
        value = config[key]
        if (value is not None or not rest) and (type(value) is not int or value < least):
            raise UserError(f"{key}={value}: expected a whole number of {least} or more{rest}")
    if config.last is not None and not is_single(config.weights):
        raise UserError("last= is of one run's epochs; for several runs leave it out")


def _described(paths: Sequence[Path], scores: Sequence[float], soup: Soup) -> dict[str, Any]:
    """Return the ingredients and the scores as JSON has them."""
    order = ranked(scores)
    rows = [
        {"weights": str(paths[i]), **without_nan({"score": scores[i]}), "taken": i in soup.taken}
        for i in order
    ]
    told = without_nan({"score": soup.score, "best_single": scores[order[0]]})
    return {"ingredients": rows, **told}


def _tell(paths: Sequence[Path], scores: Sequence[float], soup: Soup, monitor: str) -> None:
    """Log the ingredients, the best first, and what the mean is worth."""
    order = ranked(scores)
    log.info("%s of", monitor)
    for i in order:
        log.info("  %.4f  %-5s  %s", scores[i], "taken" if i in soup.taken else "left", paths[i])
    log.info("  %.4f  the mean of %d", soup.score, len(soup.taken))
    gain = soup.score - scores[order[0]]
    if len(soup.taken) == 1:
        log.warning("every mean is worse than the best single one, which the result is itself")
    elif gain > 0:
        log.info("the mean is better than the best single one by %.4f", gain)
    elif gain == 0:
        log.info("the mean is as good as the best single one")
    else:
        log.warning("the mean is worse than the best single one by %.4f; use that", -gain)
