"""Take the configuration files at the top of the repository into the sdist and the wheel."""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CustomBuildHook(BuildHookInterface):
    """Add ``configs/`` as ``compound/configs``.

    An editable install reads the original; a wheel built from an sdist finds them in there.
    """

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Name the folder to the builder.

        Raises:
            FileNotFoundError: neither the repository's folder nor the sdist's is there.
        """
        if version == "editable":
            return
        configs = Path(self.root, "..", "..", "configs").resolve()
        included = Path(self.root, "src", "compound", "configs")
        if (configs / "train.yaml").is_file():
            home = "compound/configs" if self.target_name == "wheel" else "src/compound/configs"
            build_data["force_include"][str(configs)] = home
        elif not (included / "train.yaml").is_file():
            raise FileNotFoundError(f"no configuration files: neither {configs} nor {included}")
