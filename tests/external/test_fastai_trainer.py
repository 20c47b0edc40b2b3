"""What only fastai has: optimizers of its own, and a running mean of losses."""

from __future__ import annotations

import math
import warnings

import pytest
import torch
from trainer_problem import Problem
from trainer_runs import run_fastai

from datacheck.torch import Rollback

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it uses much that is deprecated
    Adam = pytest.importorskip("fastai.optimizer").Adam

pytestmark = pytest.mark.filterwarnings("default")


def own_values(problem: Problem) -> list[torch.Tensor]:
    learner = run_fastai(problem, opt_func=Adam).state["learner"]
    moments = [value for state in learner.opt.state.values() for value in state.values() if torch.is_tensor(value)]
    return [*learner.model.state_dict().values(), *moments]


def test_its_own_optimizers_are_guarded_too() -> None:
    plain, guarded = own_values(Problem()), own_values(Problem(guard={}))
    assert len(plain) > 10
    assert all(map(torch.equal, plain, guarded))
    skipped = run_fastai(Problem(bad=9, guard={"on_trip": "skip"}), opt_func=Adam)
    assert skipped.codes == ["DC450", "DC402", "DC460"]
    assert all(value.isfinite().all() for value in skipped.model.state_dict().values())
    rolled_back = run_fastai(Problem(bad=21, guard={"on_trip": Rollback(every_n_steps=4)}), opt_func=Adam)
    assert "back to the state after step 4: 1 update undone" in str(rolled_back.report)


def test_a_skipped_step_does_not_poison_the_running_mean_of_losses() -> None:
    learner = run_fastai(Problem(bad=9, guard={"on_trip": "skip"})).state["learner"]
    assert math.isfinite(float(learner.recorder.smooth_loss.value))
