"""Two ranks on gloo act together on what one of them finds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

pytestmark = [pytest.mark.torch, pytest.mark.slow]

Results = list[dict[str, dict[str, Any]]]

KINDS = pytest.mark.parametrize("kind", ["ddp", "fsdp"])


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """The results of each rank."""
    folder = tmp_path_factory.mktemp("ranks")
    script = Path(__file__).with_name("two_ranks.py")
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    outputs = [folder / f"{rank}.json" for rank in range(2)]
    ranks = [
        subprocess.Popen(
            [sys.executable, str(script), str(rank), str(folder / "store"), str(outputs[rank])],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        errors = [rank.communicate(timeout=300)[1] for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
            rank.wait()
    assert [rank.returncode for rank in ranks] == [0, 0], "\n".join(errors)
    return [json.loads(output.read_text(encoding="utf-8")) for output in outputs]


def codes(result: dict[str, Any]) -> list[str]:
    return [finding["code"] for finding in result["findings"]]


@KINDS
@pytest.mark.parametrize("name", ["step", "layers", "loop"])
def test_weights_are_bit_for_bit_those_without_a_guard(results: Results, kind: str, name: str) -> None:
    for rank in results:
        assert rank[f"{kind}: {name}"]["weights"] == rank[f"{kind}: plain"]["weights"]
        assert rank[f"{kind}: {name}"]["findings"] == []


@KINDS
def test_the_gradient_norm_is_the_global_one(results: Results, kind: str) -> None:
    for rank in results:
        assert rank[f"{kind}: step"]["norm"] == pytest.approx(rank[f"{kind}: norm"]["norm"], rel=1e-5)


@KINDS
@pytest.mark.parametrize("name", ["raise", "raise in a loop"])
def test_both_ranks_stop_at_a_step_that_is_bad_on_one(results: Results, kind: str, name: str) -> None:
    first, second = (rank[f"{kind}: {name}"] for rank in results)
    assert first["step"] == second["step"] == 3
    assert second["raised"]["cause"] == "input-not-finite"
    assert first["raised"]["cause"] == "input-not-finite"
    assert first["raised"]["explanation"] == f"on rank 1: {second['raised']['explanation']}"
    assert first["weights"] == second["weights"]


@KINDS
@pytest.mark.parametrize("name", ["raise with a collective", "raise with a collective in a loop"])
def test_a_replay_does_not_wait_for_ranks_that_do_not_replay(results: Results, kind: str, name: str) -> None:
    for rank in results:
        assert rank[f"{kind}: {name}"]["step"] == 3
        assert rank[f"{kind}: {name}"]["raised"] is not None
    on_bad_rank = results[1][f"{kind}: {name}"]
    told = [on_bad_rank["raised"]["explanation"], *(finding["detail"] for finding in on_bad_rank["findings"])]
    assert any("the collective allreduce" in text for text in told)


@KINDS
def test_a_bad_gradient_is_traced_on_its_rank(results: Results, kind: str) -> None:
    for rank in results:
        assert rank[f"{kind}: raise in backward"]["raised"]["cause"] == "sqrt-gradient-at-zero"
        assert codes(rank[f"{kind}: raise in backward"])[0] == "DC451"


@KINDS
@pytest.mark.parametrize("name", ["skip", "skip in a loop", "skip in a loop under a scaler", "function"])
def test_both_ranks_skip_together(results: Results, kind: str, name: str) -> None:
    for rank in results:
        assert rank[f"{kind}: {name}"]["weights"] == rank[f"{kind}: plain without the bad step"]["weights"]
        trip = rank[f"{kind}: {name}"]["findings"][0]
        assert trip["code"] in ("DC450", "DC451")
        assert "8 parameters" not in trip["detail"], "there are 4, however many ranks have them"


@KINDS
def test_ranks_agree_on_numbers_that_are_read_later(results: Results, kind: str) -> None:
    for rank in results:
        assert rank[f"{kind}: deferred"]["weights"] == rank[f"{kind}: fused"]["weights"]
        assert rank[f"{kind}: deferred skip"]["weights"] == rank[f"{kind}: fused without the bad step"]["weights"]
        on_loss = rank[f"{kind}: deferred loss"]
        assert (on_loss["raised"]["step"], on_loss["step"]) == (4, 4 if kind == "ddp" else 3)
    assert results[0][f"{kind}: deferred loss"]["weights"] == results[1][f"{kind}: deferred loss"]["weights"]


@KINDS
def test_rolling_back_keeps_the_ranks_together(results: Results, kind: str) -> None:
    for rank in results:
        assert rank[f"{kind}: rollback"]["weights"] == rank[f"{kind}: plain without the bad step"]["weights"]


@KINDS
def test_clipping_keeps_the_ranks_together(results: Results, kind: str) -> None:
    first, second = (rank[f"{kind}: clip"] for rank in results)
    assert first["raised"] is None
    assert first["weights"] == second["weights"]
    assert all(value == value for tensor in first["weights"] for value in tensor)
