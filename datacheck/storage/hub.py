"""Repositories of the Hugging Face Hub as a storage that is only read, each at the commit that was found first."""

from __future__ import annotations

import errno
import functools
import os
import posixpath
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Never

from datacheck.errors import UsageError
from datacheck.storage.base import Entry, FileInfo, Fingerprint, Lock, StoreError
from datacheck.storage.ranges import RangeFile
from datacheck.storage.remote import RemoteStorage
from datacheck.text import redacted

_SCHEME = "hf://"
_TIMEOUT_SECONDS = 10
_READ_ONLY = (
    "hf:// is only read; write to a folder, and upload that in one commit with 'hf upload REPOSITORY FOLDER"
    " --repo-type dataset'"
)
_NOT_OPEN = "no such repository, or it is not open to you; check its name, and log in with 'hf auth login' or HF_TOKEN"


class HubStorage(RemoteStorage):
    """Files of datasets, models and spaces: ``hf://datasets/name/dataset@revision/path``.

    A revision stands for the commit that it was at the first request of this process, so that all of a dataset is read from
    one commit.
    """

    def __init__(self) -> None:
        self._commits: dict[tuple[str, str, str], str] = {}
        self._lock = threading.Lock()

    # Reading

    def stat(self, uri: str, *, recent: bool = False) -> FileInfo:  # noqa: ARG002 - a commit does not change
        with _errors(uri):
            return _info(_file_system().info(self._pinned(uri)))

    def open(self, uri: str, *, recent: bool = False) -> RangeFile:  # noqa: ARG002
        info = self.stat(uri)
        if info.kind != "file":
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), uri)
        pinned = self._pinned(uri)

        def fetch(start: int, stop: int) -> bytes:
            with _errors(uri):
                content: bytes = _file_system().cat_file(pinned, start=start, end=stop)
                return content

        return RangeFile(info.fingerprint.size, b"", fetch)

    def list(self, folder: str) -> list[Entry]:
        with _errors(folder):
            pinned = self._pinned(folder)
            try:
                found = _file_system().ls(pinned, detail=True)
            except FileNotFoundError:
                return []
        entries = (Entry(posixpath.basename(one["name"]), one["type"] == "directory") for one in found)
        return sorted(entries, key=lambda entry: entry.name)

    def written_hash(self, uri: str) -> str:
        return self.content_hash(uri)

    def _pinned(self, uri: str) -> str:
        """The path of a file in the commit that its revision stands for."""
        from huggingface_hub import HfApi

        place = _file_system().resolve_path(uri.rstrip("/"))
        if not hasattr(place, "repo_id"):
            problem = "a storage bucket has no commits; open it by its S3 endpoint, as s3:// with AWS_ENDPOINT_URL"
            raise UsageError(f"{uri}: {problem}")
        key = (place.repo_type, place.repo_id, place.revision)
        with self._lock:
            if key not in self._commits:
                info = HfApi().repo_info(
                    place.repo_id, repo_type=place.repo_type, revision=place.revision, timeout=_TIMEOUT_SECONDS
                )
                self._commits[key] = str(info.sha)
            prefix = "" if place.repo_type == "model" else f"{place.repo_type}s/"
            return f"{prefix}{place.repo_id}@{self._commits[key]}/{place.path_in_repo}".rstrip("/")

    # Writing: refused

    def why_read_only(self, uri: str) -> str:  # noqa: ARG002
        return _READ_ONLY

    def create(self, uri: str) -> Never:
        raise StoreError(errno.EROFS, _READ_ONLY, uri)

    def put(self, uri: str, content: bytes, *, if_absent: bool = False) -> None:  # noqa: ARG002
        self.create(uri)

    def move_all(self, moves: Iterable[tuple[str, str]]) -> None:
        for _, final in moves:
            self.create(final)

    def delete(self, uri: str) -> None:
        self.create(uri)

    def delete_folder(self, folder: str) -> None:
        self.create(folder)

    def delete_empty_folder(self, folder: str) -> None:
        """Nothing: there are no empty folders."""

    def make_folder(self, folder: str) -> None:
        self.create(folder)

    def sync(self, folder: str) -> None:
        self.create(folder)

    def remove_partials(self, folder: str) -> int:
        return int(self.create(folder))

    def lock(self, uri: str, *, shared: bool = False) -> Lock:  # noqa: ARG002
        self.create(uri)


@functools.cache
def _file_system() -> Any:
    try:
        from huggingface_hub import HfFileSystem
    except ImportError:
        raise UsageError(
            "huggingface_hub is required for hf://, and is not installed; install it with: pip install 'datacheck-ml[cloud]'"
        ) from None
    return HfFileSystem(expand_info=False)


def _info(found: dict[str, Any]) -> FileInfo:
    if found["type"] == "directory":
        return FileInfo("folder", Fingerprint(0))
    lfs = found.get("lfs")
    version = (lfs["sha256"] if isinstance(lfs, dict) else getattr(lfs, "sha256", "")) or found.get("blob_id") or ""
    return FileInfo("file", Fingerprint(found["size"], version=version))


@contextmanager
def _errors(uri: str) -> Iterator[None]:
    """Turn every exception of huggingface_hub into an ``OSError`` about ``uri``."""
    try:
        yield
    except UsageError:
        raise
    except Exception as error:
        names = {type(one).__name__ for one in (error, error.__cause__)}
        first = redacted(str(error).strip().partition("\n")[0])[:300]
        if names & {"RepositoryNotFoundError", "GatedRepoError"}:
            raise StoreError(errno.EACCES, _NOT_OPEN, uri) from error
        if isinstance(error, FileNotFoundError):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), uri) from None
        if isinstance(error, NotImplementedError | ValueError):
            raise StoreError(errno.EINVAL, f"{first}; expected hf://datasets/NAME/DATASET/PATH", uri) from None
        if type(error).__module__.partition(".")[0] in ("httpx", "httpx2", "huggingface_hub", "requests"):
            raise StoreError(errno.ETIMEDOUT, f"the Hub did not answer ({first}); check the network", uri) from error
        raise


HUB = HubStorage()
