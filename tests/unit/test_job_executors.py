"""Results in the order of the items, whoever does the work, and nothing at work afterwards."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from datacheck.errors import UsageError
from datacheck.jobs.executors.local import ExecutorLike, default_workers, map_in_order


def square(number: int) -> int:
    return number * number


def fail_at_three(number: int) -> int:
    if number == 3:
        raise ValueError("three")
    return number


@pytest.mark.parametrize("workers", [1, 2, 5, None])
@pytest.mark.parametrize("executor", ["threads", ThreadPoolExecutor(2)])
def test_results_come_in_the_order_of_the_items(workers: int | None, executor: ExecutorLike) -> None:
    def slower_first(number: int) -> int:
        time.sleep(0.02 if number % 3 == 0 else 0)
        return number

    assert list(map_in_order(slower_first, range(20), workers, executor)) == list(range(20))


def test_processes_give_the_same_results() -> None:
    assert list(map_in_order(square, range(5), 2, "processes")) == [0, 1, 4, 9, 16]


@pytest.mark.parametrize("workers", [1, 3])
def test_items_are_taken_only_as_they_are_needed(workers: int) -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(100):
            taken.append(number)
            yield number

    with closing(map_in_order(square, items(), workers)) as results:
        assert next(results) == 0
        assert len(taken) <= 2 * workers + 1


@pytest.mark.parametrize("workers", [1, 3])
def test_an_exception_is_raised_in_its_turn(workers: int) -> None:
    results = map_in_order(fail_at_three, range(10), workers)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="three"):
        next(results)


@pytest.mark.parametrize("ours", [False, True])
def test_nothing_is_at_work_once_the_results_are_closed(ours: bool) -> None:
    at_work = 0
    lock = threading.Lock()

    def work(number: int) -> int:
        nonlocal at_work
        with lock:
            at_work += 1
        time.sleep(0.05)
        with lock:
            at_work -= 1
        return number

    with ThreadPoolExecutor(3) as pool:
        results = map_in_order(work, range(50), 3, pool if ours else "threads")
        next(results)
        results.close()
        assert at_work == 0


def test_an_invalid_executor_is_reported() -> None:
    with pytest.raises(UsageError, match="workers: expected 1 or more, got 0"):
        list(map_in_order(square, [1], 0))
    with pytest.raises(UsageError, match=r"expected 'threads', 'processes' or a concurrent\.futures\.Executor"):
        list(map_in_order(square, [1], 2, "dask"))


def test_there_is_at_least_one_worker() -> None:
    assert 1 <= default_workers() <= 16
