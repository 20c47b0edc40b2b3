"""The list of a data set's bad samples that lasts from run to run."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from datacheck import __version__
from datacheck.errors import OutputError, UsageError
from datacheck.text import plain
from datacheck.torch.loader.records import BadSample, Verdict

__all__ = ["Quarantine"]

VERSION = 1
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
        except (OSError, ValueError) as error:
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

    def add(self, samples: Iterable[BadSample]) -> int:
        """Add samples that are bad for good; how many the file then has."""
        with self._locked():
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
            os.close(lock)


def _describe(head: dict[str, Any]) -> str:
    number = head.get("num_samples")
    return f"{plain(str(head.get('name')))}, {f'{number:,} samples' if isinstance(number, int) else 'no length'}"
