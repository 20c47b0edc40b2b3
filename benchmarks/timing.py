"""Contenders take turns, so that whatever else the machine does falls on all of them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Contender", "Timing", "processor_time", "race"]

MIN_ROUNDS, MAX_ROUNDS = 5, 15
#: A race goes on beyond the least number of rounds until it has taken so many seconds: short runs need more rounds.
MIN_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Contender:
    """One way to do the work. ``run`` gives its answer, which must be ``expected`` unless that is None.

    ``prepare`` runs before each round and is not timed.
    """

    name: str
    run: Callable[[], object]
    expected: object = None
    prepare: Callable[[], object] | None = None


@dataclass(frozen=True, slots=True)
class Timing:
    """The seconds that each round of a contender took, and how many bytes or rows one round looks at."""

    name: str
    seconds: tuple[float, ...]
    num_bytes: int | None = None
    num_rows: int | None = None

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def best(self) -> float:
        return min(self.seconds)


def processor_time() -> float:
    """The seconds of processor time of this process and, on Linux, of its children, in which some formats are read."""
    seconds = time.process_time()
    for listed in Path("/proc/self/task").glob("*/children"):
        for child in _text(listed).split():
            tasks = Path("/proc", child, "task").glob("*/schedstat")
            seconds += sum(int((_text(task) or "0").split()[0]) for task in tasks) / 1e9
    return seconds


def _text(path: Path) -> str:
    """What the system says of a thread; empty where it has just ended."""
    try:
        return path.read_text()
    except OSError:
        return ""


def race(
    contenders: Sequence[Contender],
    *,
    num_bytes: int | None = None,
    num_rows: int | None = None,
    clock: Callable[[], float] = time.perf_counter,
    min_rounds: int | None = None,
    min_seconds: float | None = None,
) -> dict[str, Timing]:
    """Time the contenders in turns, A B C A B C, after one round that warms up and checks their answers.

    ``time.process_time`` as the clock is the processor time of all threads, which other programs hardly change.
    Raises ``AssertionError`` where an answer is wrong: a fast wrong answer is no result.
    """
    for contender in contenders:
        _run(contender, clock)
    seconds: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    started = time.perf_counter()
    for done in range(MAX_ROUNDS):
        if done >= (min_rounds or MIN_ROUNDS) and time.perf_counter() - started >= (
            MIN_SECONDS if min_seconds is None else min_seconds
        ):
            break
        for contender in contenders:
            seconds[contender.name].append(_run(contender, clock))
    return {name: Timing(name, tuple(taken), num_bytes, num_rows) for name, taken in seconds.items()}


def _run(contender: Contender, clock: Callable[[], float]) -> float:
    if contender.prepare is not None:
        contender.prepare()
    begin = clock()
    answer = contender.run()
    taken = clock() - begin
    if contender.expected is not None and answer != contender.expected:
        raise AssertionError(f"{contender.name}: the answer is {answer!r}, and {contender.expected!r} is right")
    return taken
