"""Checks before the first step: by ``guard.preflight``, and of the settings alone at the first step."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from datacheck.torch.diagnosis.preflight import check_run, check_settings, check_values
from datacheck.torch.guard.distributed import is_sharded
from datacheck.torch.guard.log import GuardReport
from datacheck.torch.guard.names import unwrap_model
from datacheck.torch.guard.step_state import Phase

if TYPE_CHECKING:
    from datacheck.findings import Finding
    from datacheck.torch.guard.step_parts import LossFunction
    from datacheck.torch.guard.step_runner import StepRunner


def run_preflight(runner: StepRunner, batch: Any, loss_fn: LossFunction | None) -> GuardReport:
    """What would go wrong in the first step. The model, the optimizers and the random state stay as they are."""
    started = time.monotonic()
    training = runner.training
    model, scaler = unwrap_model(training.model), training.scaler.given
    findings: list[Finding] = [
        *check_settings(training.optimizers, scaler),
        *check_values(model, training.optimizers, batch),
    ]
    runs = loss_fn is not None and not is_sharded(model) and not any(finding.is_error for finding in findings)
    if loss_fn is not None and runs:
        with runner.state.during(Phase.DIAGNOSE):
            findings.extend(check_run(model, loss_fn, batch, scaler))
    return GuardReport(tuple(findings), seconds=time.monotonic() - started)
