"""The Hugging Face Hub: access checked before anything long starts, revisions pinned, failures put into words."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from langadapt.errors import UserError
from langadapt.models import snapshot


@contextmanager
def in_words(repo_id: str, *, revision: str = "", dataset: bool = False, upload: bool = False) -> Iterator[None]:
    """Turns the hub library's exceptions into messages that say what to do, of a fetch or an `upload`."""
    from huggingface_hub import errors
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    # The HTTP library's own base class; which library that is depends on the hub library's version.
    transport: type[Exception] = getattr(errors, "HTTPError", OSError)

    done = "uploaded" if upload else "fetched"
    page = f"https://huggingface.co/{'datasets/' if dataset else ''}{repo_id}"
    try:
        validate_repo_id(repo_id)  # not all calls check it before they ask
        yield
    except errors.HFValidationError:
        raise UserError(f"{repo_id} cannot be the name of a hub repository; it is written owner/name") from None
    except errors.GatedRepoError:
        raise UserError(
            f"{repo_id} is gated; accept its terms at {page}, then log in with: hf auth login (or set HF_TOKEN)"
        ) from None
    except errors.RepositoryNotFoundError:
        raise UserError(
            f"the hub knows no {repo_id}, or it is private and you are not logged in; check the name, "
            "or log in with: hf auth login"
        ) from None
    except errors.RevisionNotFoundError:
        raise UserError(f'{repo_id} has no revision "{revision}"; see {page}') from None
    except errors.HfHubHTTPError as error:
        if error.response.status_code == 401:
            raise UserError(
                f"the hub does not accept your token, so {repo_id} cannot be {done}; log in anew with: hf auth login "
                "(or mend HF_TOKEN)"
            ) from None
        raise UserError(
            f"the hub refused {repo_id}: {str(error).splitlines()[0]}; try again later, and look at {page}"
        ) from None
    except (errors.OfflineModeIsEnabled, errors.LocalEntryNotFoundError, transport, ConnectionError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        if upload:
            raise UserError(
                f"{repo_id}: the hub cannot be reached, so nothing is uploaded ({first}); the same command tries again"
            ) from None
        raise UserError(
            f"{repo_id} is not on this machine and the hub cannot be reached ({first}); connect, or fetch it on another "
            "machine and give its folder instead"
        ) from None


def pin_model(repo_id: str, revision: str) -> str:
    """The commit that a model revision stands for, having checked that this user may fetch it.

    Where the hub must not be asked (HF_HUB_OFFLINE), it is the one that the hub's cache has under that name.
    """
    from huggingface_hub import HfApi, constants

    if constants.HF_HUB_OFFLINE and (cached := snapshot(repo_id, revision)):
        return cached.name
    with in_words(repo_id, revision=revision):
        api = HfApi()
        api.auth_check(repo_id)
        return str(api.model_info(repo_id, revision=revision).sha)


def pin_dataset(repo_id: str, revision: str) -> str:
    """The commit that a dataset revision stands for, having checked that this user may fetch it."""
    from huggingface_hub import HfApi

    with in_words(repo_id, revision=revision, dataset=True):
        api = HfApi()
        api.auth_check(repo_id, repo_type="dataset")
        return str(api.dataset_info(repo_id, revision=revision).sha)


def fetch_model(repo_id: str, commit: str, also: Sequence[str] = ()) -> str:
    """Folder of a model snapshot: configuration, tokenizer and safetensors weights; nothing that could hold code.

    `also` names further files by pattern, for models of another format.
    """
    return fetch_tokenizer(repo_id, commit, ["*.safetensors", *also])


def fetch_tokenizer(repo_id: str, commit: str, also: Sequence[str] = ()) -> str:
    """Folder of a model snapshot without its weights: configuration and tokenizer, and what `also` names by pattern."""
    from huggingface_hub import snapshot_download

    with in_words(repo_id, revision=commit):
        return snapshot_download(repo_id, revision=commit, allow_patterns=[*_SMALL, *also])


_SMALL = ("*.json", "*.model", "merges.txt", "vocab.txt", "*.jinja", "LICENSE*")


@contextmanager
def unconnected() -> Iterator[None]:
    """In the block nothing reaches the network, whichever library tries and whatever it read its settings from."""
    connect = socket.socket.connect

    def refused(self: Any, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6):
            raise ConnectionError(f"nothing may be fetched while a model is measured, and {address} was asked for")
        connect(self, address)

    socket.socket.connect = refused  # type: ignore[method-assign]
    try:
        yield
    finally:
        socket.socket.connect = connect  # type: ignore[method-assign]
