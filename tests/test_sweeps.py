"""The sweep files, read and filled in by W&B's own code, and what the tool says of the result."""

import itertools
from pathlib import Path
from typing import Any

import _launch
import pytest
import yaml
from hydra import compose, initialize_config_dir
from wandb.apis.public.sweeps import _validate_config_and_fill_distribution
from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

SWEEPS = sorted((Path(__file__).parent.parent / "sweeps").glob("*.yaml"))


def extremes(parameter: dict[str, Any]) -> list[Any]:
    return parameter["values"] if "values" in parameter else [parameter["min"], parameter["max"]]


def started(sweep: dict[str, Any], values: dict[str, Any]) -> list[str]:
    """Return what an agent runs: `Agent._command_run` puts it together in the same way."""
    arguments = {"args": {name: {"value": value} for name, value in values.items()}}
    filled = create_sweep_command_args(arguments)
    filled |= {"env": ["/usr/bin/env"], "program": [sweep["program"]]}
    words: list[str] = []
    for word in create_sweep_command(list(sweep["command"])):
        is_macro = word.startswith("${") and word.endswith("}")
        words += filled[word[2:-1]] if is_macro else [word]
    return words


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_an_agent_starts_trainings_that_the_tool_takes(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = _validate_config_and_fill_distribution(yaml.safe_load(path.read_text()))
    assert sweep["method"] == "bayes"
    monkeypatch.setenv("WANDB_RUN_ID", "a1b2c3")
    _launch.register_resolvers()
    names = list(sweep["parameters"])
    columns = [extremes(parameter) for parameter in sweep["parameters"].values()]
    for values in itertools.zip_longest(*columns, fillvalue=None):
        row = {name: value for name, value in zip(names, values, strict=True) if value is not None}
        words = started(sweep, row)
        assert words[:4] == ["/usr/bin/env", "uv", "run", "tools/train.py"]
        _launch.check_overrides("train", words[4:])
        with initialize_config_dir(str(_launch.CONFIGS), version_base="1.3"):
            config = compose("train", words[4:], return_hydra_config=True)
        assert config.hydra.run.dir == "runs/sweep/a1b2c3"
        for name, value in row.items():
            found = config
            for part in name.split("."):
                found = found[part]
            assert found == value
    # What the run itself chooses its best checkpoint by.
    assert sweep["metric"] == {"name": config.monitor, "goal": config.callbacks.best.mode + "imize"}


def test_there_are_sweeps() -> None:
    assert [path.stem for path in SWEEPS] == ["cls", "det"]
