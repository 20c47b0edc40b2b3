"""The guard in the trainers of trl: SFT with LoRA, DPO and GRPO, on a tiny language model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

datasets = pytest.importorskip("datasets")
trl = pytest.importorskip("trl")
peft = pytest.importorskip("peft")
transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")

import datacheck  # noqa: E402

pytestmark = pytest.mark.filterwarnings("default")

WORDS = [
    "the",
    "a",
    "cat",
    "dog",
    "sat",
    "ran",
    "on",
    "under",
    "mat",
    "tree",
    "and",
    "then",
    "it",
    "slept",
    "well",
    "today",
]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    vocabulary = {word: number for number, word in enumerate(["<pad>", "<eos>", "<unk>", *WORDS])}
    model = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="<unk>"))
    model.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=model, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>"
    )


def language_model(tokenizer: Any) -> Any:
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=len(tokenizer), n_positions=64, n_embd=16, n_layer=1, n_head=2, bos_token_id=1, eos_token_id=1
    )
    return transformers.GPT2LMHeadModel(config)


def saved_model(tokenizer: Any, folder: Path) -> Any:
    """From a folder, for trl loads the reference model by name."""
    language_model(tokenizer).save_pretrained(folder)
    return transformers.GPT2LMHeadModel.from_pretrained(folder)


def texts(number: int) -> list[str]:
    generator = torch.Generator().manual_seed(3)
    return [
        " ".join(WORDS[int(i)] for i in torch.randint(0, len(WORDS), (6,), generator=generator)) for _ in range(number)
    ]


def common(folder: Path) -> dict[str, Any]:
    return {
        "output_dir": str(folder),
        "per_device_train_batch_size": 4,
        "max_steps": 4,
        "learning_rate": 1e-2,
        "use_cpu": True,
        "bf16": False,
        "report_to": [],
        "save_strategy": "no",
        "logging_steps": 1,
        "disable_tqdm": True,
        "gradient_checkpointing": False,
    }


def make(kind: str, tokenizer: Any, folder: Path) -> Any:
    model = saved_model(tokenizer, folder / "model")
    if kind == "sft":
        arguments = trl.SFTConfig(**common(folder), max_length=16)
        lora = peft.LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["c_attn"], fan_in_fan_out=True)
        return trl.SFTTrainer(
            model,
            arguments,
            train_dataset=datasets.Dataset.from_dict({"text": texts(16)}),
            processing_class=tokenizer,
            peft_config=lora,
        )
    if kind == "dpo":
        rows = {"prompt": texts(16), "chosen": texts(32)[16:], "rejected": texts(48)[32:]}
        arguments = trl.DPOConfig(**common(folder), max_length=24)
        return trl.DPOTrainer(
            model,
            args=arguments,
            train_dataset=datasets.Dataset.from_dict(rows),
            processing_class=tokenizer,
        )
    arguments = trl.GRPOConfig(**common(folder), num_generations=2, max_completion_length=6, beta=0.1)
    return trl.GRPOTrainer(
        model,
        reward_funcs=lambda completions, **_: [float(len(set(text.split()))) for text in completions],
        args=arguments,
        train_dataset=datasets.Dataset.from_dict({"prompt": texts(16)}),
        processing_class=tokenizer,
    )


def trained(trainer: Any) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in trainer.model.parameters() if parameter.requires_grad]


KINDS = pytest.mark.parametrize("kind", ["sft", "dpo", "grpo"])


@KINDS
def test_clean_training_has_the_same_bits_with_the_guard_as_without(kind: str, tokenizer: Any, tmp_path: Path) -> None:
    results = []
    for is_guarded in (False, True):
        trainer = make(kind, tokenizer, tmp_path)
        if is_guarded:
            guard = datacheck.transformers.guard(trainer, watch="layers")
        torch.manual_seed(5)
        trainer.train()
        results.append(trained(trainer))
    assert all(map(torch.equal, *results))
    assert [finding.code for finding in guard.report().findings if finding.is_error] == []
    assert guard.report().num_rows == 4


@KINDS
def test_a_step_that_is_bad_is_skipped_and_its_metrics_are_not_averaged(
    kind: str, tokenizer: Any, tmp_path: Path
) -> None:
    trainer = make(kind, tokenizer, tmp_path)
    calls = 0

    def break_once(_module: Any, _args: Any, output: torch.Tensor) -> Any:
        nonlocal calls
        calls += torch.is_grad_enabled()
        return output * torch.nan if calls == 2 and torch.is_grad_enabled() else output

    guard = datacheck.transformers.guard(trainer, on_trip="skip")
    trainer.model.get_input_embeddings().register_forward_hook(break_once)
    before = trained(trainer)
    after: list[list[torch.Tensor]] = []

    class Watch(transformers.TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            after.append(trained(trainer))

    trainer.add_callback(Watch())
    trainer.train()
    assert [finding.rule for finding in guard.report().findings if finding.code == "DC460"] == ["skip"]
    assert all(map(torch.equal, after[1], after[0]))
    assert not all(map(torch.equal, after[0], before))
    assert not all(map(torch.equal, after[2], after[1]))
    logged = [entry[name] for entry in trainer.state.log_history for name in entry if name not in ("loss", "grad_norm")]
    assert all(torch.tensor(float(value)).isfinite() for value in logged if value is not None)


def test_trl_takes_a_safe_dataset_through_the_guard(tokenizer: Any, tmp_path: Path) -> None:
    trainer = make("sft", tokenizer, tmp_path)
    guard = datacheck.transformers.guard(trainer, safe_dataset={"on_bad": "replace"})
    trainer.train()
    assert guard.report().ok
    assert trainer.train_dataset.report().num_rows >= 16
