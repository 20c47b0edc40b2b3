"""The event log: how the processes of a loader share bad samples and counts.

A worker cannot call the main process and may die at any instant. So each process keeps two small files in one folder: a log
with one line per bad sample, each appended in one write, and a page of counters in shared memory. Both survive a killed
process. A new process reuses the files of one that ended, so there are never more files than processes at one time.
"""

from __future__ import annotations

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
from datacheck.storage.os_calls import lock_descriptor, lock_folder, open_descriptor, unlock_descriptor
from datacheck.text import plain

#: The counters, in their order on the page.
COUNTERS = ("seen", "replaced", "skipped", "repaired", "retried", "unstable", "passing", "raised", "tolerated")

_PAGE = 128
#: What a process is loading: its first index plus 1 (0: nothing), and the number of samples.
LOADING, NUM_LOADING = len(COUNTERS), len(COUNTERS) + 1
#: Sorts before the logs of processes.
_KNOWN = "known.jsonl"
#: The suffix of a folder beside a quarantine file.
SUFFIX = ".journal"


#: The event logs created by this process, by folder: copies of a dataset use the folder of the original.
_made_here: weakref.WeakValueDictionary[Path, EventLog] = weakref.WeakValueDictionary()


def event_logs_here() -> dict[str, EventLog]:
    """The event logs of the datasets that this process created, by folder."""
    return {str(folder): log for folder, log in sorted(_made_here.items())}


class _Shared:
    """A number on the control page: workers see it change."""

    def __init__(self, place: int) -> None:
        self._place = place

    def __get__(self, log: EventLog, _: type | None = None) -> int:
        return int(log.control[self._place])

    def __set__(self, log: EventLog, value: int) -> None:
        log.control[self._place] = value


class EventLog:
    """The folder of one :class:`SafeDataset`, and this process's files in it. Pickled as a path.

    A temporary folder, or one ``beside`` a file, which survives if all processes are killed.
    """

    #: The epoch that the main process set.
    epoch = _Shared(0)
    #: Increases with every record of any process.
    version = _Shared(1)
    #: Whether the ranks are known to compare their numbers, so that none of them need judge its own.
    is_compared = _Shared(2)

    def __init__(self, beside: Path | None = None) -> None:
        try:
            self.folder = _make_folder(beside)
        except OSError as error:
            raise OutputError(f"cannot create a temporary folder for the loader: {error}; set TMPDIR") from error
        #: The original in this process, which its copies keep alive.
        self._original: EventLog | None = None
        _made_here[self.folder] = self
        self._reset()
        self._removal = weakref.finalize(self, _remove, self.folder, os.getpid())

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.folder = state["folder"]
        original = _made_here.get(self.folder)
        if original is None and not self.folder.is_dir():
            # On another machine, or after the process that created it has ended.
            self.__init__()  # type: ignore[misc]
            return
        self._original = original
        self._reset()

    def keep(self) -> None:
        """Do not delete the folder together with this object."""
        (self._original or self)._removal.detach()

    def _reset(self) -> None:
        self._pid = 0
        self._folder_fd: _Descriptor | None = None
        self._control: memoryview | None = None
        self._start_part()

    def _start_part(self) -> None:
        """Forget locks and descriptors, which a fork must not share; the folder and the control page it can."""
        self._offsets: dict[str, int] = {}
        self.thread_lock = threading.RLock()
        self._control_fd: _Descriptor | None = None
        self._log_fd: _Descriptor | None = None

    def attach(self) -> tuple[memoryview, memoryview]:
        """Open this process's files; returns its counters and the control page, which all processes share.

        Called once per worker and epoch. A fork uses what its parent opened, and files that only bad samples need are
        opened with the first of them.
        """
        with _as_output_error(self.folder):
            self._start_part()
            if self._folder_fd is None:
                with suppress(FileExistsError):
                    self.folder.mkdir(parents=True)
                folder = lock_folder(self.folder)
                self._folder_fd = None if folder is None else _Descriptor(folder)
            if self._control is None:
                self._control = _map_page(self._open_page("control"))
            self._claim_slot()
            self._pid = os.getpid()
        return self.counts, self._control

    def _open(self, name: str, flags: int) -> _Descriptor:
        """A file of the folder, which is created again if something deleted it."""
        path = self.folder / name
        try:
            return _Descriptor(open_descriptor(path, flags | os.O_CREAT))
        except FileNotFoundError:
            self.folder.mkdir(parents=True, exist_ok=True)
            return _Descriptor(open_descriptor(path, flags | os.O_CREAT))

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
            if _try_lock(descriptor):
                break
            number += 1
        self._slot_fd, self.counts = descriptor, _map_page(descriptor)
        self.killed = _take_loading(self.counts)

    def find_killed(self) -> Iterator[tuple[int, int]]:
        """What killed processes were loading: the first index and the number of samples. Yields each once."""
        self.require_attached()
        if self.killed is not None:
            killed, self.killed = self.killed, None
            yield killed
        for name in self._names(".counts"):
            descriptor = self._open_page(name)
            found = _take_loading(_map_page(descriptor)) if _try_lock(descriptor) else None
            if found is not None:
                yield found

    def require_attached(self) -> None:
        """Attach this process if it is not attached yet."""
        if self._pid != os.getpid():
            self.attach()

    @property
    def control(self) -> memoryview:
        """The control page, which all processes share."""
        self.require_attached()
        assert self._control is not None
        return self._control

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock out all other processes and threads."""
        self.require_attached()
        with self.thread_lock:
            if self._control_fd is None:
                self._control_fd = self._open_page("control")
            lock_descriptor(self._control_fd.number, waits=True)
            try:
                yield
            finally:
                unlock_descriptor(self._control_fd.number)

    def append(self, record: Mapping[str, Any]) -> None:
        """Append a record to this process's log, which counts as read. Requires :meth:`locked`."""
        line = json.dumps(record, allow_nan=False).encode() + b"\n"
        with _as_output_error(self.folder):
            if self._log_fd is None:
                self._log_fd = self._open(self._log_name, os.O_WRONLY | os.O_APPEND)
            # Starts with a line break, since a killed process may have left half a line.
            written = os.write(self._log_fd.number, b"\n" + line)
        if written != len(line) + 1:
            raise OutputError(f"{plain(str(self.folder))}: cannot record a bad sample: the disk is full")
        self._offsets[self._log_name] = os.lseek(self._log_fd.number, 0, os.SEEK_CUR)
        self.version += 1

    def write_known(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Share samples that were known to be bad before this run."""
        with self.locked(), _as_output_error(self.folder):
            lines = b"".join(json.dumps(record, allow_nan=False).encode() + b"\n" for record in records)
            with (self.folder / _KNOWN).open("ab") as file:
                file.write(lines)
            self.version += 1

    def read(self, *, again: bool = False) -> Iterator[tuple[dict[str, Any], bool]]:
        """The records that this process has not read yet (all of them ``again``), and whether each is of this run."""
        self.require_attached()
        for name in self._names(".jsonl"):
            lines, end = read_log(self.folder / name, 0 if again else self._offsets.get(name, 0))
            if not again:
                self._offsets[name] = end
            for record in lines:
                yield record, name != _KNOWN

    def _names(self, suffix: str) -> list[str]:
        """The files of all processes, the file of earlier runs first."""
        try:
            return sorted(name for name in os.listdir(self.folder) if name.endswith(suffix))  # noqa: PTH208
        except FileNotFoundError:
            return []

    def totals(self) -> dict[str, int]:
        """The sums of all processes' counters."""
        self.require_attached()
        sums = [0] * len(COUNTERS)
        for name in self._names(".counts"):
            with suppress(OSError):
                page = (self.folder / name).read_bytes()
                if len(page) == _PAGE:  # otherwise it is just being created
                    counts = memoryview(page).cast("Q")[: len(sums)]
                    sums = [total + value for total, value in zip(sums, counts, strict=True)]
        return dict(zip(COUNTERS, sums, strict=True))


def _remove(folder: Path, owner: int) -> None:
    """Delete the folder in the process that created it."""
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)


class _Descriptor:
    """A file descriptor that is closed when this object is deleted."""

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
        if beside.exists():  # a read-only folder
            return _make_folder(None)
        raise OutputError(
            f"{plain(str(beside))}: cannot be written: {error}; choose a file in a folder that exists"
        ) from None


def _map_page(descriptor: _Descriptor) -> memoryview:
    """Map a page of counters: all processes see each change, also after its writer was killed."""
    return memoryview(mmap.mmap(descriptor.number, _PAGE)).cast("Q")


def _try_lock(descriptor: _Descriptor) -> bool:
    """Lock a file for this process; False if another living process holds the lock."""
    try:
        lock_descriptor(descriptor.number)
    except BlockingIOError:
        return False
    return True


def has_ended(folder: Path) -> bool:
    """Whether every process that used an event log has ended: each holds the lock of its counters. Raises ``OSError``."""
    slots = (open_descriptor(path, os.O_RDWR) for path in sorted(folder.glob("slot-*.counts")))
    return all(_try_lock(_Descriptor(slot)) for slot in slots)


def _take_loading(counts: memoryview) -> tuple[int, int] | None:
    """What the last owner of a page was loading when it was killed; clears it."""
    loading = (counts[LOADING] - 1, counts[NUM_LOADING])
    counts[LOADING] = 0
    return loading if loading[0] >= 0 else None


def read_log(path: Path, offset: int) -> tuple[list[dict[str, Any]], int]:
    """The records in the complete lines of a log from an offset on, and the offset after them."""
    try:
        with path.open("rb") as file:
            file.seek(offset)
            data = file.read()
    except FileNotFoundError:
        return [], offset
    end = data.rfind(b"\n") + 1
    records = []
    for line in data[:end].split(b"\n"):
        # A killed process may have left half a line.
        with suppress(ValueError):
            record = json.loads(line) if line else None
            if isinstance(record, dict):
                records.append(record)
    return records, offset + end


@contextmanager
def _as_output_error(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(f"{plain(str(folder))}: cannot record bad samples: {error}") from error
