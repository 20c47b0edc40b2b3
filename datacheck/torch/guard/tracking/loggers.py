"""Whatever a user logs to, behind one protocol. Nothing is imported: a logger is known by its methods."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from datacheck.errors import UsageError

TEXT_NAME = "datacheck/diagnosis"


class Logger(Protocol):
    """Takes the numbers of a step, and texts."""

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None: ...

    def log_text(self, title: str, text: str, step: int) -> None: ...


def as_loggers(given: Any, step_name: str) -> list[Logger]:
    """The loggers for ``Guard(log=...)``: one, several, or None. ``step_name`` is the name of the step among the numbers.

    Raises :class:`~datacheck.errors.UsageError` for an object that nothing can be logged to.
    """
    if given is None:
        return []
    if isinstance(given, Iterable) and not isinstance(given, str | bytes | Mapping):
        return [logger for one in given for logger in as_loggers(one, step_name)]
    if _has(given, "trackers", "log"):
        return [_accelerate_tracker(tracker, step_name) for tracker in given.trackers]
    return [_as_logger(given, step_name)]


def _as_logger(given: Any, step_name: str) -> Logger:
    if _has(given, "add_scalar"):
        return _SummaryWriter(given)
    if _has(given, "log_metrics", "log_hyperparams"):
        return _LightningLogger(given, step_name)
    if _has(given, "log_metrics"):
        return _MLflow(given)
    if _has(given, "log", "define_metric"):
        return _WandB(given, step_name)
    function = given if callable(given) else getattr(given, "log", None)
    if not callable(function):
        raise UsageError(
            f"log: cannot log to {type(given).__name__}: expected a function of a dict, a SummaryWriter, a W&B run, mlflow, a "
            "logger of Lightning, an Accelerator, or a list of these"
        )
    return _Function(function, step_name)


def _has(given: Any, *names: str) -> bool:
    return all(hasattr(given, name) for name in names)


@dataclass(slots=True)
class _Function:
    """A function of a dict: ``print``, ``trackio.log`` and so on."""

    function: Callable[[dict[str, Any]], Any]
    step_name: str

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        self.function({**metrics, self.step_name: step})

    def log_text(self, title: str, text: str, step: int) -> None:  # noqa: ARG002 - the protocol's arguments
        # Functions that take numbers would choke on a text.
        return


@dataclass(slots=True)
class _SummaryWriter:
    """TensorBoard's, or tensorboardX's."""

    writer: Any

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        for name, value in metrics.items():
            self.writer.add_scalar(name, value, step)

    def log_text(self, title: str, text: str, step: int) -> None:
        self.writer.add_text(TEXT_NAME, f"**{title}**\n\n```\n{text}\n```", step)


class _WandB:
    """A run of Weights & Biases. It drops what is logged for an earlier step, so the step goes along as a number."""

    def __init__(self, run: Any, step_name: str) -> None:
        self._run = run
        self._step_name = step_name
        run.define_metric("datacheck/*", step_metric=step_name)

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        self._run.log({**metrics, self._step_name: step})

    def log_text(self, title: str, text: str, step: int) -> None:  # noqa: ARG002 - the protocol's arguments
        alert = getattr(self._run, "alert", None)
        if callable(alert):
            alert(title=title, text=text)


@dataclass(slots=True)
class _MLflow:
    """The module ``mlflow``."""

    module: Any

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        self.module.log_metrics(dict(metrics), step=step)

    def log_text(self, title: str, text: str, step: int) -> None:
        if hasattr(self.module, "log_text"):
            self.module.log_text(f"{title}\n\n{text}\n", f"{TEXT_NAME}-{step:08d}.txt")


@dataclass(slots=True)
class _LightningLogger:
    """A logger of Lightning; texts go to what it wraps, if that takes any."""

    logger: Any
    step_name: str

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        self.logger.log_metrics({**metrics, self.step_name: float(step)}, step=step)

    def log_text(self, title: str, text: str, step: int) -> None:
        experiment = self.logger.experiment
        run_id = getattr(self.logger, "run_id", None)
        if run_id is not None and hasattr(experiment, "log_text"):
            experiment.log_text(run_id, f"{title}\n\n{text}\n", f"{TEXT_NAME}-{step:08d}.txt")
        elif hasattr(experiment, "add_text"):
            _SummaryWriter(experiment).log_text(title, text, step)
        elif callable(getattr(experiment, "alert", None)):
            experiment.alert(title=title, text=text)


@dataclass(slots=True)
class _AccelerateTracker:
    """One tracker of an Accelerator."""

    tracker: Any
    step_name: str
    text: Logger | None

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        # W&B drops what is logged for an earlier step than the last.
        has_own_step = getattr(self.tracker, "name", "") == "wandb"
        self.tracker.log({**metrics, self.step_name: step}, step=None if has_own_step else step)

    def log_text(self, title: str, text: str, step: int) -> None:
        if self.text is not None:
            self.text.log_text(title, text, step)


def _accelerate_tracker(tracker: Any, step_name: str) -> _AccelerateTracker:
    text = None
    with suppress(Exception):  # a tracker of the user's own need not have what it wraps
        text = _as_logger(tracker.tracker, step_name)
    return _AccelerateTracker(tracker, step_name, text)
