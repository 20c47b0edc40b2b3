"""Two gloo ranks that a trainer made itself decide together."""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

TRAINERS = [name for name in ("accelerate", "lightning", "transformers") if importlib.util.find_spec(name)]


@pytest.fixture(scope="module", params=TRAINERS)
def results(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp(request.param)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        **os.environ,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "GLOO_SOCKET_IFNAME": "lo",
        "ACCELERATE_USE_CPU": "true",
    }
    script = Path(__file__).with_name("trainer_ranks.py")
    ranks = [
        subprocess.Popen(
            [sys.executable, str(script), request.param, str(rank), str(folder)],
            env=environment,
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        errors = [rank.communicate(timeout=150)[1] for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
            rank.wait()
    assert [rank.returncode for rank in ranks] == [0, 0], "\n".join(error[-3000:] for error in errors)
    return [json.loads((folder / f"{rank}.json").read_text(encoding="utf-8")) for rank in range(2)]


def without_buffers(result: dict[str, Any]) -> list[Any]:
    """BatchNorm's statistics are those of each rank's own batches, until DDP sends rank 0's."""
    weights = result["weights"]
    return weights[:3] + weights[6:]


def test_weights_are_bit_for_bit_those_without_a_guard(results: list[dict[str, Any]]) -> None:
    for rank in results:
        assert rank["guarded"]["weights"] == rank["plain"]["weights"]
        assert rank["guarded"]["findings"] == []


def test_both_ranks_skip_the_step_that_is_bad_on_one(results: list[dict[str, Any]]) -> None:
    first, second = (rank["skip"] for rank in results)
    assert without_buffers(first) == without_buffers(second)
    assert str(first["weights"]).count("NaN") == 0
    for rank in (first, second):
        assert [finding["rule"] for finding in rank["findings"] if finding["code"] == "DC460"] == ["skip"]
    assert second["diagnoses"][0]["cause"] == "log-of-zero-or-negative"
    assert second["diagnoses"][0]["samples"] == [1]
    assert first["diagnoses"][0]["explanation"].startswith("on rank 1: ")
