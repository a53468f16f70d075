"""The Hugging Face Hub: access checked before anything long starts, revisions pinned, failures put into words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from langadapt.errors import UserError


@contextmanager
def in_words(repo_id: str) -> Iterator[None]:
    """Turns the hub library's exceptions into messages that say what to do."""
    import httpx
    from huggingface_hub import errors

    page = f"https://huggingface.co/{repo_id}"
    try:
        yield
    except errors.GatedRepoError:
        raise UserError(f"{repo_id} is gated: accept its terms at {page}, then log in with: hf auth login "
                        "(or set HF_TOKEN)") from None
    except errors.RepositoryNotFoundError:
        raise UserError(f"the hub knows no {repo_id}, or it is private and you are not logged in; check the name, "
                        "or log in with: hf auth login") from None
    except errors.RevisionNotFoundError:
        raise UserError(f"{repo_id} has no such revision; see {page}") from None
    except (errors.OfflineModeIsEnabled, errors.LocalEntryNotFoundError, httpx.TransportError, ConnectionError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{repo_id} is not on this machine and the hub cannot be reached ({first}); connect, or fetch it "
                        "on another machine and give its folder instead") from None
    except errors.HfHubHTTPError as error:
        raise UserError(f"the hub refused {repo_id}: {str(error).splitlines()[0]}") from None


def pin_model(repo_id: str, revision: str) -> str:
    """The commit that a model revision stands for, having checked that this user may fetch it."""
    from huggingface_hub import HfApi

    with in_words(repo_id):
        api = HfApi()
        api.auth_check(repo_id)
        return str(api.model_info(repo_id, revision=revision).sha)


def pin_dataset(repo_id: str, revision: str) -> str:
    """The commit that a dataset revision stands for, having checked that this user may fetch it."""
    from huggingface_hub import HfApi

    with in_words(repo_id):
        api = HfApi()
        api.auth_check(repo_id, repo_type="dataset")
        return str(api.dataset_info(repo_id, revision=revision).sha)


def fetch_model(repo_id: str, commit: str) -> str:
    """Folder of a model snapshot: configuration, tokenizer and safetensors weights; nothing that could hold code."""
    from huggingface_hub import snapshot_download

    with in_words(repo_id):
        return snapshot_download(
            repo_id, revision=commit, allow_patterns=["*.json", "*.safetensors", "tokenizer.model", "*.jinja", "LICENSE*"]
        )
