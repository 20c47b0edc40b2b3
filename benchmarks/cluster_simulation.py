"""10,000 units on 1,000 shards that are slow, killed and started again: the real scheduler, in a time that is not real.

Every shard is a thread that runs the code of ``--shard``; only one runs at a time, a unit is a sleep, and a clock goes to the
next moment at which somebody wakes. What is asked: how much is done twice, and how long everybody waits for the last.
"""

from __future__ import annotations

import argparse
import heapq
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import numpy as np

from datacheck.errors import ShardFinished
from datacheck.jobs.execution import Execution
from datacheck.jobs.sharding import shards, shared_work
from datacheck.jobs.sharding.result_codec import References
from datacheck.jobs.sharding.result_store import ShardState, chunks_of
from datacheck.jobs.stage import Stage

__all__ = ["Outcome", "Setting", "main", "simulate"]


@dataclass(frozen=True, slots=True)
class Setting:
    """A cluster and its work, in seconds.

    ``slow_share`` of the shards are ``slow_factor`` times slower; a shard is killed every ``mtbf`` seconds on average, and
    starts again ``restart`` seconds later.
    """

    num_units: int = 10_000
    num_shards: int = 1_000
    unit_seconds: float = 10.0
    spread: float = 0.5
    slow_share: float = 0.02
    slow_factor: float = 4.0
    mtbf: float = 3600.0
    restart: float = 60.0
    start_spread: float = 30.0
    seed: int = 0


@dataclass(slots=True)
class Outcome:
    """What happened: units run and needed, the seconds of work that were lost, and when units were first done."""

    num_needed: int = 0
    num_run: int = 0
    busy: float = 0.0
    useful: float = 0.0
    num_killed: int = 0
    done_at: list[float] = field(default_factory=list)
    end: float = 0.0

    @property
    def repeated(self) -> float:
        """The share of the work that was done for nothing: repeated, or lost in a kill."""
        return self.busy / self.useful - 1

    @property
    def tail(self) -> float:
        """Seconds from 95 % of the last pass to its end."""
        last = sorted(self.done_at)[-(self.num_needed // 2) :]
        return last[-1] - last[int(0.95 * len(last))]


class _Killed(BaseException):
    """The scheduler of the cluster takes a machine away."""


class _World:
    """A clock that only moves when every thread sleeps."""

    def __init__(self) -> None:
        self.now = 0.0
        self._sleeping: list[tuple[float, int, threading.Event]] = []
        self._number = 0
        self._local = threading.local()
        self._all_done = threading.Event()

    def start(self, works: Sequence[Callable[[], None]]) -> None:
        """Run all of them, one at a time, until all have ended."""
        for work in works:
            self._push(0.0, event := threading.Event())
            threading.Thread(target=self._run, args=(work, event), daemon=True).start()
        self._wake_next()
        self._all_done.wait()

    def _run(self, work: Callable[[], None], event: threading.Event) -> None:
        event.wait()
        try:
            work()
        finally:
            self._wake_next()

    def live_until(self, moment: float) -> None:
        """When the calling thread is killed."""
        self._local.end = moment

    def sleep(self, seconds: float) -> None:
        end = getattr(self._local, "end", float("inf"))
        self._push(min(self.now + seconds, end), event := threading.Event())
        self._wake_next()
        event.wait()
        if self.now >= end:
            raise _Killed

    def monotonic(self) -> float:
        return self.now

    def _push(self, moment: float, event: threading.Event) -> None:
        self._number += 1
        heapq.heappush(self._sleeping, (moment, self._number, event))

    def _wake_next(self) -> None:
        if not self._sleeping:
            self._all_done.set()
            return
        self.now, _, event = heapq.heappop(self._sleeping)
        event.set()


class _MemoryStore:
    """The folder of results, as all shards see it at once."""

    passes: dict[str, dict[int, list[Any]]]
    claims: dict[str, dict[int, tuple[int, int]]]
    states: dict[tuple[int, int], ShardState]
    num_listed = 0

    def __init__(self, folder: str, job: str) -> None:
        self.folder, self.job = folder, job

    def write(self, stage: str, chunk: int, results: Sequence[Any], references: References) -> None:  # noqa: ARG002
        self.passes.setdefault(stage, {})[chunk] = list(results)

    def read(self, stage: str, chunk: int, references: Any) -> list[Any]:  # noqa: ARG002
        return self.passes[stage][chunk]

    def finished(self, stage: str) -> set[int]:
        return self.progress(stage)[0]

    def progress(self, stage: str) -> tuple[set[int], set[int]]:
        type(self).num_listed += 1
        return set(self.passes.get(stage, ())), set(self.claims.get(stage, ()))

    def claim(self, stage: str, chunk: int, shard: tuple[int, int]) -> tuple[int, int] | None:
        owner = self.claims.setdefault(stage, {}).setdefault(chunk, shard)
        return None if owner is shard else owner

    def owner(self, stage: str, chunk: int) -> tuple[int, int]:
        return self.claims[stage][chunk]

    def has(self, stage: str, chunk: int) -> bool:
        return chunk in self.passes.get(stage, ())

    def announce(self, state: ShardState) -> None:
        self.states[state.index, state.count] = state

    def shards(self) -> list[ShardState]:
        return list(self.states.values())


@contextmanager
def _in(world: _World) -> Iterator[None]:
    _MemoryStore.passes, _MemoryStore.claims, _MemoryStore.states, _MemoryStore.num_listed = {}, {}, {}, 0
    with (
        mock.patch.object(shards, "time", world),
        mock.patch.object(shared_work, "ResultStore", _MemoryStore),
    ):
        yield


def simulate(setting: Setting) -> Outcome:
    """A pass whose results every shard needs, and one after it: each with all units."""
    rng = np.random.default_rng(setting.seed)
    durations = setting.unit_seconds * rng.lognormal(0, setting.spread, setting.num_units)
    slowness = np.where(rng.random(setting.num_shards) < setting.slow_share, setting.slow_factor, 1.0)
    starts = rng.random(setting.num_shards) * setting.start_spread
    world, outcome, seen = _World(), Outcome(2 * setting.num_units), set[tuple[str, int]]()

    def work_of(index: int) -> None:
        lives = np.random.default_rng([setting.seed, index])
        world.sleep(float(starts[index]))

        def unit(stage: str, number: int) -> int:
            begun = world.now
            try:
                world.sleep(float(durations[number] * slowness[index]))
            finally:
                outcome.busy += world.now - begun
            outcome.num_run += 1
            if (stage, number) not in seen:
                seen.add((stage, number))
                outcome.useful += world.now - begun
                outcome.done_at.append(world.now)
            return number

        while True:
            world.live_until(world.now + float(lives.exponential(setting.mtbf)))
            try:
                _run_shard(shards.Shard(index + 1, setting.num_shards, "results"), unit, setting.num_units)
                return
            except _Killed:
                outcome.num_killed += 1
                world.live_until(float("inf"))
                world.sleep(setting.restart)

    with _in(world):
        world.start([lambda index=index: work_of(index) for index in range(setting.num_shards)])  # type: ignore[misc]
        outcome.end = world.now
        assert len(seen) == outcome.num_needed
        of_units = [found for name, found in _MemoryStore.passes.items() if not name.startswith("merge")]
        assert all(len(found) == len(chunks_of(setting.num_units)) for found in of_units)
    return outcome


def _run_shard(shard: shards.Shard, unit: Callable[[str, int], int], num_units: int) -> None:
    execution = Execution(1, shard)
    try:
        with execution.job("run", None):
            learned = execution.map(lambda number: unit("learn", number), range(num_units), stage=Stage("learn"))
            assert list(learned) == list(range(num_units))
            last = Stage("clean", is_last=True)
            list(execution.map(lambda number: unit("clean", number), range(num_units), stage=last))
    except ShardFinished:
        return


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table of settings and outcomes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--units", type=int, default=10_000)
    parser.add_argument("--shards", type=int, default=1_000)
    asked = parser.parse_args(arguments)
    threading.stack_size(512 << 10)
    print(
        f"{asked.units:,} units of 10 s (log-normal, sigma 0.5) in two passes on {asked.shards:,} shards; times in seconds"
    )
    print("cluster                                        killed  done twice   end   ideal  ratio  tail  listings")
    base = Setting(asked.units, asked.shards)
    settings = {
        "all alike, nobody killed": {"slow_share": 0.0, "mtbf": 1e12},
        "2 % of the shards 4 times slower": {"mtbf": 1e12},
        "and each killed once an hour, away for 60 s": {},
        "and each killed every 10 minutes": {"mtbf": 600.0},
    }
    for name, changes in settings.items():
        setting = Setting(**{one: getattr(base, one) for one in base.__slots__} | changes)
        begun = time.perf_counter()
        found = simulate(setting)
        ideal = 2 * setting.num_units * setting.unit_seconds * float(np.exp(setting.spread**2 / 2)) / setting.num_shards
        print(
            f"{name:46} {found.num_killed:6,}  {found.repeated:10.1%}  {found.end:5.0f}  {ideal:5.0f}"
            f"  {found.end / ideal:5.2f}  {found.tail:4.0f}  {_MemoryStore.num_listed:8,}"
            f"   ({time.perf_counter() - begun:.0f} s to simulate)"
        )


if __name__ == "__main__":
    main()
