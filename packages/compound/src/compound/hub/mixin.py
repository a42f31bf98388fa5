"""What every network has for sharing: folders of the Hugging Face hub, written, read, uploaded."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

from compound.errors import UserError


class HubMixin:
    """Methods of a network that can be shared, and what the framework needs to know of it.

    Its class sets ``task`` and has ``spec`` (a table with ``name`` and ``to_dict``),
    ``num_classes``, ``class_names``, ``mean``, ``std``, ``normalize`` and `input`.

    Attributes:
        task: name of its task.
        load_report: of its weights; None where they are random.
        run: what computes its outputs in place of the layers, in an optimized copy; else None.
    """

    task: ClassVar[str]
    load_report: Any = None
    run: Any = None

    @property
    def not_rebuilt(self) -> str:
        """Return why no file can rebuild the network; nothing if one can."""
        return ""

    def optimize(self, **_: Any) -> Any:
        """Return a faster copy.

        Raises:
            UserError: this network has none.
        """
        raise UserError(f"{type(self).__name__} has no faster copy; leave optimize=false")

    @property
    def input(self) -> tuple[tuple[int, int], Mapping[str, Any]]:
        """Return height and width of the input, and how images are prepared for it.

        The preparation has ``mean`` and ``std`` a channel on the scale 0..255, ``interpolation``,
        ``crop``, and what else the task needs to know, as plain values.
        """
        raise AttributeError(f"{type(self).__name__} does not describe its input")

    def save_pretrained(
        self,
        folder: str | Path,
        *,
        metrics: Mapping[str, float] | None = None,
        license: str | None = None,
        dataset: str | None = None,
    ) -> Path:
        """Write the network as a folder of the hub; see `compound.hub.folder`."""
        from compound.hub import folder as hub

        return hub.save_pretrained(self, folder, metrics=metrics, license=license, dataset=dataset)

    @classmethod
    def from_pretrained(cls, folder_or_repo: str | Path) -> Self:
        """Rebuild a network, in evaluation mode, from such a folder or the hub's ``user/name``.

        Raises:
            UserError: there is none, it cannot be fetched, or it is another class's.
        """
        from compound.hub import folder as hub

        return hub.from_pretrained(cls, folder_or_repo)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool | None = None,
        token: str | None = None,
        metrics: Mapping[str, float] | None = None,
        license: str | None = None,
        dataset: str | None = None,
    ) -> str:
        """Upload what `save_pretrained` writes; see `compound.hub.folder`. Return the address."""
        from compound.hub import folder as hub

        about = {"metrics": metrics, "license": license, "dataset": dataset}
        return hub.push_to_hub(self, repo_id, private=private, token=token, **about)
