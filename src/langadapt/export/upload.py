"""Puts what was exported into a repository of the hub, private unless it is said otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from langadapt import hub
from langadapt.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Upload:
    """What would be uploaded, and where.

    Attributes:
        repo_id: `owner/name`.
        private: whether only its owner may see the repository, where it is made.
        files: by path in the repository.
    """

    repo_id: str
    private: bool
    files: dict[str, Path]

    @property
    def bytes(self) -> int:
        return sum(file.stat().st_size for file in self.files.values())


def prepare(repo_id: str, out: Path, formats: Sequence[str], *, card: Path | None, public: bool = False) -> Upload:
    """The upload of exported formats: the first one at the top, where libraries look, the others in their folders.

    Args:
        repo_id: `owner/name`.
        out: folder of the formats.
        formats: their names.
        card: becomes the repository's `README.md`; None for none.
        public: whether everyone may see the repository, where it is made.
    """
    files = {"README.md": card} if card else {}
    for place, name in enumerate(formats):
        before = f"{name}/" if place else ""
        folder = out / name
        files |= {f"{before}{p.relative_to(folder).as_posix()}": p for p in sorted(folder.rglob("*")) if p.is_file()}
    return Upload(repo_id=repo_id, private=not public, files=files)


def check_access(repo_id: str, *, public: bool) -> None:
    """Asks the hub whether this user is known to it, and what is there already.

    Raises:
        UserError: nobody is logged in, the hub cannot be reached, or the repository is there and public.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RepositoryNotFoundError

    from langadapt.models import hub_token

    if hub_token() is None:
        raise UserError(
            f"{repo_id}: without a token nothing can be uploaded; log in with: hf auth login (or set HF_TOKEN)"
        )
    api = HfApi()
    with hub.in_words(repo_id, upload=True):
        api.whoami()
        try:
            private = api.model_info(repo_id).private
        except RepositoryNotFoundError:
            return
    if not private and not public:
        raise UserError(
            f"{repo_id} is on the hub already and everyone sees it; to upload into it all the same: --public"
        )


def push(upload: Upload) -> str:
    """Makes the repository where there is none, and uploads all files in one commit.

    Returns:
        The address of the commit.

    Raises:
        UserError: the hub refuses, or cannot be reached.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    api = HfApi()
    operations = [CommitOperationAdd(path_in_repo=name, path_or_fileobj=file) for name, file in upload.files.items()]
    with hub.in_words(upload.repo_id, upload=True):
        api.create_repo(upload.repo_id, private=upload.private, exist_ok=True)
        try:
            commit = api.create_commit(upload.repo_id, operations, commit_message="Upload by langadapt")
        except RuntimeError as error:  # that a large file could not be put into storage
            raise UserError(f"{upload.repo_id}: {error} Nothing is committed; the same command tries again") from None
    return str(commit.commit_url)
