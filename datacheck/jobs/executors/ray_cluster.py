"""Units as tasks of Ray, the same function over the same units: ``--executor ray``.

Ray starts a unit where there is room, and says when it has ended; everything else is ours. A window of units is in flight, so
that no queue grows with the data. Results are small bytes, which Ray carries in its messages; a larger one goes through the
folder of the output. A worker or a node that is lost costs what it was doing: the unit is tried again, and a unit whose
workers die each time is a finding. Nothing is kept in Ray, so that a run whose driver was killed goes on from its own
files.
"""

from __future__ import annotations

import os
import secrets
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from datacheck.errors import UsageError, WorkerLostError
from datacheck.jobs.executors.local import UnitExecutor
from datacheck.jobs.progress import Progress
from datacheck.jobs.sharding.result_codec import References, decode, encode
from datacheck.jobs.stage import Stage, name_of_item
from datacheck.publishing.sealed_json import DamagedError
from datacheck.storage import open_file, storage_of
from datacheck.text import plain, quantity

T = TypeVar("T")
R = TypeVar("R")

#: How often a unit may end its worker.
ATTEMPTS = 3
#: How often a unit may be on a node that is lost: that says little about the unit.
_MAX_LOST_NODES = 20
#: Seconds without a node after which a job gives up.
PATIENCE = 60.0
#: Tasks in flight for each processor of the cluster, and finished units that may wait for an earlier one.
_IN_FLIGHT, _MAX_AHEAD = 3, 4096
#: Units in a task, at most: many small ones cost no more than a few, and each place in flight gets at least this many tasks.
_MAX_TOGETHER, _MIN_TASKS = 32, 8
#: Larger results, in bytes, go through a folder: Ray would put them into its object store.
_MAX_INLINE = 64 << 10
#: Seconds between checks of finished tasks, and the age up to which a list of nodes is used.
_POLL_SECONDS = 1.0
#: Seconds until a cluster has noticed that it lost a node, and not only a worker.
_NOTICE_SECONDS = 15.0
#: Seconds without an answer from the head of a cluster. After 60 Ray ends the process, without a word of ours.
_HEAD_SECONDS = 40.0
_REPORT_SECONDS = 10.0


class RayExecutor(UnitExecutor):
    """Runs units on a Ray cluster. Every node must see the files under the same names, and have datacheck installed.

    Args:
        address: of the cluster, ``"auto"`` for the one that this machine belongs to. None: the one that this process is
            connected to, that of the variable ``RAY_ADDRESS``, or a new one on this machine.
        attempts: how often a unit may end its worker before it is a finding.
        patience: seconds without any node after which ``WorkerLostError`` is raised.
        exchange: a folder for large results, which all nodes see. ``run`` and ``clean`` have one in their output.
        reports_nodes: whether to print to stderr, now and then, how many units each node has done.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        attempts: int = ATTEMPTS,
        patience: float = PATIENCE,
        exchange: str | None = None,
        reports_nodes: bool = False,
    ) -> None:
        if attempts < 1:
            raise UsageError(f"attempts: expected 1 or more, got {attempts}")
        self._address, self._attempts, self._patience = address, attempts, patience
        self._exchange, self._folder = exchange, exchange
        self._reports_nodes = reports_nodes
        #: How many units each node has done, by its address.
        self.units_by_node: Counter[str] = Counter()

    @property
    def exchange(self) -> str | None:
        return self._folder

    @contextmanager
    def job(self, command: str, settings: Any, folder: str | None = None) -> Iterator[None]:  # noqa: ARG002
        self._folder = self._exchange or folder
        try:
            yield
        finally:
            if self._folder is not None and self._exchange is None:
                with suppress(OSError):
                    storage_of(self._folder).delete_empty_folder(self._folder)
            self._folder = self._exchange

    def map(
        self,
        function: Callable[[T], R],
        items: Iterable[T],
        *,
        workers: int | None,
        lost: Callable[[T], R] | None,
        stage: Stage,
        progress: Progress,  # noqa: ARG002 - the job advances it
    ) -> Generator[R, None, None]:
        ray = _connected(self._address)
        in_flight = _Flight(self, ray, function, stage, lost, workers)
        try:
            yield from in_flight.run(list(items))
        except (ray.exceptions.RaySystemError, ConnectionError) as error:
            raise WorkerLostError(
                f"the Ray cluster is gone ({plain(str(error), 200)}); start it and run again: what is done is kept"
            ) from None
        finally:
            in_flight.cancel()


def _connected(address: str | None) -> Any:
    """Ray, connected to a cluster."""
    try:
        import ray  # type: ignore[import-not-found]
    except ImportError:
        raise UsageError("Ray is not installed; install 'datacheck-ml[ray]'") from None
    if not ray.is_initialized():
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        # Without an address Ray would join any cluster that happens to run on this machine.
        address = address or os.environ.get("RAY_ADDRESS")
        options: dict[str, Any] = {"address": address} if address else {"address": "local", "include_dashboard": False}
        try:
            ray.init(log_to_driver=False, configure_logging=False, **options)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise UsageError(
                f"no Ray cluster at {plain(address or 'this machine')}: {plain(str(error), 300)}"
            ) from None
    return ray


@dataclass(slots=True)
class _Unit:
    """A unit in flight, and how often it has ended its worker or lost its node."""

    index: int
    item: Any
    num_attempts: int = 0
    num_lost_nodes: int = 0
    nodes: frozenset[str] = frozenset()
    ended: float = 0.0


@dataclass(slots=True)
class _Flight:
    """The units of one pass that are on their way; ``is_gone`` says that nothing can be asked of the cluster any more."""

    executor: RayExecutor
    ray: Any
    function: Callable[[Any], Any]
    stage: Stage
    lost: Callable[[Any], Any] | None
    workers: int | None
    _task: Any = None
    _function: Any = None
    _flying: dict[Any, Sequence[_Unit]] = field(default_factory=dict)
    _landed: dict[int, Any] = field(default_factory=dict)
    #: Units that have ended their last worker, unless a node turns out to be lost.
    _suspects: list[_Unit] = field(default_factory=list)
    _reported: float = field(default_factory=time.monotonic)
    #: The processors of each node that is alive, and until when that is not asked again.
    _known_nodes: Mapping[str, float] = field(default_factory=dict)
    _known_until: float = 0.0
    is_gone: bool = False
    #: The question to the head of the cluster, when it was asked, and its answer.
    _question: threading.Thread | None = None
    _asked: float = 0.0
    _answer: list[Any] = field(default_factory=list)

    def run(self, items: Sequence[Any]) -> Iterator[Any]:
        """The results, in order."""
        self._nodes()
        self._task = self.ray.remote(max_retries=0)(_run_units)
        # Once: the plan, and what else is the same for all units.
        self._function = self.ray.put((self.function, tuple(self.stage.references)))
        num_started = next_index = 0
        while next_index < len(items):
            window = self._window()
            together = max(1, min(_MAX_TOGETHER, len(items) // (_MIN_TASKS * window)))
            while num_started < len(items) and len(self._flying) < window and len(self._landed) < _MAX_AHEAD:
                some = range(num_started, min(num_started + together, len(items)))
                self._start([_Unit(index, items[index]) for index in some])
                num_started = some.stop
            if next_index not in self._landed:
                self._land()
            while next_index in self._landed:
                yield self._landed.pop(next_index)
                next_index += 1

    def cancel(self) -> None:
        """Stop what is on its way."""
        for reference in () if self.is_gone else self._flying:
            with suppress(Exception):  # there is nothing left to report it to
                self.ray.cancel(reference, force=True)
        self._flying.clear()

    def _window(self) -> int:
        """How many tasks may be in flight: by the processors of the cluster, which may change."""
        if self.workers is not None:
            return self.workers
        return max(2, _IN_FLIGHT * int(sum(self._nodes().values())))

    def _nodes(self) -> Mapping[str, float]:
        """The processors of each node that is alive. A cluster of many nodes is not asked for each unit."""
        if time.monotonic() > self._known_until and (answer := self._ask_head()) is not None:
            nodes = [node for node in answer if node["Alive"]]
            self._known_nodes = {node["NodeID"]: float(node["Resources"].get("CPU", 0)) for node in nodes}
            self._known_until = time.monotonic() + _POLL_SECONDS
        return self._known_nodes

    def _ask(self) -> None:
        with suppress(Exception):  # no answer is one, too
            self._answer.append(self.ray.nodes())

    def _ask_head(self) -> list[Any] | None:
        """The nodes; None while the head of the cluster does not answer: a call to it would not return."""
        if self._question is None:
            self._question = threading.Thread(target=self._ask, daemon=True)
            self._asked = time.monotonic()
            self._question.start()
        # The first answer is needed.
        limit = min(self.executor._patience, _HEAD_SECONDS)
        self._question.join(_POLL_SECONDS if self._known_nodes else limit)
        if not self._question.is_alive():
            self._question = None
            if not self._answer:
                raise WorkerLostError("the Ray cluster is gone; start it and run again: what is done is kept")
            return list(self._answer.pop())
        if time.monotonic() - self._asked >= limit:
            self.is_gone = True
            raise WorkerLostError(
                f"the head of the Ray cluster has not answered for {limit:.0f} s; start it and run again: what is done is"
                " kept"
            )
        return None

    def _start(self, units: Sequence[_Unit]) -> None:
        nodes = frozenset(self._nodes())
        for unit in units:
            unit.nodes = nodes
        items = [unit.item for unit in units]
        self._flying[self._task.remote(self._function, items, self.executor._folder, str(Path.cwd()))] = units

    def _land(self) -> None:
        """Wait for a task to end."""
        without_nodes: float | None = None
        while True:
            ended = self._wait()
            self._report()
            if self._judge_suspects() or ended:
                break
            if any(self._nodes().values()):
                without_nodes = None
                continue
            without_nodes = without_nodes or time.monotonic()
            if time.monotonic() - without_nodes > self.executor._patience:
                raise WorkerLostError(
                    f"the Ray cluster has had no node for {self.executor._patience:.0f} s; add nodes and run again:"
                    " what is done is kept"
                )
        for reference in ended:
            self._take(self._flying.pop(reference), reference)

    def _wait(self) -> list[Any]:
        if not self._flying:
            time.sleep(_POLL_SECONDS)
            return []
        ended, _ = self.ray.wait(list(self._flying), num_returns=1, timeout=_POLL_SECONDS)
        return list(ended)

    def _judge_suspects(self) -> bool:
        """Start units again that were on a node that is lost, and give up others after a while; whether any was."""
        if not self._suspects:
            return False
        alive, now, left = self._nodes().keys(), time.monotonic(), []
        for unit in self._suspects:
            if unit.nodes - alive and unit.num_lost_nodes < _MAX_LOST_NODES:
                unit.num_lost_nodes += 1
                unit.num_attempts -= 1
                self._start([unit])
            elif now - unit.ended > _NOTICE_SECONDS:
                self._landed[unit.index] = self._lost_result(unit)
            else:
                left.append(unit)
        is_any = len(left) < len(self._suspects)
        self._suspects = left
        return is_any

    def _take(self, units: Sequence[_Unit], reference: Any) -> None:
        """Take the results of a task that has ended, or start its units again, each alone."""
        errors = self.ray.exceptions
        try:
            content, node = self.ray.get(reference)
        except errors.RayTaskError as error:
            cause = error.cause
            raise cause if isinstance(cause, Exception) else error from None
        except (errors.WorkerCrashedError, errors.OutOfMemoryError, errors.NodeDiedError, errors.ObjectLostError):
            for unit in units:
                # Of several units any may be the cause.
                unit.num_attempts += len(units) == 1
                unit.ended = time.monotonic()
                if unit.num_attempts < self.executor._attempts:
                    self._start([unit])
                else:
                    self._suspects.append(unit)
            return
        self.executor.units_by_node[node] += len(units)
        if isinstance(content, str):
            uri = content
            with open_file(uri) as file:
                content = file.read()
            storage_of(uri).delete(uri)
        try:
            results = decode(content, References.of(self.stage))
        except DamagedError as error:
            raise WorkerLostError(f"a result is damaged ({error}); run again: what is done is kept") from None
        self._landed.update(zip([unit.index for unit in units], results, strict=True))

    def _lost_result(self, unit: _Unit) -> Any:
        if self.lost is None:
            raise WorkerLostError(
                f"a worker ended {self.executor._attempts} times at {plain(name_of_item(unit.item))}; give workers more"
                " memory"
            )
        return self.lost(unit.item)

    def _report(self) -> None:
        """Print, now and then, what each node has done."""
        by_node = self.executor.units_by_node
        if not self.executor._reports_nodes or time.monotonic() - self._reported < _REPORT_SECONDS or not by_node:
            return
        self._reported = time.monotonic()
        nodes = ", ".join(f"{plain(node)} {number:,}" for node, number in sorted(by_node.items()))
        sys.stderr.write(f"datacheck: {self.stage.name}: {quantity(by_node.total(), 'unit')} done: {nodes}\n")


def _run_units(
    work: tuple[Callable[[Any], Any], tuple[Any, ...]], items: Sequence[Any], folder: str | None, directory: str
) -> tuple[bytes | str, str]:
    """Run units in a worker: their results as bytes, or the file that holds them, and the node."""
    import ray

    with suppress(OSError):
        # Relative paths start in the driver's folder.
        os.chdir(directory)
    function, objects = work
    content = encode([function(item) for item in items], References(objects))
    node = ray.util.get_node_ip_address() + "/" + ray.get_runtime_context().get_node_id()[:6]
    if folder is None or len(content) <= _MAX_INLINE:
        return content, node
    storage = storage_of(folder)
    storage.make_folder(folder)
    uri = f"{folder}/{secrets.token_hex(16)}"
    storage.put(uri, content)
    return uri, node
