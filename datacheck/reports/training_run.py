"""A guarded training run as its files show it: the state that ``datacheck watch`` displays."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datacheck.reports.run_file import read_events
from datacheck.text import plain, quantity

#: Steps, trips and samples that are kept for display.
NUM_STEPS, NUM_TRIPS, NUM_SAMPLES = 240, 50, 50
#: Numbers whose whole course is kept, and how many points of each.
_CURVES = ("loss", "grad_norm", "loss_scale", "learning_rate", "update_ratio")
_MAX_POINTS = 2000
_MAX_LINES = 60


@dataclass(frozen=True, slots=True)
class DiagnosisText:
    """A diagnosis as it is shown, in texts that are safe to print.

    Attributes:
        headline: code, cause, phase, operation and place.
        source: the line of the user's code.
        notes: what happened, line by line.
        path: the propagation path: phase, operation, module, place, source line and number of non-finite values of each link.
        fix: the suggested fix, and ``check`` whether it was verified.
    """

    headline: str
    step: int | None = None
    source: str = ""
    notes: tuple[str, ...] = ()
    path: tuple[tuple[str, ...], ...] = ()
    fix: str = ""
    check: str = ""

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> DiagnosisText:
        """From a record that anybody may have written: what is no text there is left out."""
        path = record.get("path")
        links = [link for link in path if isinstance(link, list | tuple)] if isinstance(path, list | tuple) else []
        notes = record.get("notes")
        # An event without parts has its text.
        lines = notes if isinstance(notes, list | tuple) else str(record.get("text") or "").splitlines()[1:]
        return cls(
            _text(record, "headline"),
            _integer(record.get("step"), None),
            _text(record, "source"),
            tuple(plain(str(line), 400) for line in lines[:_MAX_LINES]),
            tuple(
                (*(plain(str(cell), 200) for cell in link[:6]), *[""] * (6 - len(link))) for link in links[:_MAX_LINES]
            ),
            "\n".join(plain(line, 400) for line in str(record.get("fix") or "").splitlines()[:_MAX_LINES]),
            _text(record, "check"),
        )


@dataclass
class TrainingRun:
    """What is known of a run. Texts come from a file that anybody may have written, and are made safe to print.

    Attributes:
        step, global_step: of the last line; None before the first.
        numbers: the last line's numbers, by name.
        losses, norms: from the last lines, None where unknown.
        trips: step and message of the last trips.
        diagnoses: the last ones, by step.
        curves: every number of the whole run by step, thinned out where there are many; non-finite values are kept.
        samples: the last bad samples, each in one line.
        bad_batches: how many batches were written down.
        error: what ended the run; empty for none.
    """

    model: str = ""
    num_parameters: int = 0
    started: float | None = None
    updated: float | None = None
    step: int | None = None
    global_step: int | None = None
    numbers: dict[str, float] = field(default_factory=dict)
    losses: deque[float | None] = field(default_factory=lambda: deque(maxlen=NUM_STEPS))
    norms: deque[float | None] = field(default_factory=lambda: deque(maxlen=NUM_STEPS))
    times: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=NUM_STEPS))
    trips: deque[tuple[int, str]] = field(default_factory=lambda: deque(maxlen=NUM_TRIPS))
    diagnoses: dict[int, DiagnosisText] = field(default_factory=dict)
    curves: dict[str, list[tuple[int, float | None]]] = field(default_factory=dict)
    actions: Counter[str] = field(default_factory=Counter)
    samples: deque[str] = field(default_factory=lambda: deque(maxlen=NUM_SAMPLES))
    num_bad_batches: int = 0
    has_ended: bool = False
    error: str = ""

    def add(self, events: Iterable[Mapping[str, Any]]) -> None:
        """Take in events, in order."""
        for event in events:
            add = getattr(self, f"_add_{event['event']}", None)
            if add is not None:
                add(event)
            self.updated = _number(event.get("time")) or self.updated

    def _add_start(self, event: Mapping[str, Any]) -> None:
        # A run that is resumed begins again in the same file.
        self.model, self.num_parameters = _text(event, "model"), int(_number(event.get("num_parameters")) or 0)
        self.started, self.has_ended, self.error = _number(event.get("time")), False, ""
        self.times.clear()

    def _add_step(self, event: Mapping[str, Any]) -> None:
        self._add_numbers(event)
        self.losses.append(_number(event.get("loss")))
        self.norms.append(_number(event.get("grad_norm")))
        for name in _CURVES:
            if self.step is not None and event.get(name) is not None:
                curve = self.curves.setdefault(name, [])
                curve.append((self.step, _number(event[name])))
                if len(curve) > _MAX_POINTS:
                    curve[:] = _thinned(curve)
        when = _number(event.get("time"))
        if when is not None and self.step is not None:
            self.times.append((when, self.step))

    def _add_numbers(self, event: Mapping[str, Any]) -> None:
        self.step = _integer(event.get("step"), self.step)
        self.global_step = _integer(event.get("global_step"), self.global_step)
        texts = {"event", "time", "step", "global_step", "error"}
        self.numbers = {
            plain(str(name), 40): value
            for name in event
            if name not in texts and (value := _number(event[name])) is not None
        }

    def _add_trip(self, event: Mapping[str, Any]) -> None:
        self.trips.append((_integer(event.get("step"), None) or 0, _text(event, "message")))

    def _add_diagnosis(self, event: Mapping[str, Any]) -> None:
        self.diagnoses[_integer(event.get("step"), None) or 0] = DiagnosisText.of(event)
        while len(self.diagnoses) > NUM_TRIPS:
            del self.diagnoses[next(iter(self.diagnoses))]

    def _add_action(self, event: Mapping[str, Any]) -> None:
        self.actions[_text(event, "action")] += 1

    def _add_bad_batch(self, _event: Mapping[str, Any]) -> None:
        self.num_bad_batches += 1

    def _add_bad_sample(self, event: Mapping[str, Any]) -> None:
        self.samples.append(_text(event, "message"))

    def _add_end(self, event: Mapping[str, Any]) -> None:
        self._add_numbers(event)
        self.has_ended, self.error = True, _text(event, "error")

    @property
    def steps_per_second(self) -> float | None:
        """Over the lines that are kept; None if there are too few."""
        if len(self.times) < 2:
            return None
        (first, step), (last, last_step) = self.times[0], self.times[-1]
        return (last_step - step) / (last - first) if last > first and last_step > step else None

    def summary(self) -> str:
        """The run in one line, for logs and pipes."""
        if self.step is None and not self.trips:
            return "no step yet"
        parts = [f"step {self.step or 0:,}"]
        for name, label in (("loss", "loss"), ("grad_norm", "grad norm"), ("loss_scale", "loss scale")):
            if name in self.numbers:
                parts.append(f"{label} {self.numbers[name]:.6g}")
        rate = self.steps_per_second
        if rate is not None:
            parts.append(f"{rate:.3g} steps/s")
        parts.append(quantity(int(self.numbers.get("trips", len(self.trips))), "trip"))
        if self.actions:
            parts.append(", ".join(f"{action} {number:,}" for action, number in sorted(self.actions.items())))
        bad = int(self.numbers.get("bad_samples", 0))
        if bad:
            parts.append(quantity(bad, "bad sample"))
        if self.has_ended:
            parts.append(f"ended by {self.error}" if self.error else "ended")
        return ", ".join(parts)


def _thinned(curve: list[tuple[int, float | None]]) -> list[tuple[int, float | None]]:
    """Every second point, and those that are non-finite while these are not too many themselves."""
    bad = [index for index, (_, value) in enumerate(curve) if value is not None and not math.isfinite(value)]
    kept = {*range(0, len(curve), 2), *bad[: _MAX_POINTS // 4]}
    return [point for index, point in enumerate(curve) if index in kept]


class RunReader:
    """Reads what is new in the files of a run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.run = TrainingRun()
        self._offsets: dict[Path, int] = {}

    def read(self) -> TrainingRun:
        """The run, up to date. Raises :class:`~datacheck.errors.SourceError` for a file that cannot be read."""
        for path in sorted(self.folder.glob("guard*.jsonl")):
            events, self._offsets[path] = read_events(path, self._offsets.get(path, 0))
            if path.name != "guard.jsonl":
                # Each rank writes its own trips; the numbers of all ranks are in the first one's file.
                events = [event for event in events if event["event"] in ("bad_batch", "bad_sample")]
            self.run.add(events)
        return self.run


def _text(event: Mapping[str, Any], name: str) -> str:
    value = event.get(name)
    return "" if value is None else plain(str(value), 300)


def _number(value: Any) -> float | None:
    """A number, which is written as text if it is non-finite."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


def _integer(value: Any, otherwise: int | None) -> int | None:
    number = _number(value)
    return otherwise if number is None or not math.isfinite(number) else int(number)
