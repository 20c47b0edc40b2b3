"""What holds in every trainer, with the guard reached in one line."""

from __future__ import annotations

import pytest
import torch
from trainer_problem import Problem, Run, plain_loop
from trainer_runs import TRAINERS, run

from datacheck.torch.guard.actions import Rollback, Skip

#: Accelerate and Transformers say that their CPU loaders pin no memory, that a scheduler was stepped and so on.
pytestmark = pytest.mark.filterwarnings("default")

EACH_TRAINER = pytest.mark.parametrize("name", sorted(TRAINERS))
EACH_PRECISION = pytest.mark.parametrize("bf16", [False, True], ids=["float32", "bfloat16"])


def assert_same(first: Run, second: Run, *, within: float = 0.0) -> None:
    pairs = list(zip(first.values(), second.values(), strict=True))
    assert len(pairs) > 10
    for one, other in pairs:
        torch.testing.assert_close(one, other, rtol=10 * within, atol=within)


@EACH_TRAINER
@EACH_PRECISION
@pytest.mark.parametrize("accumulate", [1, 4])
def test_clean_training_has_the_same_bits_with_the_guard_as_without(name: str, bf16: bool, accumulate: int) -> None:
    problem = Problem(accumulate=accumulate, clip=0.5, bf16=bf16)
    guarded = run(name, Problem(**{**vars(problem), "guard": {"on_trip": "raise", "watch": "layers"}}))
    assert_same(guarded, run(name, problem))
    assert guarded.report is not None
    assert guarded.report.findings == ()
    assert guarded.report.num_rows == 8 // accumulate
    assert len([norm for norm in guarded.norms if norm]) == 8 // accumulate


@EACH_TRAINER
@pytest.mark.parametrize("clip", [None, 0.5])
def test_the_step_is_stopped_before_a_weight_changes_and_named(name: str, clip: float | None) -> None:
    stopped = run(name, Problem(bad=9, clip=clip, guard={}))
    assert stopped.error is not None
    assert_same(stopped, plain_loop(Problem(bad=9, clip=clip), stop=3), within=1e-5)
    found = stopped.error.diagnosis
    assert (found.step, found.cause) == (3, "log-of-zero-or-negative")
    assert (found.source or "").startswith("scale = torch.log(x[:, 3:])")
    assert found.samples == (1,)


@EACH_TRAINER
@EACH_PRECISION
def test_a_skipped_step_leaves_weights_moments_and_running_statistics_alone(name: str, bf16: bool) -> None:
    problem = Problem(bad=9, clip=0.5, bf16=bf16, guard={"on_trip": "skip"})
    skipped = run(name, problem)
    assert_same(skipped, plain_loop(problem, skipped=3), within=5e-3 if bf16 else 1e-5)
    assert skipped.codes == ["DC450", "DC402", "DC460"]


@EACH_TRAINER
def test_a_rollback_takes_optimizer_and_scheduler_along(name: str) -> None:
    problem = Problem(bad=17, guard={"on_trip": Rollback(every_n_steps=2)})  # in step 5, after the snapshot of step 4
    rolled_back = run(name, problem)
    assert_same(rolled_back, plain_loop(problem, skipped=5, back_to=4), within=1e-5)
    problem = Problem(bad=13, guard={"on_trip": Rollback(every_n_steps=3)})  # in step 4, which is one step after
    assert_same(run(name, problem), plain_loop(problem, skipped=4, back_to=3), within=1e-5)
    problem = Problem(bad=21, guard={"on_trip": Rollback(every_n_steps=4)})  # step 6: the update of step 5 is undone
    assert_same(run(name, problem), plain_loop(problem, skipped=6, back_to=4), within=1e-5)


@EACH_TRAINER
def test_the_micro_batch_is_named_under_accumulation(name: str) -> None:
    skipped = run(name, Problem(bad=25, accumulate=4, clip=0.5, is_safe=True, guard={"on_trip": "skip"}))
    found = skipped.diagnosis
    assert (found.step, found.samples) == (2, (1,))
    assert found.explanation.startswith("in micro-batch 3 of 4: ")
    assert [origin["index"] for origin in found.origins] == [25]


@EACH_TRAINER
def test_the_norm_is_the_one_before_the_clip(name: str) -> None:
    clipped, free = (run(name, Problem(clip=clip, guard={})) for clip in (0.01, None))
    assert clipped.norms[0] == pytest.approx(free.norms[0])
    assert all(norm is not None and norm > 0.1 for norm in clipped.norms)


@EACH_TRAINER
def test_a_safe_dataset_replaces_the_sample_in_the_trainers_own_loader(name: str) -> None:
    if name == "fastai":
        pytest.skip("here its loader is given batches")
    guarded = run(name, Problem(bad=9, by="nan", is_safe=True, epochs=2, guard={}))
    assert guarded.error is None
    assert guarded.report is not None
    assert guarded.report.findings == ()
    report = guarded.samples.report()
    assert [sample.index for sample in report.samples] == [9]
    assert report.num_rows >= 64
    if name in ("lightning", "transformers"):  # a loop of Fabric or Accelerate is its author's
        assert set(guarded.samples.dataset.epochs) == {0, 1}


@EACH_TRAINER
def test_what_makes_the_model_fail_is_traced_to_the_sample_in_the_dataset(name: str) -> None:
    stopped = run(name, Problem(bad=9, is_safe=True, guard={}))
    assert stopped.error is not None
    assert [origin["index"] for origin in stopped.error.diagnosis.origins] == [9]


@EACH_TRAINER
def test_a_trip_beyond_the_limit_of_skips_stops_training(name: str) -> None:
    stopped = run(name, Problem(bad=9, epochs=3, guard={"on_trip": Skip(limit=1)}))
    assert stopped.error is not None
    assert stopped.error.diagnosis.step == 11
