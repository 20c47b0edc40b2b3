"""The programs of the corpus: a training step, and the correct diagnosis of it.

The faulty line is marked ``# BUG`` in the source of the function that builds the step (a statement of several lines
may carry several marks). Nothing else in the tests knows line numbers.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

DEFECTS: list[Defect] = []
HARMLESS: list[Harmless] = []
TRAINING_DEFECTS: list[TrainingDefect] = []


@dataclass(frozen=True)
class Step:
    """``loss_fn(model, batch)``; or, without a model and a batch, ``loss_fn()``."""

    loss_fn: Callable[..., Any]
    model: Any = None
    batch: Any = None

    @property
    def arguments(self) -> tuple[Any, ...]:
        return () if self.model is None and self.batch is None else (self.model, self.batch)

    def run(self) -> Any:
        return self.loss_fn(*self.arguments)


@dataclass(frozen=True)
class Training:
    """A training run: the batches are stepped through in order."""

    model: Any
    optimizer: Any
    loss_fn: Callable[..., Any]
    batches: Iterable[Any]
    scheduler: Any = None


@dataclass(frozen=True)
class TrainingDefect:
    """A run that a guard must stop; ``phase`` None where the cause does not say it."""

    build: Callable[[], Training]
    cause: str
    phase: str | None = None

    @property
    def name(self) -> str:
        return self.build.__name__


@dataclass(frozen=True)
class Defect:
    """``ops`` are the operation families that are right; ``phases`` and ``causes`` likewise, nearly always one each."""

    build: Callable[[], Step]
    cause: str
    phase: str
    ops: tuple[str, ...]
    samples: tuple[int, ...] | None = None
    field: str | None = None
    module: str | None = None

    @property
    def name(self) -> str:
        return self.build.__name__

    @property
    def filename(self) -> str:
        return inspect.getsourcefile(self.build) or ""

    @property
    def lines(self) -> set[int]:
        source, start = inspect.getsourcelines(self.build)
        return {start + offset for offset, line in enumerate(source) if "# BUG" in line}


@dataclass(frozen=True)
class Harmless:
    build: Callable[[], Step]

    @property
    def name(self) -> str:
        return self.build.__name__


def defect(
    cause: str,
    phase: str,
    *ops: str,
    samples: tuple[int, ...] | None = None,
    field: str | None = None,
    module: str | None = None,
) -> Callable[[Callable[[], Step]], Callable[[], Step]]:
    def register(build: Callable[[], Step]) -> Callable[[], Step]:
        DEFECTS.append(Defect(build, cause, phase, ops, samples, field, module))
        return build

    return register


def training_defect(cause: str, phase: str | None = None) -> Callable[[Callable[[], Training]], Callable[[], Training]]:
    def register(build: Callable[[], Training]) -> Callable[[], Training]:
        TRAINING_DEFECTS.append(TrainingDefect(build, cause, phase))
        return build

    return register


def harmless(build: Callable[[], Step]) -> Callable[[], Step]:
    HARMLESS.append(Harmless(build))
    return build
