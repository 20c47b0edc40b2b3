"""What a guard must remember when training is resumed, as plain values that go into any checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from datacheck.errors import UsageError
from datacheck.torch.guard.bad_batches import BadBatch
from datacheck.torch.guard.step_runner import StepRunner

VERSION = 1


def save_state(runner: StepRunner) -> dict[str, Any]:
    """Counts, histories, the state of the actions, and the bad batches."""
    training = runner.training
    return {
        "version": VERSION,
        "step": training.step,
        "num_updates": training.num_updates,
        "lr_factor": training.lr_factor,
        "monitor": runner.monitor.state_dict(),
        "actions": runner.policy.state_dict(),
        "bad_batches": [batch.to_dict() for batch in runner.bad_batches.found],
    }


def load_state(runner: StepRunner, state: Mapping[str, Any]) -> None:
    """Go on from what :func:`save_state` returned. Raises :class:`~datacheck.errors.UsageError` for anything else."""
    if not isinstance(state, Mapping) or state.get("version") != VERSION:
        raise UsageError("load_state_dict: expected what Guard.state_dict() returned")
    training = runner.training
    batches = [BadBatch.from_dict(record) for record in state["bad_batches"]]
    training.step = int(state["step"])
    training.num_updates = int(state["num_updates"])
    training.lr_factor = float(state["lr_factor"])
    runner.monitor.load_state_dict(state["monitor"])
    runner.policy.load_state_dict(state["actions"])
    runner.bad_batches.found[:] = batches
    if runner.config.skip_bad_batches:
        runner.bad_batches.expect(batches)
