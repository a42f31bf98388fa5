"""A network in a folder as the Hugging Face hub has them, here and on the hub."""

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi

from compound.errors import UserError, first_line
from compound.hub.card import card_of
from compound.task import task_of
from compound.weights import metadata_of, pretrained_file, read_file, save_weights
from compound.weights.pretrained import HUB_PREFIX, WEIGHTS_FILE, is_repository

CONFIG_FILE, CARD_FILE = "config.json", "README.md"


def save_pretrained(
    model: Any,
    folder: str | Path,
    *,
    metrics: Mapping[str, float] | None = None,
    license: str | None = None,
    dataset: str | None = None,
    name: str | None = None,
) -> Path:
    """Write ``model.safetensors``, ``config.json`` and a model card, all three or none.

    Args:
        model: a network with `HubMixin`.
        folder: where to; what an earlier call wrote there is written anew.
        metrics: see `metadata_of`.
        license: see `metadata_of`.
        dataset: what the metrics were measured on, for the card.
        name: what the card calls it, such as ``user/name``; the folder's name by default.

    Returns:
        The folder.

    Raises:
        UserError: the folder holds something else, or the network cannot be rebuilt from a file.
    """
    folder = Path(folder).expanduser().absolute()
    _check_target(folder)
    if model.run is not None:
        raise UserError("this network is an optimized copy; save the one it came from")
    metadata = metadata_of(model, metrics=metrics, license=license)
    if model.not_rebuilt:
        raise UserError(f"{model.not_rebuilt}; save its state with save_weights")
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Beside the folder, so that moving it is one step on one disk.
    fresh = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        fresh.mkdir()
        save_weights(fresh / WEIGHTS_FILE, model.state_dict(), metadata)
        (fresh / CONFIG_FILE).write_text(json.dumps(metadata, indent=2) + "\n", encoding="utf-8")
        card_of(model, metadata, name=name or folder.name, dataset=dataset).save(fresh / CARD_FILE)
        if folder.exists():
            for file in fresh.iterdir():
                file.replace(folder / file.name)
        else:
            fresh.rename(folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return folder


def from_pretrained(kind: Any, folder_or_repo: str | Path) -> Any:
    """Rebuild a network, in evaluation mode.

    Args:
        kind: the network's class, which has `HubMixin`.
        folder_or_repo: a folder by `save_pretrained`, a file, ``user/name`` or ``hf-hub:...``.

    Raises:
        UserError: there is no such network, or it is of another class.
    """
    source = _source_of(folder_or_repo)
    file = pretrained_file(source) or Path(source).expanduser()
    task = task_of(read_file(file).metadata)
    if task is None or task.name != kind.task:
        raise UserError(
            f"{folder_or_repo} does not say that it holds an {kind.__name__}"
            + ("" if task is None else f"; it is of task={task.name}")
        )
    return task.load(file).eval()


def _source_of(folder_or_repo: str | Path) -> str:
    text, path = str(folder_or_repo), Path(folder_or_repo).expanduser()
    if text.startswith(HUB_PREFIX) or path.is_file() or path.joinpath(WEIGHTS_FILE).is_file():
        return text
    if path.exists():
        raise UserError(f"{path} holds no {WEIGHTS_FILE}; give a folder by save_pretrained")
    if not is_repository(text.partition("@")[0]):
        raise UserError(
            f"{text}: there is no such folder, nor is this a name on the Hugging Face hub "
            "(user/name)"
        )
    return f"{HUB_PREFIX}{text}"


def push_to_hub(
    model: Any,
    repo_id: str,
    *,
    private: bool | None = None,
    token: str | None = None,
    **about: Any,
) -> str:
    """Upload what `save_pretrained` writes, into a repository that is made if there is none.

    Args:
        model: see `save_pretrained`.
        repo_id: ``user/name``.
        private: whether a new repository is; None for the account's default.
        token: of the hub; by default that of HF_TOKEN or of ``hf auth login``.
        about: ``metrics``, ``license`` and ``dataset`` of `save_pretrained`.

    Returns:
        The repository's address.

    Raises:
        UserError: the hub refuses it or cannot be reached; see also `save_pretrained`.
    """
    if not is_repository(repo_id):
        raise UserError(f"{repo_id!r} is no name on the Hugging Face hub, which are user/name")
    with tempfile.TemporaryDirectory() as parent:
        folder = save_pretrained(model, Path(parent, "model"), name=repo_id, **about)
        api = HfApi(token=token)
        try:
            url = api.create_repo(repo_id, private=private, exist_ok=True)
            called = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))["architecture"]
            api.upload_folder(
                repo_id=repo_id, folder_path=folder, commit_message=f"Upload {called}"
            )
        except Exception as error:  # no login, no rights, no network: httpx, OS or hub errors
            raise UserError(
                f"{repo_id} could not be uploaded: {first_line(error)}; a token that may write "
                "comes from HF_TOKEN or `hf auth login`"
            ) from error
    return str(url)


def _check_target(folder: Path) -> None:
    """Refuse what is no folder, and a folder with anything in it but a network of ours."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file; name a folder")
    if folder.is_dir() and any(folder.iterdir()):
        try:
            told = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
            ours = {"architecture", "model", "preprocessing"} <= set(told)
        except (OSError, ValueError, TypeError):
            ours = False
        if not ours:
            raise UserError(f"{folder} holds something else already; name a new folder")
