"""Two ranks with gloo: in step, of one mind about what is bad, and stopped together."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROGRAM = Path(__file__).with_name("loader_ranks.py")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """What each rank wrote, by program: all programs in one pair of processes, which take seconds to start."""
    folder = tmp_path_factory.mktemp("ranks")
    ranks = [
        subprocess.Popen(
            [sys.executable, str(PROGRAM), str(rank), str(folder)],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        outputs = [rank.communicate(timeout=120)[0] for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    assert [rank.returncode for rank in ranks] == [0, 0], "\n".join(outputs)
    return [json.loads((folder / f"results{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.slow
def test_ranks_stay_in_step_and_learn_of_each_others_bad_samples(results: list[Any]) -> None:
    for told in (rank["train"] for rank in results):
        assert [len(epoch) for epoch in told["given"]] == [30, 30]
        assert told["bad"] == told["quarantine"] == [3, 10, 11, 40]
        assert told["compact"] == 56
        assert not {3, 10, 11, 40} & {index for epoch in told["given"] for index in epoch}


def test_the_cap_is_that_of_all_ranks_and_all_stop_together(results: list[Any]) -> None:
    for told in (rank["cap"] for rank in results):
        assert told["steps"] == 9
        assert [message for message in told["told"] if "3 samples of 100 are bad" in message]


def test_ranks_that_disagree_do_not_compact(results: list[Any]) -> None:
    for told in (rank["disagree"] for rank in results):
        (message,) = told["told"]
        assert "different bad samples (0, 1, by rank)" in message
        assert (told["length"], told["bad"]) == (19, [3])


def test_ranks_compare_their_numbers_at_the_end_of_the_first_epoch(results: list[Any]) -> None:
    for program in (rank["unsynchronized"] for rank in results):
        assert program["steps"] == 10 * program["loaders"]
        assert len(program["raised"]) == program["loaders"]
        for message in program["raised"]:
            assert "4 samples of 100 are bad, more than max_bad_fraction=0.02 allows" in message
            assert "alone" not in message


def test_ranks_stay_in_step_over_epochs_that_end_early_or_twice(results: list[Any]) -> None:
    for program in (rank["over_and_over"] for rank in results):
        assert program == {"steps": [10, 3, 10, 10], "bad": [1, 3, 5, 7]}


def test_a_rank_whose_epochs_are_not_known_stops_alone_and_names_itself(results: list[Any]) -> None:
    assert results[0]["alone"]["told"] == [10, 10]
    for message in results[1]["alone"]["told"]:
        assert "3 samples of 100 are bad, more than max_bad_fraction=0.02 allows" in message
        assert "rank 1 stops alone, by its own samples: call synchronize() on all ranks" in message


def test_a_rank_that_is_sent_its_batches_says_that_it_does_not_know_their_samples(results: list[Any]) -> None:
    first, second = (rank["dispatched"] for rank in results)
    assert first["origins"][1] == list(range(10, 15))
    assert second["origins"] == [None, None]
    assert "note: " not in first["report"]
    assert (
        "note: rank 1 collated no batch itself. If rank 0 sends it batches (Accelerate's dispatch_batches"
        in second["report"]
    )
