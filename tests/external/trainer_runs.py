"""The problem of ``trainer_problem``, trained by each trainer with the guard reached as its users reach it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils.data import SequentialSampler
from trainer_problem import BATCH_SIZE, LEARNING_RATE, Net, Problem, Run, optimizer_of

import datacheck
from datacheck.torch import NonFiniteError

__all__ = ["TRAINERS", "lightning_trainer", "run"]


def lightning_trainer(problem: Problem, callbacks: Any = (), **options: Any) -> Any:
    lightning = pytest.importorskip("lightning")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    return lightning.Trainer(
        **{
            "accelerator": "cpu",
            "devices": 1,
            "max_epochs": problem.epochs,
            "precision": "bf16-mixed" if problem.bf16 else "32-true",
            "accumulate_grad_batches": problem.accumulate,
            "gradient_clip_val": problem.clip,
            "callbacks": list(callbacks),
            **quiet,
            **options,
        }
    )


def lightning_module() -> Any:
    lightning = pytest.importorskip("lightning")

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = Net()
            self.outputs: list[torch.Tensor] = []

        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            loss = self.net(**batch)["loss"]
            self.outputs.append(loss.detach())
            self.log("loss", loss, on_step=False, on_epoch=True, batch_size=BATCH_SIZE)
            return loss

        def configure_optimizers(self) -> Any:
            optimizer, scheduler = optimizer_of(self)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    return Module()


def run_lightning(problem: Problem) -> Run:
    trainer_options: dict[str, Any] = {}
    callbacks = []
    if problem.guard is not None:
        pytest.importorskip("lightning")
        callbacks.append(datacheck.lightning.GuardCallback(**problem.guard))
    trainer = lightning_trainer(problem, callbacks, **trainer_options)
    module, samples = lightning_module(), problem.samples()
    error = _error_of(lambda: trainer.fit(module, problem.loader(samples)))
    scheduler = trainer.lr_scheduler_configs[0].scheduler
    made = Run(module.net, trainer.optimizers[0], scheduler, samples, error=error, num_steps=trainer.global_step)
    made.state = {"outputs": module.outputs, "metrics": trainer.callback_metrics}
    return _with_guard(made, callbacks[0].guard if callbacks else None)


def run_fabric(problem: Problem) -> Run:
    fabric_module = pytest.importorskip("lightning.fabric")
    fabric = fabric_module.Fabric(accelerator="cpu", devices=1, precision="bf16-mixed" if problem.bf16 else "32-true")
    plain = Net()
    plain_optimizer, scheduler = optimizer_of(plain)
    model, optimizer = fabric.setup(plain, plain_optimizer)
    samples = problem.samples()
    loader = fabric.setup_dataloaders(problem.loader(samples))
    guard = None
    if problem.guard is not None:
        guard = datacheck.lightning.guard(fabric, model, optimizer, scheduler=scheduler, **problem.guard)

    def train() -> None:
        for _ in range(problem.epochs):
            for position, batch in enumerate(loader):
                is_last = (position + 1) % problem.accumulate == 0
                with fabric.no_backward_sync(model, enabled=not is_last):
                    loss = model(**batch)["loss"]
                    fabric.backward(loss / problem.accumulate)
                if not is_last:
                    continue
                if problem.clip is not None:
                    fabric.clip_gradients(model, optimizer, max_norm=problem.clip)
                optimizer.step()
                optimizer.zero_grad()
                scheduler.step()

    error = _error_of(train)
    return _with_guard(Run(plain, plain_optimizer, scheduler, samples, error=error), guard)


def run_accelerate(problem: Problem) -> Run:
    accelerate = pytest.importorskip("accelerate")
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)
    accelerate.state.GradientState._reset_state()
    accelerator = accelerate.Accelerator(
        cpu=True,
        gradient_accumulation_steps=problem.accumulate,
        mixed_precision="bf16" if problem.bf16 else "no",
        step_scheduler_with_optimizer=False,
    )
    plain = Net()
    plain_optimizer, plain_scheduler = optimizer_of(plain)
    samples = problem.samples()
    model, optimizer, scheduler, loader = accelerator.prepare(
        plain, plain_optimizer, plain_scheduler, problem.loader(samples)
    )
    guard = None
    if problem.guard is not None:
        guard = datacheck.accelerate.guard(accelerator, model, optimizer, **problem.guard)

    def train() -> None:
        for _ in range(problem.epochs):
            for batch in loader:
                with accelerator.accumulate(model):
                    loss = model(**batch)["loss"]
                    accelerator.backward(loss)
                    if problem.clip is not None and accelerator.sync_gradients:
                        accelerator.clip_grad_norm_(model.parameters(), problem.clip)
                    optimizer.step()
                    if accelerator.sync_gradients:
                        scheduler.step()
                    optimizer.zero_grad()

    error = _error_of(train)
    return _with_guard(Run(plain, plain_optimizer, plain_scheduler, samples, error=error), guard)


def transformers_trainer(problem: Problem, folder: str, **options: Any) -> Any:
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")

    class InOrder(transformers.Trainer):
        def _get_train_sampler(self, *_: Any) -> Any:
            return SequentialSampler(self.train_dataset)

    arguments = transformers.TrainingArguments(
        folder,
        **{
            "per_device_train_batch_size": BATCH_SIZE,
            "gradient_accumulation_steps": problem.accumulate,
            "num_train_epochs": problem.epochs,
            "max_grad_norm": problem.clip or 0.0,
            "bf16": problem.bf16,
            "use_cpu": True,
            "report_to": [],
            "save_strategy": "no",
            "logging_steps": 1,
            "disable_tqdm": True,
            **options,
        },
    )
    model = Net()
    return InOrder(model, arguments, train_dataset=problem.samples(), optimizers=optimizer_of(model))


def run_transformers(problem: Problem) -> Run:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        trainer = transformers_trainer(problem, folder)
        guard = None
        if problem.guard is not None:
            guard = datacheck.transformers.guard(trainer, safe_dataset=problem.is_safe, **problem.guard)
        error = _error_of(trainer.train)
    optimizer = trainer.optimizer.optimizer
    made = Run(trainer.model, optimizer, trainer.lr_scheduler, trainer.train_dataset, error=error)
    made.num_steps = trainer.state.global_step
    return _with_guard(made, None if guard is None else guard.guard)


def run_composer(problem: Problem) -> Run:
    composer = pytest.importorskip("composer")
    if problem.accumulate > 1 or problem.bf16 or problem.is_safe:
        pytest.skip("the batch is split in memory, and bfloat16 needs an accelerator")
    from composer.algorithms import GradientClipping

    class Model(composer.ComposerModel):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.net = Net()

        def forward(self, batch: Any) -> Any:
            return self.net(**batch)

        def loss(self, outputs: Any, batch: Any) -> Any:
            return outputs["loss"]

    model, samples = Model(), problem.samples()
    optimizer, scheduler = optimizer_of(model.net)
    callbacks = [] if problem.guard is None else [datacheck.composer.GuardCallback(**problem.guard)]
    trainer = composer.Trainer(
        model=model,
        train_dataloader=problem.loader(samples),
        optimizers=optimizer,
        schedulers=scheduler,
        step_schedulers_every_batch=True,
        max_duration=f"{problem.epochs}ep",
        device="cpu",
        callbacks=callbacks,
        algorithms=[] if problem.clip is None else [GradientClipping("norm", problem.clip)],
        progress_bar=False,
        save_folder=None,
    )
    error = _error_of(trainer.fit)
    trainer.close()
    return _with_guard(
        Run(model.net, optimizer, scheduler, samples, error=error), callbacks[0].guard if callbacks else None
    )


def run_fastai(problem: Problem, *, opt_func: Any = None) -> Run:
    pytest.importorskip("fastai")
    from fastai.callback.core import Callback
    from fastai.callback.training import GradientAccumulation, GradientClip
    from fastai.data.core import DataLoaders
    from fastai.data.load import DataLoader as FastaiLoader
    from fastai.learner import Learner
    from fastai.optimizer import OptimWrapper

    if problem.bf16:
        pytest.skip("its mixed precision needs CUDA")

    class ByDict(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = Net()

        def forward(self, x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            return self.net(x, labels)["loss"]

    model, samples = ByDict(), problem.samples()
    optimizer, scheduler = optimizer_of(model)

    class StepScheduler(Callback):  # type: ignore[misc]
        order = 60

        def after_step(self) -> None:
            scheduler.step()

    batches = [(batch["x"], batch["labels"], batch["labels"]) for batch in problem.loader(samples)]
    loader = FastaiLoader(batches, bs=None)
    loader.n_inp = 2
    callbacks: list[Any] = [StepScheduler()]
    if problem.accumulate > 1:
        callbacks.append(GradientAccumulation(problem.accumulate * BATCH_SIZE))
    if problem.clip is not None:
        callbacks.append(GradientClip(problem.clip))
    guard = None if problem.guard is None else datacheck.fastai.GuardCallback(scheduler=scheduler, **problem.guard)
    learner = Learner(
        DataLoaders(loader, loader),
        model,
        loss_func=lambda loss, _: loss,
        opt_func=opt_func or (lambda params, **_: OptimWrapper(opt=optimizer)),
        cbs=callbacks + ([] if guard is None else [guard]),
        train_bn=False,
    )
    with learner.no_bar(), learner.no_logging():
        error = _error_of(lambda: learner.fit(problem.epochs, lr=LEARNING_RATE))
    made = Run(model.net, optimizer, scheduler, samples, error=error)
    made.state = {"learner": learner}
    return _with_guard(made, None if guard is None else guard.guard)


def _error_of(train: Callable[[], Any]) -> NonFiniteError | None:
    try:
        train()
    except NonFiniteError as error:
        return error
    return None


def _with_guard(made: Run, guard: Any) -> Run:
    if guard is not None:
        made.report = guard.report()
        made.norms = guard.history.gradient_norms
        guard.finished(made.error)
    return made


#: Name -> trains the problem.
TRAINERS: dict[str, Callable[[Problem], Run]] = {
    "accelerate": run_accelerate,
    "composer": run_composer,
    "fastai": run_fastai,
    "fabric": run_fabric,
    "lightning": run_lightning,
    "transformers": run_transformers,
}


def run(name: str, problem: Problem) -> Run:
    return TRAINERS[name](problem)
