"""The quarantine file: the known bad samples of a dataset, kept from run to run."""

from __future__ import annotations

import glob
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from datacheck._version import __version__
from datacheck.errors import OutputError, UsageError
from datacheck.storage.documents import is_uri, read_document
from datacheck.storage.os_calls import lock_descriptor, open_descriptor, unlock_descriptor
from datacheck.storage.registry import LOCAL
from datacheck.text import plain
from datacheck.torch.loader.event_log import SUFFIX, EventLog, has_ended, read_log
from datacheck.torch.loader.records import BadSample, SampleVerdict

VERSION = 1
#: The file in an event log that identifies its dataset.
_OWNER_FILE = "dataset.json"
#: Enough for the bad samples of 10 million samples, with tracebacks. A larger file is not a quarantine file.
MAX_BYTES = 1 << 30


class Quarantine:
    """A JSON file of bad samples that belongs to one dataset and is refused for any other.

    Each addition reads the file, adds to it and replaces it atomically, under a lock: runs that share a file lose nothing,
    and readers never see half of one.
    """

    def __init__(self, path: Path | str, fingerprint: str, name: str, num_samples: int | None) -> None:
        self.path = Path(path)
        self._name = plain(str(path))
        self._source = path
        self._identity = {"fingerprint": fingerprint, "name": name, "num_samples": num_samples}

    def read(self) -> list[BadSample]:
        """The known bad samples; none if the file does not exist.

        Raises ``UsageError`` for the file of another dataset and for anything that is not a quarantine file.
        """
        try:
            return self._parse(read_document(self._source, "a quarantine file", MAX_BYTES, missing=None))
        except FileNotFoundError:
            return []

    def _parse(self, content: bytes) -> list[BadSample]:
        try:
            record = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{self._name}: cannot be read as a quarantine file: {plain(str(error))}") from None
        self._check(record)
        try:
            return [BadSample.from_dict(sample) for sample in record["samples"]]
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(f"{self._name}: not a quarantine file ({plain(repr(error))}); delete it") from None

    @property
    def beside(self) -> Path | None:
        """The file beside which the log of a run lies."""
        return self.path

    def _check(self, record: Any) -> None:
        if not isinstance(record, dict) or not isinstance(record.get("dataset"), dict):
            raise UsageError(f"{self._name}: not a quarantine file; choose another file")
        if record.get("version") != VERSION:
            raise UsageError(f"{self._name}: expected version {VERSION}, got {record.get('version')!r}; delete it")
        head = record["dataset"]
        if head.get("fingerprint") != self._identity["fingerprint"]:
            raise UsageError(
                f"{self._name}: belongs to another dataset ({_describe(head)}; this is {_describe(self._identity)}); choose "
                "another file, or pass the same fingerprint='...' if both have the same samples in the same order"
            )

    def load(self) -> list[BadSample]:
        """The known bad samples, including those found by runs that were killed before they could add them."""
        known = self.read()
        if not any(self._event_logs()):
            return known
        with self._locked():
            left = [sample for owner_file in self._event_logs() for sample in self._read_event_log(owner_file)]
            if left:
                self._merge(left)
        return self.read()

    def mark_owner(self, event_log: EventLog) -> None:
        """Identify the dataset in an event log, for a run that finds it after this one was killed."""
        if event_log.folder.parent == self.path.parent:
            event_log.require_attached()
            (event_log.folder / _OWNER_FILE).write_text(json.dumps(self._identity))

    def _event_logs(self) -> Iterator[Path]:
        """The event logs beside this file, of running and of killed runs, each by its owner file."""
        return self.path.parent.glob(f".{glob.escape(self.path.name)}.*{SUFFIX}/{_OWNER_FILE}")

    def _read_event_log(self, owner_file: Path) -> list[BadSample]:
        """The bad samples in an event log, which is deleted if all processes of its run have ended.

        The log of a running run is read too: workers survive a killed main process by seconds.
        """
        folder = owner_file.parent
        try:
            if json.loads(owner_file.read_bytes()).get("fingerprint") != self._identity["fingerprint"]:
                return []
            records = [record for log in sorted(folder.glob("*.jsonl")) for record in read_log(log, 0)[0]]
            found = [BadSample.from_dict(record) for record in records if record.get("verdict") == SampleVerdict.BAD]
            if has_ended(folder):
                shutil.rmtree(folder, ignore_errors=True)
        except (OSError, KeyError, TypeError, ValueError, AttributeError):
            return []  # another tool's, or being deleted right now
        return found

    def add(self, samples: Iterable[BadSample]) -> int:
        """Add bad samples; returns how many the file has then."""
        with self._locked():
            return self._merge(samples)

    def _merge(self, samples: Iterable[BadSample]) -> int:
        merged = _merged(self.read(), samples)
        self._write(merged)
        return len(merged)

    def _text(self, samples: Sequence[BadSample]) -> str:
        lines = ",\n".join(f"    {json.dumps(sample.to_dict(), allow_nan=False)}" for sample in samples)
        head = json.dumps(self._identity, allow_nan=False)
        return (
            f'{{\n  "version": {VERSION},\n  "datacheck": {json.dumps(__version__)},\n  "dataset": {head},\n'
            f'  "samples": [{f"{chr(10)}{lines}{chr(10)}  " if lines else ""}]\n}}\n'
        )

    def _write(self, samples: Sequence[BadSample]) -> None:
        text = self._text(samples)
        partial = self.path.with_name(f".{self.path.name}.{os.getpid()}.partial")
        try:
            with partial.open("wb") as file:
                file.write(text.encode())
                file.flush()
                os.fsync(file.fileno())
            partial.replace(self.path)
            LOCAL.sync(str(self.path.parent))
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise OutputError(f"{self._name}: cannot be written: {error}") from error

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            lock = open_descriptor(self.path.with_name(f".{self.path.name}.lock"), os.O_RDWR | os.O_CREAT)
        except OSError as error:
            raise OutputError(
                f"{self._name}: cannot be written: {error}; choose a file in a folder that exists"
            ) from error
        try:
            lock_descriptor(lock, waits=True)
            yield
        finally:
            # A worker that was forked meanwhile has the descriptor too and would keep the lock.
            with suppress(OSError):
                unlock_descriptor(lock)
            os.close(lock)


class RemoteQuarantine(Quarantine):
    """A quarantine file in an object store: each addition replaces the version that it has read, or is made again.

    The log of a run lies in a temporary folder, so what a killed run had not added yet is found again, and not read.
    """

    def __init__(self, uri: str, fingerprint: str, name: str, num_samples: int | None) -> None:
        super().__init__(uri, fingerprint, name, num_samples)
        self.uri = uri

    @property
    def beside(self) -> Path | None:
        return None

    def load(self) -> list[BadSample]:
        return self.read()

    def mark_owner(self, event_log: EventLog) -> None:
        """Nothing: no other run looks for the log."""

    def add(self, samples: Iterable[BadSample]) -> int:
        from datacheck.storage.object_storage import update_object

        listed, number = list(samples), 0

        def change(content: bytes | None) -> bytes:
            nonlocal number
            merged = _merged([] if content is None else self._parse(content), listed)
            number = len(merged)
            return self._text(merged).encode()

        try:
            update_object(self.uri, change)
        except OSError as error:
            raise OutputError(f"{self._name}: cannot be written: {plain(error.strerror or str(error), 600)}") from error
        return number


def open_quarantine(path: str | os.PathLike[str], fingerprint: str, name: str, num_samples: int | None) -> Quarantine:
    """The quarantine file of a dataset, local or in an object store."""
    if is_uri(path):
        return RemoteQuarantine(os.fspath(path), fingerprint, name, num_samples)
    return Quarantine(Path(path), fingerprint, name, num_samples)


def _merged(known: Iterable[BadSample], samples: Iterable[BadSample]) -> list[BadSample]:
    merged = {sample.index: sample for sample in known}
    for sample in samples:
        if sample.verdict is SampleVerdict.BAD:
            merged.setdefault(sample.index, sample)
    return [merged[index] for index in sorted(merged)]


def _describe(head: dict[str, Any]) -> str:
    number = head.get("num_samples")
    return f"{plain(str(head.get('name')))}, {f'{number:,} samples' if isinstance(number, int) else 'no length'}"
