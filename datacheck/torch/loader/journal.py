"""What the processes of a loader tell each other: bad samples, and how many samples they saw.

A worker cannot call the main process, and may die at any instant. So each process keeps two small files in one folder: a
log to which a line is appended for each bad sample, in one write, and a page of counters in shared memory. Both outlive a
process that is killed. The next process takes over the files of one that ended, so that their number is that of the
processes that run at a time, whatever the number of epochs.
"""

from __future__ import annotations

import fcntl
import json
import mmap
import os
import shutil
import tempfile
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from datacheck.errors import OutputError
from datacheck.text import plain

__all__ = ["COUNTERS", "Journal"]

#: What is counted, in the order of the counters' page.
COUNTERS = ("seen", "replaced", "skipped", "repaired", "retried", "unstable", "passing", "raised")

_PAGE = 64
_EPOCH, _VERSION = 0, 1
_KNOWN = "known.jsonl"


#: The journals that this process made, by folder: copies of a data set keep the folder of the original.
_made_here: weakref.WeakValueDictionary[Path, Journal] = weakref.WeakValueDictionary()


class Journal:
    """The folder of one :class:`SafeDataset`, and this process's part in it. Travels to workers as a path."""

    def __init__(self) -> None:
        try:
            self.folder = Path(tempfile.mkdtemp(prefix="datacheck-loader-"))
        except OSError as error:
            raise OutputError(f"no temporary folder for the loader's reports: {error}; set TMPDIR") from error
        self._original = self
        _made_here[self.folder] = self
        self._reset()
        weakref.finalize(self, _remove, self.folder, os.getpid())

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.folder = state["folder"]
        original = _made_here.get(self.folder)
        if original is None and not self.folder.is_dir():
            # It travelled to another machine, or outlived the process that made it.
            self.__init__()  # type: ignore[misc]
            return
        self._original = original or self
        self._reset()

    def _reset(self) -> None:
        self._pid = 0
        self._offsets: dict[str, int] = {}
        self.thread_lock = threading.RLock()

    def attach(self) -> tuple[memoryview, memoryview]:
        """Open this process's part: its counters, and what all processes share (see :attr:`epoch`)."""
        with _told_as_output_error(self.folder):
            # Locks and offsets of a parent are not those of a fork.
            self._reset()
            self.folder.mkdir(parents=True, exist_ok=True)
            self._folder_fd = _Descriptor(os.open(self.folder, os.O_RDONLY))
            # A folder that is locked is left alone by what clears temporary folders.
            fcntl.flock(self._folder_fd.number, fcntl.LOCK_SH)
            self._control_fd, self._control = _open_page(self.folder / "control")
            self._claim_slot()
            self._pid = os.getpid()
        return self.counts, self._control

    def _claim_slot(self) -> None:
        number = 0
        while True:
            name = f"slot-{number:03d}"
            descriptor, page = _open_page(self.folder / f"{name}.counts")
            try:
                fcntl.flock(descriptor.number, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                number += 1
                continue
            self._slot_fd, self.counts = descriptor, page
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
            self._log_name = f"{name}.jsonl"
            self._log_fd = _Descriptor(os.open(self.folder / self._log_name, flags, 0o600))
            return

    def require_attached(self) -> None:
        """Attach this process, unless it is."""
        if self._pid != os.getpid():
            self.attach()

    @property
    def epoch(self) -> int:
        """The epoch that the main process set; workers that live through epochs see it change."""
        self.require_attached()
        return int(self._control[_EPOCH])

    @epoch.setter
    def epoch(self, epoch: int) -> None:
        self.require_attached()
        self._control[_EPOCH] = epoch

    @property
    def version(self) -> int:
        """A number that grows with every record of any process."""
        self.require_attached()
        return int(self._control[_VERSION])

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep all other processes and threads from appending."""
        self.require_attached()
        with self.thread_lock:
            fcntl.flock(self._control_fd.number, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.flock(self._control_fd.number, fcntl.LOCK_UN)

    def append(self, record: Mapping[str, Any]) -> None:
        """Write a record to this process's log, of which it has read the rest. Call it under :meth:`locked`."""
        line = json.dumps(record, allow_nan=False).encode() + b"\n"
        with _told_as_output_error(self.folder):
            # The line break first: a process that was killed may have left half a line.
            written = os.write(self._log_fd.number, b"\n" + line)
        if written != len(line) + 1:
            raise OutputError(f"{plain(str(self.folder))}: the disk is full, so a bad sample cannot be reported")
        self._offsets[self._log_name] = os.lseek(self._log_fd.number, 0, os.SEEK_CUR)
        self._control[_VERSION] += 1

    def write_known(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Tell all processes of samples that were known to be bad before this run."""
        with self.locked(), _told_as_output_error(self.folder):
            lines = b"".join(json.dumps(record, allow_nan=False).encode() + b"\n" for record in records)
            with (self.folder / _KNOWN).open("ab") as file:
                file.write(lines)
            self._control[_VERSION] += 1

    def read_new(self) -> Iterator[tuple[dict[str, Any], bool]]:
        """The records that this process has not read before, and whether each is of this run."""
        self.require_attached()
        for name in self._log_names():
            lines, self._offsets[name] = _read_lines(self.folder / name, self._offsets.get(name, 0))
            for record in lines:
                yield record, name != _KNOWN

    def read_all(self) -> Iterator[tuple[dict[str, Any], bool]]:
        """Every record, and whether it is of this run."""
        self.require_attached()
        for name in self._log_names():
            for record in _read_lines(self.folder / name, 0)[0]:
                yield record, name != _KNOWN

    def _log_names(self) -> list[str]:
        names = sorted(path.name for path in self.folder.glob("slot-*.jsonl"))
        return [_KNOWN, *names] if (self.folder / _KNOWN).exists() else names

    def totals(self) -> dict[str, int]:
        """What all processes counted, added."""
        self.require_attached()
        sums = [0] * len(COUNTERS)
        for path in self.folder.glob("slot-*.counts"):
            with suppress(OSError):
                page = path.read_bytes()
                if len(page) == _PAGE:  # shorter is one that is being made
                    sums = [total + value for total, value in zip(sums, memoryview(page).cast("Q"), strict=True)]
        return dict(zip(COUNTERS, sums, strict=True))


def _remove(folder: Path, owner: int) -> None:
    """Remove the folder of a journal that is gone, in the process that made it."""
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)


class _Descriptor:
    """A file descriptor that is closed with the object that holds it."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __del__(self) -> None:
        with suppress(OSError):
            os.close(self.number)


def _open_page(path: Path) -> tuple[_Descriptor, memoryview]:
    """A file of counters, mapped so that all processes see a change at once, and after the death of its writer."""
    descriptor = _Descriptor(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    if os.fstat(descriptor.number).st_size < _PAGE:
        os.ftruncate(descriptor.number, _PAGE)
    return descriptor, memoryview(mmap.mmap(descriptor.number, _PAGE)).cast("Q")


def _read_lines(path: Path, offset: int) -> tuple[list[dict[str, Any]], int]:
    """The whole lines of a log from an offset, and the offset after them."""
    try:
        with path.open("rb") as file:
            file.seek(offset)
            data = file.read()
    except FileNotFoundError:
        return [], offset
    end = data.rfind(b"\n") + 1
    records = []
    for line in data[:end].split(b"\n"):
        # Half a line is what a killed process left behind.
        with suppress(ValueError):
            record = json.loads(line) if line else None
            if isinstance(record, dict):
                records.append(record)
    return records, offset + end


@contextmanager
def _told_as_output_error(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(f"{plain(str(folder))}: bad samples cannot be reported there: {error}") from error
