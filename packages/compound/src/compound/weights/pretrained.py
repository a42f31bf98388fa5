"""Weights in a folder as the Hugging Face hub has them, here or on the hub."""

import logging
from pathlib import Path

from huggingface_hub import (
    get_hf_file_metadata,
    hf_hub_download,
    hf_hub_url,
    try_to_load_from_cache,
)
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import validate_repo_id

from compound.errors import UserError

log = logging.getLogger(__name__)

HUB_PREFIX = "hf-hub:"
WEIGHTS_FILE = "model.safetensors"
_LOGIN = "set HF_TOKEN or run `hf auth login`"


def pretrained_file(source: str | Path) -> Path | None:
    """Return the weights that a folder or ``hf-hub:user/name`` means; None if it is neither.

    Of the hub the newest version is fetched, or that of ``hf-hub:user/name@revision``; without a
    network what the cache has is taken.

    Raises:
        UserError: the hub has no such weights, does not give them, or cannot be reached.
    """
    text = str(source)
    if text.startswith(HUB_PREFIX):
        repository, _, revision = text.removeprefix(HUB_PREFIX).partition("@")
        return _fetched(repository, revision or None)
    path = Path(source).expanduser() / WEIGHTS_FILE
    return path if path.is_file() else None


def is_repository(name: str) -> bool:
    """Return whether the hub could have a repository of this name, ``user/name``."""
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return name.count("/") == 1


def download_weights(repository: str, revision: str | None = None) -> Path:
    """Return a repository's weights from the hub, of which a copy stays in its cache.

    Raises:
        Exception: an error of the hub, of its network library, or of the disk.
    """
    # Asked first because it fails at once, where the download would try for 20 seconds.
    get_hf_file_metadata(hf_hub_url(repository, WEIGHTS_FILE, revision=revision))
    return Path(hf_hub_download(repository, WEIGHTS_FILE, revision=revision))


def cached_weights(repository: str, revision: str | None = None) -> Path | None:
    """Return a repository's weights in the hub's cache, None if there are none."""
    found = try_to_load_from_cache(repository, WEIGHTS_FILE, revision=revision)
    return Path(found) if isinstance(found, str) else None


def _fetched(repository: str, revision: str | None) -> Path:
    source = f"weights={HUB_PREFIX}{repository}" + (f"@{revision}" if revision else "")
    if not is_repository(repository):
        raise UserError(
            f"{source}: {repository!r} is no name on the Hugging Face hub, which are user/name"
        )
    try:
        return download_weights(repository, revision)
    except GatedRepoError as error:  # before the next, which it is one of
        raise UserError(
            f"{source}: this repository is gated; ask for access at "
            f"https://huggingface.co/{repository} and {_LOGIN}"
        ) from error
    except RepositoryNotFoundError as error:
        raise UserError(
            f"{source}: the Hugging Face hub has no such repository, or it is private; check the "
            f"name, or {_LOGIN}"
        ) from error
    except RevisionNotFoundError as error:
        raise UserError(f"{source}: the repository has no revision {revision!r}") from error
    except Exception as error:  # no network, a proxy's page, a full disk: httpx, OS or hub errors
        if isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError):
            raise UserError(f"{source}: the repository holds no {WEIGHTS_FILE}") from error
        cached = cached_weights(repository, revision)
        if cached is None:
            raise UserError(
                f"{source}: it is not in the cache and the Hugging Face hub cannot be reached "
                f"({type(error).__name__}); run once with a network, or give a folder"
            ) from error
        log.warning("%s: the Hugging Face hub cannot be reached; taken from the cache", source)
        return cached
