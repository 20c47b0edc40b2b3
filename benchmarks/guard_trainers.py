"""What a guard costs inside trainers: whole runs of a few steps, with it and without, in turns."""

from __future__ import annotations

import importlib.util
import logging
import time
import warnings
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from benchmarks.results import Section, render_section, time_ratio
from benchmarks.timing import Timing

__all__ = ["trainer_sections"]

TARGET = 1.05
Work = Callable[[], tuple[Any, Any, Any, Any]]
#: Trains for a number of steps, guarded or not; returns the processor time at the beginning of each.
Fit = Callable[[int, bool], list[float]]


def trainer_sections(work: Work, *, quick: bool) -> list[Section]:
    """A section of each trainer that is installed."""
    sections = []
    trainers = (
        ("Lightning", "lightning", _lightning),
        ("Transformers", "transformers", _transformers),
        ("Accelerate", "accelerate", _accelerate),
    )
    for name, module, make in trainers:
        if importlib.util.find_spec(module) is None or importlib.util.find_spec("accelerate") is None:
            print(f"{name} is not installed: its overhead is not measured\n")
            continue
        sections.append(_measure(name, make(work), quick=quick))
        print(render_section(sections[-1]), flush=True)
    return sections


def _measure(name: str, fit: Fit, *, quick: bool) -> Section:
    # A guard looks at everything after each of the first ten updates.
    num_steps, rounds, left_out = (3, 1, 1) if quick else (22, 2, 12)
    taken: dict[bool, list[float]] = {False: [], True: []}
    for number in range(rounds):
        for guarded in (False, True) if number % 2 else (True, False):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                begun = fit(num_steps, guarded)
            taken[guarded].extend(later - sooner for sooner, later in pairwise(begun[left_out:]))
    plain, watched = (
        Timing(f"{name}, {'guarded' if guarded else 'plain'}", tuple(taken[guarded])) for guarded in taken
    )
    section = Section(
        f"guard-{name.lower()}",
        f"a step of {name} with the 10M-parameter transformer",
        ["Processor time from the beginning of a step to that of the next, all that the trainer does included."],
    )
    section.add_timings((plain, watched))
    section.claims.append(time_ratio(f"{name} with the guard", watched, plain, TARGET))
    return section


def _lightning(work: Work) -> Fit:
    import lightning
    import torch

    import datacheck

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net, _, self.loss_fn, (self.tokens, self.one) = work()
            self.begun: list[float] = []

        def training_step(self, batch: Any) -> torch.Tensor:
            self.begun.append(time.process_time())
            return self.loss_fn(self.net, (batch, torch.ones(())))  # type: ignore[no-any-return]

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.AdamW(self.net.parameters(), lr=1e-4)

    def fit(num_steps: int, guarded: bool) -> list[float]:
        callbacks = [datacheck.lightning.GuardCallback()] if guarded else []
        module = Module()
        loader = torch.utils.data.DataLoader([*module.tokens] * num_steps, batch_size=len(module.tokens))
        trainer = lightning.Trainer(accelerator="cpu", devices=1, max_epochs=1, callbacks=callbacks, **quiet)
        trainer.fit(module, loader)
        return module.begun

    return fit


def _transformers(work: Work) -> Fit:
    import tempfile

    import torch
    import transformers
    from torch import nn

    import datacheck

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net, _, self.loss_fn, (self.tokens, _) = work()
            self.begun: list[float] = []

        def forward(self, tokens: torch.Tensor) -> dict[str, torch.Tensor]:
            self.begun.append(time.process_time())
            return {"loss": self.loss_fn(self.net, (tokens, torch.ones(())))}

    def fit(num_steps: int, guarded: bool) -> list[float]:
        model = Model()
        with tempfile.TemporaryDirectory() as folder:
            arguments = transformers.TrainingArguments(
                output_dir=folder,
                max_steps=num_steps,
                per_device_train_batch_size=len(model.tokens),
                report_to=[],
                save_strategy="no",
                logging_strategy="no",
                disable_tqdm=True,
                use_cpu=True,
                remove_unused_columns=False,
            )
            data: Any = [{"tokens": row} for row in model.tokens] * num_steps
            trainer = transformers.Trainer(model=model, args=arguments, train_dataset=data)
            if guarded:
                datacheck.transformers.guard(trainer)
            trainer.train()
        return model.begun

    return fit


def _accelerate(work: Work) -> Fit:
    import accelerate
    import torch

    import datacheck

    def fit(num_steps: int, guarded: bool) -> list[float]:
        accelerator = accelerate.Accelerator(cpu=True)
        model, optimizer, loss_fn, (tokens, one) = work()
        loader = torch.utils.data.DataLoader([*tokens] * num_steps, batch_size=len(tokens))
        model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
        guard = datacheck.accelerate.guard(accelerator, model, optimizer) if guarded else None
        begun = []
        for batch in loader:
            begun.append(time.process_time())
            optimizer.zero_grad()
            accelerator.backward(loss_fn(model, (batch, one)))
            accelerator.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        if guard is not None:
            guard.finished()
        return begun

    return fit
