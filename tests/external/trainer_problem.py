"""One small training problem, as every trainer solves it, and what a plain loop makes of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from datacheck.torch import Diagnosis, NonFiniteError, SafeCollate, SafeDataset
from datacheck.torch.guard.log import GuardReport

NUM_SAMPLES, BATCH_SIZE, LEARNING_RATE = 32, 4, 0.05


class Samples(Dataset[dict[str, torch.Tensor]]):
    """``bad`` is the sample that breaks the step: by a NaN, or by a 0 that only the model objects to."""

    def __init__(self, bad: int | None = None, *, by: str = "zero", seed: int = 1) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.x = torch.rand(NUM_SAMPLES, 4, generator=generator) + 0.5
        self.labels = torch.randn(NUM_SAMPLES, 2, generator=generator)
        self.epochs: list[int] = []
        if bad is not None:
            self.x[bad, 3] = torch.nan if by == "nan" else 0.0

    def __len__(self) -> int:
        return NUM_SAMPLES

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"x": self.x[index], "labels": self.labels[index]}

    def set_epoch(self, epoch: int) -> None:
        self.epochs.append(epoch)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        # No bias: the normalization cancels it, and Adam makes much of what rounding leaves of its gradient.
        self.into = nn.Linear(4, 8, bias=False)
        self.norm = nn.BatchNorm1d(8)
        self.out = nn.Linear(8, 2)

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        scale = torch.log(x[:, 3:])  # the line that every diagnosis must name
        output = self.out(torch.tanh(self.norm(self.into(x)))) + self.out.bias * scale
        return {"loss": ((output - labels) ** 2).mean()}


@dataclass(frozen=True)
class Problem:
    """What to train. ``guard`` holds the options of the guard; None trains without one."""

    bad: int | None = None
    by: str = "zero"
    accumulate: int = 1
    clip: float | None = None
    bf16: bool = False
    epochs: int = 1
    is_safe: bool = False
    guard: dict[str, Any] | None = None

    def samples(self) -> Any:
        samples = Samples(self.bad, by=self.by)
        return SafeDataset(samples, max_bad_fraction=0.5) if self.is_safe else samples

    def loader(self, samples: Any) -> DataLoader[Any]:
        return DataLoader(samples, batch_size=BATCH_SIZE, collate_fn=SafeCollate())


def optimizer_of(model: nn.Module) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE)
    return optimizer, torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.5)


@dataclass
class Run:
    """What a training left behind."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    scheduler: Any
    samples: Any = None
    report: GuardReport | None = None
    norms: list[float | None] = field(default_factory=list)
    error: NonFiniteError | None = None
    num_steps: int = 0
    state: dict[str, Any] = field(default_factory=dict)

    @property
    def codes(self) -> list[str]:
        assert self.report is not None
        return [finding.code for finding in self.report.findings]

    @property
    def diagnosis(self) -> Diagnosis:
        assert self.report is not None
        return self.report.diagnoses[-1]

    def values(self) -> list[torch.Tensor]:
        """Weights, buffers and moments, and where the scheduler is."""
        moments = [
            value
            for parameter in self.model.parameters()
            for value in self.optimizer.state.get(parameter, {}).values()
            if isinstance(value, torch.Tensor)
        ]
        return [*self.model.state_dict().values(), *moments, torch.tensor(self.scheduler.last_epoch)]


def plain_loop(problem: Problem, *, skipped: int | None = None, back_to: int | None = None, stop: int = -1) -> Run:
    """The same training in plain PyTorch, with the update of step ``skipped`` (from 1) left out.

    ``back_to`` is the step after which a rollback restores everything instead; ``stop`` ends training before a step.
    """
    model = Net()
    optimizer, scheduler = optimizer_of(model)
    kept: dict[int, Any] = {0: _state(model, optimizer, scheduler)}
    for step, micro_batches in enumerate(_steps(problem), 1):
        if step == stop:
            break
        before = {name: value.clone() for name, value in model.named_buffers()}
        optimizer.zero_grad()
        for batch in micro_batches:
            with torch.autocast("cpu", torch.bfloat16, enabled=problem.bf16):
                loss = model(**batch)["loss"]
            (loss / problem.accumulate).backward()
        if problem.clip is not None:
            nn.utils.clip_grad_norm_(model.parameters(), problem.clip)
        if step != skipped:
            optimizer.step()
        elif back_to is not None:
            for owner, state in zip((model, optimizer, scheduler), kept[back_to], strict=True):
                owner.load_state_dict(state)
        else:
            for name, value in model.named_buffers():
                value.copy_(before[name])
        if step != skipped or back_to is None:
            kept[step] = _state(model, optimizer, scheduler)
        scheduler.step()
    return Run(model, optimizer, scheduler)


def _state(*owners: Any) -> list[Any]:
    import copy

    return [copy.deepcopy(owner.state_dict()) for owner in owners]


def _steps(problem: Problem) -> Iterator[list[dict[str, torch.Tensor]]]:
    batches = list(problem.loader(problem.samples())) * problem.epochs
    for start in range(0, len(batches), problem.accumulate):
        yield batches[start : start + problem.accumulate]
