"""Let the configurations at the top of the repository travel inside sdist and wheel."""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CustomBuildHook(BuildHookInterface):
    """Take ``configs/`` in; an sdist holds it already, an editable install reads the original."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Name the folder to the builder."""
        configs = Path(self.root, "..", "..", "configs").resolve()
        if version != "editable" and configs.is_dir():
            home = "compound/configs" if self.target_name == "wheel" else "src/compound/configs"
            build_data["force_include"][str(configs)] = home
