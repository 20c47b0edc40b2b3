"""A training run drawn in the terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from datacheck.reports.training_run import TrainingRun
from datacheck.text import count

_BARS = "▁▂▃▄▅▆▇█"
#: What is shown, in this order, with its label and its format.
_NUMBERS = (
    ("loss", "loss", ".6g"),
    ("grad_norm", "gradient norm", ".4g"),
    ("update_ratio", "update / weights", ".3g"),
    ("learning_rate", "learning rate", ".3g"),
    ("loss_scale", "loss scale", ",.6g"),
)
_COUNTS = (
    ("trips", "trips"),
    ("nonfinite_loss", "non-finite losses"),
    ("nonfinite_grad_values", "non-finite gradient values"),
    ("skipped_steps", "skipped steps"),
    ("clipped_steps", "clipped steps"),
    ("rollbacks", "rollbacks"),
    ("bad_samples", "bad samples"),
    ("replaced_samples", "replaced samples"),
)
NUM_LINES = 6


def sparkline(values: Sequence[float | None], width: int = 60) -> Text:
    """The last values as bars between their least and greatest finite value; non-finite ones are marked in red."""
    shown = list(values)[-width:]
    finite = [value for value in shown if value is not None and math.isfinite(value)]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    text = Text()
    for value in shown:
        if value is None:
            text.append(" ")
        elif not math.isfinite(value):
            text.append("x", style="bold red")
        else:
            height = (value - low) / (high - low) if high > low else 0.0
            text.append(_BARS[min(int(height * len(_BARS)), len(_BARS) - 1)], style="cyan")
    return text


def draw_run(run: TrainingRun, now: float, name: str) -> RenderableType:
    """The run: its numbers, its curves, its trips and its bad samples."""
    parts: list[RenderableType] = [_headline(run, now), _numbers(run)]
    if run.trips:
        parts.append(Panel(_trips(run), title="trips", title_align="left", border_style="red"))
    if run.samples:
        shown = Text("\n".join(list(run.samples)[-NUM_LINES:]), overflow="ellipsis", no_wrap=True)
        parts.append(Panel(shown, title="bad samples", title_align="left", border_style="yellow"))
    return Panel(Group(*parts), title=Text(f"datacheck watch {name}"), title_align="left")


def _headline(run: TrainingRun, now: float) -> Text:
    text = Text()
    if run.model:
        text.append(f"{run.model}, {count(run.num_parameters)} parameters   ")
    text.append(f"step {count(run.step or 0)}", style="bold")
    if run.global_step is not None and run.global_step != run.step:
        text.append(f" (the trainer's {count(run.global_step)})")
    rate = run.steps_per_second
    if rate is not None:
        text.append(f"   {rate:.3g} steps/s")
    if run.has_ended:
        text.append(f"   ended by {run.error}" if run.error else "   ended", style="bold red" if run.error else "green")
    elif run.updated is not None:
        age = max(now - run.updated, 0.0)
        text.append(f"   last line {age:.0f} s ago", style="red" if age > 60 else "dim")
    return text


def _numbers(run: TrainingRun) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column(justify="right")
    table.add_column(no_wrap=True)
    curves = {"loss": run.losses, "grad_norm": run.norms}
    for name, label, form in _NUMBERS:
        if name in run.numbers:
            value = run.numbers[name]
            style = "" if math.isfinite(value) else "bold red"
            table.add_row(label, Text(f"{value:{form}}", style=style), sparkline(list(curves.get(name, ()))))
    for name, label in _COUNTS:
        number = int(run.numbers.get(name, 0))
        if number:
            table.add_row(label, Text(count(number), style="bold yellow"), "")
    return table


def _trips(run: TrainingRun) -> Text:
    text = Text(overflow="ellipsis", no_wrap=True)
    for number, (step, message) in enumerate(list(run.trips)[-NUM_LINES:]):
        text.append("\n" if number else "")
        text.append(f"step {count(step)}: ", style="bold")
        text.append(message)
        if step in run.diagnoses:
            text.append(f"\n    {run.diagnoses[step].headline}", style="red")
    return text
