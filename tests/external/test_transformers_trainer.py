"""What only Transformers and Accelerate have: their checkpoints, evaluation between steps, gradient checkpointing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from trainer_problem import BATCH_SIZE, Net, Problem, Samples, optimizer_of
from trainer_runs import transformers_trainer

import datacheck
from datacheck.errors import UsageError
from datacheck.torch import NonFiniteError

transformers = pytest.importorskip("transformers")
accelerate = pytest.importorskip("accelerate")

pytestmark = pytest.mark.filterwarnings("default")


def test_resuming_from_a_checkpoint_goes_on_with_the_guard(tmp_path: Path) -> None:
    options = {"save_strategy": "steps", "save_steps": 4}
    trainer = transformers_trainer(Problem(bad=9), str(tmp_path), **options)
    datacheck.transformers.guard(trainer, on_trip="skip")
    trainer.train()

    for restores in (False, True):
        again = transformers_trainer(
            Problem(bad=9, epochs=2), str(tmp_path), restore_callback_states_from_checkpoint=restores
        )
        guard = datacheck.transformers.guard(again, skip_bad_batches=True)
        again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
        assert guard.report().num_rows == 16
        assert [finding.code for finding in guard.report().findings] == ["DC456", "DC460"]
        assert again.callback_handler is not None


def test_an_evaluation_between_steps_is_no_part_of_them(tmp_path: Path) -> None:
    results = []
    for is_guarded in (False, True):
        trainer = transformers_trainer(Problem(), str(tmp_path), label_names=["labels"])
        trainer.eval_dataset = Samples(2)
        trainer.args.eval_strategy, trainer.args.eval_steps = "steps", 1
        if is_guarded:
            guard = datacheck.transformers.guard(trainer, watch="layers")
        trainer.train()
        results.append([value.clone() for value in trainer.model.state_dict().values()])
    assert all(map(torch.equal, *results))
    assert guard.report().findings == ()
    assert guard.report().num_rows == 8


def test_a_guard_that_is_removed_leaves_the_trainer_as_it_was(tmp_path: Path) -> None:
    trainer = transformers_trainer(Problem(bad=9), str(tmp_path))
    before = dict(vars(trainer)), list(trainer.callback_handler.callbacks)
    guard = datacheck.transformers.guard(trainer)
    with pytest.raises(UsageError, match="has a guard already"):
        datacheck.transformers.guard(trainer)
    guard.remove()
    assert vars(trainer).keys() == before[0].keys()
    assert trainer.callback_handler.callbacks == before[1]
    trainer.train()


def test_a_trainer_trains_again_after_an_error(tmp_path: Path) -> None:
    trainer = transformers_trainer(Problem(bad=9), str(tmp_path))
    guard = datacheck.transformers.guard(trainer)
    for _ in range(2):
        with pytest.raises(NonFiniteError):
            trainer.train()
        assert guard.guard is not None
        assert not guard.guard.is_attached
        assert "clip_grad_norm_" not in vars(trainer.accelerator)


@pytest.mark.parametrize("trainer", [None, 3, Net()])
def test_what_is_no_trainer_is_refused(trainer: object) -> None:
    with pytest.raises(UsageError, match="expected a Trainer, got"):
        datacheck.transformers.guard(trainer)
    with pytest.raises(UsageError, match="expected an Accelerator, got"):
        datacheck.accelerate.guard(trainer, Net(), optimizer_of(Net())[0])


def test_a_real_language_model_with_gradient_checkpointing_is_traced_to_its_line(tmp_path: Path) -> None:
    config = transformers.LlamaConfig(
        vocab_size=32, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2
    )
    torch.manual_seed(0)
    rows = [{"input_ids": (row := torch.randint(0, 32, (8,))), "labels": row} for _ in range(16)]

    def train(**options: Any) -> Any:
        torch.manual_seed(0)
        arguments = transformers.TrainingArguments(
            str(tmp_path), per_device_train_batch_size=4, max_steps=3, use_cpu=True, report_to=[], save_strategy="no",
            gradient_checkpointing=True, disable_tqdm=True, **options,
        )  # fmt: skip
        return transformers.Trainer(transformers.LlamaForCausalLM(config), arguments, train_dataset=rows)

    plain, guarded, broken = train(), train(), train()
    plain.train()
    guard = datacheck.transformers.guard(guarded, watch="layers")
    guarded.train()
    pairs = zip(plain.model.parameters(), guarded.model.parameters(), strict=True)
    assert all(torch.equal(*pair) for pair in pairs)
    assert guard.report().ok
    with torch.no_grad():
        broken.model.model.layers[0].mlp.up_proj.weight[3, 2] = torch.nan
    datacheck.transformers.guard(broken)
    with pytest.raises(NonFiniteError) as caught:
        broken.train()
    assert caught.value.diagnosis.cause == "parameter-not-finite"
    assert caught.value.diagnosis.module == "model.layers.0.mlp.up_proj"


def accelerated(**options: Any) -> Any:
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)
    accelerate.state.GradientState._reset_state()
    accelerator = accelerate.Accelerator(cpu=True)
    model, optimizer, scheduler, loader = accelerator.prepare(
        (plain := Net()), *optimizer_of(plain), torch.utils.data.DataLoader(Samples(9), batch_size=BATCH_SIZE)
    )
    guard = datacheck.accelerate.guard(accelerator, model, optimizer, **options)

    def train() -> None:
        for batch in loader:
            loss = model(**batch)["loss"]
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()

    return accelerator, guard, train


def test_accelerates_saved_state_holds_the_guards(tmp_path: Path) -> None:
    accelerator, guard, train = accelerated(on_trip="skip")
    with guard:
        train()
    accelerator.save_state(str(tmp_path))
    assert "clip_grad_norm_" not in vars(accelerator)

    accelerator, again, train = accelerated(skip_bad_batches=True)
    accelerator.load_state(str(tmp_path))
    with again:
        train()
    assert again.report().num_rows == 16
    assert [finding.code for finding in again.report().findings] == ["DC456", "DC460"]
