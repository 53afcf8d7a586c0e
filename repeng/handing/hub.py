"""A repository of the Hugging Face hub: its name, its files, and what goes wrong there in one line each."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from repeng.distributions.hub import quiet_attempts
from repeng.errors import BadInput, RepengError, StoreError, first_line

if TYPE_CHECKING:
    from huggingface_hub import HfApi

SCHEME = "hf://"
KINDS = {"models": "model", "datasets": "dataset"}
"""The hub's kinds of repository that are read and written, as its own addresses begin: hf://datasets/USER/NAME."""
NAME = re.compile(r"[A-Za-z0-9][\w.-]*")
MAIN = "main"
AT_ONCE = 8
"""Files that are fetched side by side."""
UNREACHABLE = {"TransportError", "TimeoutException", "ConnectionError", "LocalEntryNotFoundError"}
"""What errors of a network derive from, in the libraries below."""


@dataclass(frozen=True)
class HubName:
    """Where a repository of the hub is: `hf://USER/NAME`, `hf://datasets/USER/NAME@REVISION`.

    Attributes:
        repository: USER/NAME.
        revision: a branch, tag or commit; None for the main branch.
        kind: "model" or "dataset"; None where the name does not say.
    """

    repository: str
    revision: str | None = None
    kind: str | None = None

    @classmethod
    def parse(cls, text: str) -> HubName:
        """The name that a text means.

        Raises:
            BadInput: it is no name of a repository.
        """
        way_out = "give hf://USER/NAME, hf://USER/NAME@REVISION or hf://datasets/USER/NAME"
        named, at, revision = text.removeprefix(SCHEME).strip("/").partition("@")
        words = named.split("/")
        kind = KINDS.get(words[0]) if len(words) == 3 else None
        words = words[1:] if kind else words
        if len(words) != 2 or not all(NAME.fullmatch(word) for word in words) or (at and not revision):
            raise BadInput(f"{text}: names no repository of the hub; {way_out}")
        return cls("/".join(words), unquote(revision) or None, kind)

    def __str__(self) -> str:
        kind = {name: first for first, name in KINDS.items()}.get(self.kind or "")
        return f"{SCHEME}{f'{kind}/' if kind else ''}{self.repository}{f'@{self.revision}' if self.revision else ''}"


def is_hub(text: Any) -> bool:
    """Whether a text names a repository of the hub."""
    return isinstance(text, str) and text.startswith(SCHEME)


class HubRepository:
    """One repository of the hub, at one commit where it is read.

    Args:
        name: with its kind.
        api: how the hub is asked; None for huggingface_hub's own settings and login.

    Attributes:
        name: of it.
        commit: that it is read at; empty until `files` was asked.
    """

    def __init__(self, name: HubName, api: HfApi | None = None) -> None:
        from huggingface_hub import HfApi

        self.name, self.commit = name, ""
        self._api = HfApi() if api is None else api

    @classmethod
    def found(cls, name: HubName, api: HfApi | None = None) -> HubRepository:
        """The repository of a name that may not say its kind.

        Raises:
            BadInput: there is none that one may see, or one of each kind.
        """
        if name.kind:
            return cls(name, api)
        from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

        here: list[HubRepository] = []
        for kind in KINDS.values():
            one = cls(replace(name, kind=kind), api)
            with _told(name):
                try:
                    one._api.repo_info(name.repository, repo_type=kind)
                    here.append(one)
                except RepositoryNotFoundError as error:
                    # Of one that is gated it is known that it is there.
                    if isinstance(error, GatedRepoError) or (kind == list(KINDS.values())[-1] and not here):
                        raise
        if len(here) > 1:
            both = " or ".join(str(one.name) for one in here)
            raise BadInput(f"{name}: a model and a dataset have this name; give {both}")
        return here[0]

    @property
    def _where(self) -> dict[str, Any]:
        return {"repo_id": self.name.repository, "repo_type": self.name.kind}

    def create(self, *, public: bool) -> None:
        """Make the repository, and the branch that the name says, unless they are there.

        Raises:
            BadInput: one may not.
            RepengError: the hub does not answer.
        """
        with _told(self.name):
            self._api.create_repo(**self._where, private=not public, exist_ok=True)
            # What begins with refs/ is a pull request, which is made otherwise.
            if self.name.revision not in (None, MAIN) and not str(self.name.revision).startswith("refs/"):
                self._api.create_branch(**self._where, branch=str(self.name.revision), exist_ok=True)

    def files(self) -> dict[str, int]:
        """The size in bytes of each file, by its path; from now on the repository is read at the commit of this list.

        Raises:
            BadInput: there is no such repository or revision that one may see; or a path leaves the repository.
            RepengError: the hub does not answer.
        """
        from huggingface_hub import RepoFile

        with _told(self.name):
            self.commit = str(self._api.repo_info(**self._where, revision=self.name.revision).sha)
            tree = self._api.list_repo_tree(**self._where, revision=self.commit, recursive=True)
            found = {entry.path: int(entry.size) for entry in tree if isinstance(entry, RepoFile)}
        for path in found:
            check_path(path, str(self.name))
        return found

    def fetch(self, path: str, folder: Path) -> Path:
        """Bring a file into a folder, under its path; one that is there already, of the same commit, is left.

        Raises:
            RepengError: the hub does not answer.
        """
        self.fetch_all([path], folder)
        return folder / path

    def fetch_all(self, paths: Sequence[str], folder: Path, done: Callable[[int], None] | None = None) -> None:
        """Bring files into a folder, some at once, each as `fetch` does.

        Args:
            paths: of the files.
            folder: that they come into.
            done: told how many are there.

        Raises:
            RepengError: the hub does not answer.
        """
        for path in paths:
            check_path(path, str(self.name))

        def bring(path: str) -> None:
            self._api.hf_hub_download(**self._where, filename=path, revision=self.commit, local_dir=folder)

        with _told(self.name), ThreadPoolExecutor(AT_ONCE, thread_name_prefix="repeng-pulling") as threads:
            coming = [threads.submit(bring, path) for path in paths]
            try:
                for number, one in enumerate(as_completed(coming), start=1):
                    one.result()
                    if done is not None:
                        done(number)
            except BaseException:
                threads.shutdown(wait=False, cancel_futures=True)
                raise

    def commit_files(self, files: Mapping[str, Path | bytes], message: str, *, without: Sequence[str] = ()) -> str:
        """Add files in one commit, so that nobody ever sees some of them; returns the commit.

        Args:
            files: a file or its content, by its path in the repository.
            message: of the commit.
            without: files that the same commit removes.

        Raises:
            BadInput: one may not.
            RepengError: the hub does not answer, or somebody else committed since `files` was asked.
        """
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        added = [CommitOperationAdd(path, content) for path, content in files.items()]
        with _told(self.name):
            done = self._api.create_commit(
                **self._where,
                operations=[*added, *(CommitOperationDelete(path) for path in without)],
                commit_message=message,
                revision=self.name.revision,
                parent_commit=self.commit or None,
            )
        return str(done.oid)


def check_path(path: str, where: str) -> None:
    """See that a file of a repository stays within the folder that it is brought into.

    Raises:
        StoreError: it does not.
    """
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts or not pure.parts or re.search(r"[\\:\0]", path):
        raise StoreError(f"{where}: holds a file {path!r}, which leaves its folder; nothing of it is taken")


@contextmanager
def _told(name: HubName) -> Iterator[None]:
    """Whatever the hub or the network says becomes one line; each attempt's own warning is left out."""
    try:
        with quiet_attempts():
            yield
    except RepengError:
        raise
    except Exception as error:
        raise _in_words(name, error) from error


def _in_words(name: HubName, error: Exception) -> Exception:
    from huggingface_hub import constants, errors

    if isinstance(error, RuntimeError) and isinstance(error.__cause__, Exception):
        # What a thread that uploads met.
        error = error.__cause__
    kinds = {kind.__name__ for kind in type(error).__mro__}
    status = getattr(getattr(error, "response", None), "status_code", None)
    login = "log in by `hf auth login`"
    if isinstance(error, errors.OfflineModeIsEnabled):
        return RepengError(
            f"{name}: the hub is not asked in offline mode; unset HF_HUB_OFFLINE, or give a local folder"
        )
    if isinstance(error, errors.GatedRepoError):
        return BadInput(f"{name}: is gated; accept its conditions on its page, and {login}")
    if isinstance(error, errors.RevisionNotFoundError):
        return BadInput(f"{name}: the repository has no revision {name.revision or MAIN!r}; check it")
    if isinstance(error, errors.RepositoryNotFoundError):
        return BadInput(f"{name}: no such repository, or none that you may see; check the name, and {login}")
    if isinstance(error, errors.LocalTokenNotFoundError) or status == 401:
        return BadInput(f"{name}: the hub knows you not, or your token is no longer valid; {login}")
    if status == 403:
        return BadInput(f"{name}: the hub refuses; {login} with a token that may write there")
    if isinstance(error, errors.EntryNotFoundError) and not UNREACHABLE & kinds:
        return RepengError(f"{name}: a file of it is gone; run the command again")
    if status in (409, 412):
        return RepengError(f"{name}: somebody else changed it meanwhile; run the command again")
    if isinstance(error, errors.HFValidationError):
        return BadInput(f"{name}: {first_line(error)}")
    if UNREACHABLE & kinds:
        return RepengError(
            f"{name}: the hub at {constants.ENDPOINT} cannot be reached ({type(error).__name__}); check the network, "
            "and run the command again"
        )
    if status is not None:
        return RepengError(f"{name}: the hub answers {status}; run the command again later")
    return error
