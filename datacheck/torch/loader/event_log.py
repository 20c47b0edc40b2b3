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

__all__ = ["COUNTERS", "LOADING", "NUM_LOADING", "SUFFIX", "Journal", "read_log"]

#: What is counted, in the order of the counters' page.
COUNTERS = ("seen", "replaced", "skipped", "repaired", "retried", "unstable", "passing", "raised")

_PAGE = 128
_EPOCH, _VERSION = 0, 1
#: What a process loads at the moment: its first index and one, and the number of samples; zeros between two samples.
LOADING, NUM_LOADING = len(COUNTERS), len(COUNTERS) + 1
#: Sorted before the logs of processes.
_KNOWN = "known.jsonl"
#: How the name of a folder beside a file ends.
SUFFIX = ".journal"


#: The journals that this process made, by folder: copies of a data set keep the folder of the original.
_made_here: weakref.WeakValueDictionary[Path, Journal] = weakref.WeakValueDictionary()


class Journal:
    """The folder of one :class:`SafeDataset`, and this process's part in it. Travels to workers as a path.

    The folder is a temporary one, or, where what it holds must outlive the death of all processes, ``beside`` a file.
    """

    def __init__(self, beside: Path | None = None) -> None:
        try:
            self.folder = _make_folder(beside)
        except OSError as error:
            raise OutputError(f"no temporary folder for the loader's reports: {error}; set TMPDIR") from error
        #: The journal of this process that a copy of it must keep alive.
        self._original: Journal | None = None
        _made_here[self.folder] = self
        self._reset()
        self._removal = weakref.finalize(self, _remove, self.folder, os.getpid())

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.folder = state["folder"]
        original = _made_here.get(self.folder)
        if original is None and not self.folder.is_dir():
            # It travelled to another machine, or outlived the process that made it.
            self.__init__()  # type: ignore[misc]
            return
        self._original = original
        self._reset()

    def keep(self) -> None:
        """Leave the folder where it is when this journal goes."""
        (self._original or self)._removal.detach()

    def _reset(self) -> None:
        self._pid = 0
        self._offsets: dict[str, int] = {}
        self.thread_lock = threading.RLock()
        self._folder_fd: _Descriptor | None = None
        self._control: memoryview | None = None
        self._start_part()

    def _start_part(self) -> None:
        """Locks and descriptors of a parent are not those of a fork; the folder and the shared page are."""
        self._offsets = {}
        self.thread_lock = threading.RLock()
        self._control_fd: _Descriptor | None = None
        self._log_fd: _Descriptor | None = None

    def attach(self) -> tuple[memoryview, memoryview]:
        """Open this process's part: its counters, and what all processes share (see :attr:`epoch`).

        It is done once in each worker of each epoch, so what a fork has from its parent is not opened again, and nothing is
        opened that a process without a bad sample never needs.
        """
        with _told_as_output_error(self.folder):
            self._start_part()
            if self._folder_fd is None:
                with suppress(FileExistsError):
                    self.folder.mkdir(parents=True)
                self._folder_fd = _Descriptor(os.open(self.folder, os.O_RDONLY))
                # A folder that is locked is left alone by what clears temporary folders.
                fcntl.flock(self._folder_fd.number, fcntl.LOCK_SH)
            if self._control is None:
                self._control = _map_page(self._open_page("control"))
            self._claim_slot()
            self._pid = os.getpid()
        return self.counts, self._control

    def _open(self, name: str, flags: int) -> _Descriptor:
        """A file of the folder, which is made again where something cleared it."""
        path = self.folder / name
        try:
            return _Descriptor(os.open(path, flags | os.O_CREAT, 0o600))
        except FileNotFoundError:
            self.folder.mkdir(parents=True, exist_ok=True)
            return _Descriptor(os.open(path, flags | os.O_CREAT, 0o600))

    def _open_page(self, name: str) -> _Descriptor:
        """A file of counters."""
        descriptor = self._open(name, os.O_RDWR)
        if os.fstat(descriptor.number).st_size < _PAGE:
            os.ftruncate(descriptor.number, _PAGE)
        return descriptor

    def _claim_slot(self) -> None:
        number = 0
        while True:
            self._log_name = f"slot-{number:03d}.jsonl"
            descriptor = self._open_page(f"slot-{number:03d}.counts")
            if _lock_at_once(descriptor):
                break
            number += 1
        self._slot_fd, self.counts = descriptor, _map_page(descriptor)
        self.killed = _take_loading(self.counts)

    def find_killed(self) -> Iterator[tuple[int, int]]:
        """What processes loaded when they were killed, each told once: the first index, and the number of samples."""
        self.require_attached()
        if self.killed is not None:
            killed, self.killed = self.killed, None
            yield killed
        for name in self._names(".counts"):
            descriptor = self._open_page(name)
            found = _take_loading(_map_page(descriptor)) if _lock_at_once(descriptor) else None
            if found is not None:
                yield found

    def require_attached(self) -> None:
        """Attach this process, unless it is."""
        if self._pid != os.getpid():
            self.attach()

    @property
    def control(self) -> memoryview:
        """The page that all processes share."""
        self.require_attached()
        assert self._control is not None
        return self._control

    @property
    def epoch(self) -> int:
        """The epoch that the main process set; workers that live through epochs see it change."""
        return int(self.control[_EPOCH])

    @epoch.setter
    def epoch(self, epoch: int) -> None:
        self.control[_EPOCH] = epoch

    @property
    def version(self) -> int:
        """A number that grows with every record of any process."""
        return int(self.control[_VERSION])

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep all other processes and threads from appending."""
        self.require_attached()
        with self.thread_lock:
            if self._control_fd is None:
                self._control_fd = self._open_page("control")
            fcntl.flock(self._control_fd.number, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.flock(self._control_fd.number, fcntl.LOCK_UN)

    def append(self, record: Mapping[str, Any]) -> None:
        """Write a record to this process's log, of which it has read the rest. Call it under :meth:`locked`."""
        line = json.dumps(record, allow_nan=False).encode() + b"\n"
        with _told_as_output_error(self.folder):
            if self._log_fd is None:
                self._log_fd = self._open(self._log_name, os.O_WRONLY | os.O_APPEND)
            # The line break first: a process that was killed may have left half a line.
            written = os.write(self._log_fd.number, b"\n" + line)
        if written != len(line) + 1:
            raise OutputError(f"{plain(str(self.folder))}: the disk is full, so a bad sample cannot be reported")
        self._offsets[self._log_name] = os.lseek(self._log_fd.number, 0, os.SEEK_CUR)
        self.control[_VERSION] += 1

    def write_known(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Tell all processes of samples that were known to be bad before this run."""
        with self.locked(), _told_as_output_error(self.folder):
            lines = b"".join(json.dumps(record, allow_nan=False).encode() + b"\n" for record in records)
            with (self.folder / _KNOWN).open("ab") as file:
                file.write(lines)
            self.control[_VERSION] += 1

    def read_new(self) -> Iterator[tuple[dict[str, Any], bool]]:
        """The records that this process has not read before, and whether each is of this run."""
        self.require_attached()
        for name in self._names(".jsonl"):
            lines, self._offsets[name] = read_log(self.folder / name, self._offsets.get(name, 0))
            for record in lines:
                yield record, name != _KNOWN

    def read_all(self) -> Iterator[tuple[dict[str, Any], bool]]:
        """Every record, and whether it is of this run."""
        self.require_attached()
        for name in self._names(".jsonl"):
            for record in read_log(self.folder / name, 0)[0]:
                yield record, name != _KNOWN

    def _names(self, suffix: str) -> list[str]:
        """The files of all processes, what was known before this run first."""
        try:
            return sorted(name for name in os.listdir(self.folder) if name.endswith(suffix))  # noqa: PTH208
        except FileNotFoundError:
            return []

    def totals(self) -> dict[str, int]:
        """What all processes counted, added."""
        self.require_attached()
        sums = [0] * len(COUNTERS)
        for name in self._names(".counts"):
            with suppress(OSError):
                page = (self.folder / name).read_bytes()
                if len(page) == _PAGE:  # shorter is one that is being made
                    counts = memoryview(page).cast("Q")[: len(sums)]
                    sums = [total + value for total, value in zip(sums, counts, strict=True)]
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


def _make_folder(beside: Path | None) -> Path:
    if beside is None:
        return Path(tempfile.mkdtemp(prefix="datacheck-loader-"))
    try:
        return Path(tempfile.mkdtemp(prefix=f".{beside.name}.", suffix=SUFFIX, dir=beside.parent))
    except OSError as error:
        if beside.exists():  # a list that is only read
            return _make_folder(None)
        raise OutputError(
            f"{plain(str(beside))}: cannot be written: {error}; name a file in a folder that exists"
        ) from None


def _map_page(descriptor: _Descriptor) -> memoryview:
    """The counters of a file: all processes see a change at once, and after the death of its writer."""
    return memoryview(mmap.mmap(descriptor.number, _PAGE)).cast("Q")


def _lock_at_once(descriptor: _Descriptor) -> bool:
    """Lock a file for this process; False where a living one has it."""
    try:
        fcntl.flock(descriptor.number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _take_loading(counts: memoryview) -> tuple[int, int] | None:
    """What the last owner of a page loaded when it ended, and forget it."""
    loading = (counts[LOADING] - 1, counts[NUM_LOADING])
    counts[LOADING] = 0
    return loading if loading[0] >= 0 else None


def read_log(path: Path, offset: int) -> tuple[list[dict[str, Any]], int]:
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
