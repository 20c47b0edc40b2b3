"""The list of a data set's bad samples that lasts from run to run."""

from __future__ import annotations

import fcntl
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
from datacheck.text import plain
from datacheck.torch.loader.event_log import SUFFIX, Journal, read_log
from datacheck.torch.loader.records import BadSample, Verdict

__all__ = ["Quarantine"]

VERSION = 1
#: The file in a journal that says which data set it belongs to.
_SIGN = "dataset.json"
#: A list beyond this is no list of ours: the bad samples of a data set of 10 million, each with its traceback.
MAX_BYTES = 1 << 30


class Quarantine:
    """A JSON file of bad samples. It belongs to one data set, and is refused by any other.

    Each addition reads the file again, adds, and puts the new file in the place of the old one, under a lock: runs that
    share a list lose nothing, and a reader never sees half of one.
    """

    def __init__(self, path: Path, fingerprint: str, name: str, num_samples: int | None) -> None:
        self.path = path
        self._head = {"fingerprint": fingerprint, "name": name, "num_samples": num_samples}

    def read(self) -> list[BadSample]:
        """The samples that are known; none where there is no file yet.

        Raises ``UsageError`` for the list of another data set and for what is no list.
        """
        try:
            if self.path.stat().st_size > MAX_BYTES:
                raise UsageError(f"{self._place}: is larger than {MAX_BYTES:,} bytes, and no list of bad samples")
            record = json.loads(self.path.read_bytes())
        except FileNotFoundError:
            return []
        except (OSError, ValueError, RecursionError) as error:
            raise UsageError(f"{self._place}: cannot be read as a list of bad samples: {plain(str(error))}") from None
        self._check(record)
        try:
            return [BadSample.from_dict(sample) for sample in record["samples"]]
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(f"{self._place}: is no list of bad samples ({plain(repr(error))}); remove it") from None

    @property
    def _place(self) -> str:
        return plain(str(self.path))

    def _check(self, record: Any) -> None:
        if not isinstance(record, dict) or not isinstance(record.get("dataset"), dict):
            raise UsageError(f"{self._place}: is no list of bad samples; name another file")
        if record.get("version") != VERSION:
            raise UsageError(
                f"{self._place}: its version is {record.get('version')!r}, and {VERSION} is known; remove it"
            )
        head = record["dataset"]
        if head.get("fingerprint") != self._head["fingerprint"]:
            raise UsageError(
                f"{self._place}: belongs to another data set ({_describe(head)}; this is {_describe(self._head)}); name "
                "another file, or give both the same fingerprint='...' if they hold the same samples in the same order"
            )

    def start(self) -> list[BadSample]:
        """The samples that are known, with those that runs found which were killed before they could add them."""
        known = self.read()
        if not any(self._journals()):
            return known
        with self._locked():
            left = [sample for sign in self._journals() for sample in self._found_in(sign)]
            if left:
                self._merge(left)
        return self.read()

    def sign(self, journal: Journal) -> None:
        """Say in a journal which data set it belongs to, for a run that finds it after this one was killed."""
        if journal.folder.parent == self.path.parent:
            journal.require_attached()
            (journal.folder / _SIGN).write_text(json.dumps(self._head))

    def _journals(self) -> Iterator[Path]:
        """The journals beside this list, of runs that are under way and of such as were killed."""
        return self.path.parent.glob(f".{glob.escape(self.path.name)}.*{SUFFIX}/{_SIGN}")

    def _found_in(self, sign: Path) -> list[BadSample]:
        """What a run found, of whose journal this is the sign. It is removed where all processes of the run have ended.

        Workers outlive a killed main process by seconds, so what they hold is read too; so is that of a run beside this one.
        """
        folder = sign.parent
        try:
            lock = os.open(folder, os.O_RDONLY)
        except OSError:
            return []
        try:
            if json.loads(sign.read_bytes()).get("fingerprint") != self._head["fingerprint"]:
                return []
            records = [record for log in sorted(folder.glob("*.jsonl")) for record in read_log(log, 0)[0]]
            found = [BadSample.from_dict(record) for record in records if record.get("verdict") == Verdict.BAD]
            with suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
        except (OSError, KeyError, TypeError, ValueError, AttributeError):
            return []  # none of ours, or one that is being removed
        finally:
            os.close(lock)
        return found

    def add(self, samples: Iterable[BadSample]) -> int:
        """Add samples that are bad for good; how many the file then has."""
        with self._locked():
            return self._merge(samples)

    def _merge(self, samples: Iterable[BadSample]) -> int:
        merged = {sample.index: sample for sample in self.read()}
        for sample in samples:
            if sample.verdict is Verdict.BAD:
                merged.setdefault(sample.index, sample)
        self._write([merged[index] for index in sorted(merged)])
        return len(merged)

    def _write(self, samples: Sequence[BadSample]) -> None:
        lines = ",\n".join(f"    {json.dumps(sample.to_dict(), allow_nan=False)}" for sample in samples)
        head = json.dumps(self._head, allow_nan=False)
        text = (
            f'{{\n  "version": {VERSION},\n  "datacheck": {json.dumps(__version__)},\n  "dataset": {head},\n'
            f'  "samples": [{f"{chr(10)}{lines}{chr(10)}  " if lines else ""}]\n}}\n'
        )
        partial = self.path.with_name(f".{self.path.name}.{os.getpid()}.partial")
        try:
            with partial.open("wb") as file:
                file.write(text.encode())
                file.flush()
                os.fsync(file.fileno())
            partial.replace(self.path)
            folder = os.open(self.path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise OutputError(f"{self._place}: cannot be written: {error}") from error

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            lock = os.open(self.path.with_name(f".{self.path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise OutputError(
                f"{self._place}: cannot be written: {error}; name a file in a folder that exists"
            ) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            # A worker that was forked meanwhile has the descriptor too, and would keep the lock.
            fcntl.flock(lock, fcntl.LOCK_UN)
            os.close(lock)


def _describe(head: dict[str, Any]) -> str:
    number = head.get("num_samples")
    return f"{plain(str(head.get('name')))}, {f'{number:,} samples' if isinstance(number, int) else 'no length'}"
