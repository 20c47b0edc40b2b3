"""The guard in the function that the workers of Ray Train run: the ranks skip the same step."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

ray = pytest.importorskip("ray")
pytest.importorskip("ray.train.torch")

from ray.train import RunConfig, ScalingConfig  # noqa: E402
from ray.train.torch import TorchTrainer  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")


def make_train_function() -> Any:
    """A function of a function, which Ray sends whole: its workers cannot import this file."""

    def train_function(config: dict[str, Any]) -> None:
        import torch
        from torch import nn

        from datacheck.torch import Guard

        torch.manual_seed(0)
        rank = ray.train.get_context().get_world_rank()
        model = ray.train.torch.prepare_model(nn.Linear(4, 1))
        optimizer = torch.optim.AdamW(model.parameters(), 0.01)
        with Guard(model, optimizer, on_trip="skip") as guard:
            for step in range(4):
                batch = torch.ones(3, 4)
                if step == 2 and rank == 1:
                    batch[0, 0] = float("nan")
                optimizer.zero_grad()
                model(batch).square().mean().backward()
                optimizer.step()
        found = guard.last_diagnosis
        record = {
            "line": None if found is None else found.source,
            "codes": [finding.code for finding in guard.report().findings],
            "weights": [parameter.tolist() for parameter in model.parameters()],
        }
        Path(config["folder"], f"{rank}.json").write_text(json.dumps(record), encoding="utf-8")

    return train_function


def test_both_workers_skip_the_step_that_is_bad_on_one(tmp_path: Path) -> None:
    ray.init("local", num_cpus=2, include_dashboard=False, _node_ip_address="127.0.0.1", log_to_driver=False)
    try:
        TorchTrainer(
            make_train_function(),
            train_loop_config={"folder": str(tmp_path)},
            scaling_config=ScalingConfig(num_workers=2, use_gpu=False),
            run_config=RunConfig(storage_path=str(tmp_path / "runs")),
        ).fit()
    finally:
        ray.shutdown()
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text(encoding="utf-8")) for rank in range(2))
    # The loop is replayed from its source, which has the line that wrote the NaN into the batch.
    assert first["codes"] == second["codes"] == ["DC450", "DC402", "DC460"]
    assert first["line"] == second["line"] == 'batch[0, 0] = float("nan")'
    assert first["weights"] == second["weights"]
    assert str(first["weights"]).count("nan") == 0
