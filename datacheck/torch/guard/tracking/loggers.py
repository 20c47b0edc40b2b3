"""Whatever a user logs to, behind one protocol. Nothing is imported: a logger is known by its methods."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from datacheck.errors import UsageError

TEXT_NAME = "datacheck/diagnosis"


def _ignore_text(_title: str, _text: str, _step: int) -> None:
    """What takes numbers would choke on a text."""


@dataclass(frozen=True, slots=True)
class Logger:
    """Takes the numbers of a step, and texts: each by its title, the text and the step."""

    log_metrics: Callable[[Mapping[str, float], int], Any]
    log_text: Callable[[str, str, int], Any] = _ignore_text


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
        return _summary_writer(given)
    if _has(given, "log_metrics", "log_hyperparams"):
        return _lightning_logger(given, step_name)
    if _has(given, "log_metrics"):
        return _mlflow(given)
    if _has(given, "log", "define_metric"):
        return _wandb_run(given, step_name)
    function = given if callable(given) else getattr(given, "log", None)
    if not callable(function):
        raise UsageError(
            f"log: cannot log to {type(given).__name__}: expected a function of a dict, a SummaryWriter, a W&B run, mlflow, a "
            "logger of Lightning, an Accelerator, or a list of these"
        )
    return Logger(lambda metrics, step: function({**metrics, step_name: step}))


def _has(given: Any, *names: str) -> bool:
    return all(hasattr(given, name) for name in names)


def _summary_writer(writer: Any) -> Logger:
    """TensorBoard's, or tensorboardX's."""

    def log_metrics(metrics: Mapping[str, float], step: int) -> None:
        for name, value in metrics.items():
            writer.add_scalar(name, value, step)

    return Logger(
        log_metrics,
        lambda title, text, step: writer.add_text(TEXT_NAME, f"**{title}**\n\n```\n{text}\n```", step),
    )


def _wandb_run(run: Any, step_name: str) -> Logger:
    """A run of Weights & Biases. It drops what is logged for an earlier step, so the step goes along as a number."""
    run.define_metric("datacheck/*", step_metric=step_name)
    return Logger(lambda metrics, step: run.log({**metrics, step_name: step}), _alerter(run) or _ignore_text)


def _alerter(run: Any) -> Callable[[str, str, int], Any] | None:
    alert = getattr(run, "alert", None)
    return (lambda title, text, _: alert(title=title, text=text)) if callable(alert) else None


def _mlflow(module: Any) -> Logger:
    """The module ``mlflow``."""

    def log_text(title: str, text: str, step: int) -> None:
        module.log_text(f"{title}\n\n{text}\n", f"{TEXT_NAME}-{step:08d}.txt")

    return Logger(
        lambda metrics, step: module.log_metrics(dict(metrics), step=step),
        log_text if hasattr(module, "log_text") else _ignore_text,
    )


def _lightning_logger(logger: Any, step_name: str) -> Logger:
    """A logger of Lightning; texts go to what it wraps, if that takes any."""

    def log_text(title: str, text: str, step: int) -> None:
        experiment = logger.experiment
        run_id = getattr(logger, "run_id", None)
        if run_id is not None and hasattr(experiment, "log_text"):
            experiment.log_text(run_id, f"{title}\n\n{text}\n", f"{TEXT_NAME}-{step:08d}.txt")
        elif hasattr(experiment, "add_text"):
            _summary_writer(experiment).log_text(title, text, step)
        elif (alert := _alerter(experiment)) is not None:
            alert(title, text, step)

    return Logger(
        lambda metrics, step: logger.log_metrics({**metrics, step_name: float(step)}, step=step),
        log_text,
    )


def _accelerate_tracker(tracker: Any, step_name: str) -> Logger:
    """One tracker of an Accelerator."""
    # W&B drops what is logged for an earlier step than the last.
    has_own_step = getattr(tracker, "name", "") == "wandb"
    log_text: Callable[[str, str, int], Any] = _ignore_text
    with suppress(Exception):  # a tracker of the user's own need not have what it wraps
        log_text = _as_logger(tracker.tracker, step_name).log_text
    return Logger(
        lambda metrics, step: tracker.log({**metrics, step_name: step}, step=None if has_own_step else step), log_text
    )
