"""The page of a training run: its curves, its anomalies, and the diagnoses of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from datacheck.reports.html.charts import Curve, line_chart
from datacheck.reports.html.elements import Html, Section, folded, table, tag
from datacheck.reports.html.page import document
from datacheck.reports.training_run import DiagnosisText, TrainingRun
from datacheck.text import plain, quantity

_LABELS = {
    "loss": "Loss",
    "grad_norm": "Gradient norm",
    "loss_scale": "Loss scale",
    "learning_rate": "Learning rate",
    "update_ratio": "Size of updates relative to the weights",
}
_MAX_TABLE_ROWS = 40
_SHOWN_DIAGNOSES = 20


def run_sections(
    curves: Mapping[str, Curve], anomalies: Sequence[tuple[int, str]], diagnoses: Sequence[DiagnosisText]
) -> list[Section]:
    """The curves of a run, the last diagnoses, and the last anomalies with what was done about them, by step."""
    steps = [step for step, _ in anomalies]
    figures = [
        _figure(label, curves[name], steps)
        for name, label in _LABELS.items()
        if any(value is not None for _, value in curves.get(name, ()))
    ]
    sections = []
    if figures:
        note = "Upright lines are anomalies, crosses at the top non-finite values."
        sections.append(Section("The run", tag("p", note, class_="soft"), tag("div", *figures, class_="grid")))
    if diagnoses:
        alike: dict[DiagnosisText, list[DiagnosisText]] = {}
        for one in diagnoses:
            # But for numbers: the step, the values that were seen, what the replay of the fix gave.
            path = tuple(row[:-1] for row in one.path)
            alike.setdefault(replace(one, step=None, notes=(), check="", path=path), []).append(one)
        shown = list(alike.values())[-_SHOWN_DIAGNOSES:]
        sections.append(Section("Diagnoses", *(element for group in shown for element in _diagnosis(group))))
    if anomalies:
        rows = [(f"{step:,}", message) for step, message in anomalies]
        sections.append(Section("Anomalies", table("The last anomalies", ("step", "what was seen"), rows)))
    return sections


def _figure(label: str, curve: Curve, trips: Sequence[int]) -> Html:
    rows = [(f"{step:,}", _text(value)) for step, value in _table_points(curve)]
    numbers = table(f"{label} by step", ("step", label.lower()), rows, numbers=(1,))
    chart = line_chart(f"{label} by step", curve, trips)
    return tag("figure", tag("figcaption", label), chart, folded("numbers", numbers))


def _table_points(curve: Curve) -> Iterator[tuple[int, float | None]]:
    """Points at regular intervals, and all non-finite ones, up to a number of them."""
    step = -(-len(curve) // _MAX_TABLE_ROWS)
    num_bad = 0
    for index, (number, value) in enumerate(curve):
        is_bad = value is not None and not math.isfinite(value)
        num_bad += is_bad
        if index % step == 0 or index == len(curve) - 1 or (is_bad and num_bad <= _MAX_TABLE_ROWS):
            yield number, value


def _text(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def _diagnosis(alike: Sequence[DiagnosisText]) -> Iterator[Html]:
    """The last of several that differ in their step and their numbers only."""
    one, steps = alike[-1], [f"{one.step:,}" for one in alike if one.step is not None]
    place = f"Step {steps[-1]}" + (f" and {len(alike) - 1:,} before" if len(alike) > 1 else "") if steps else ""
    yield tag("h3", f"{place}: {one.headline}" if place else one.headline)
    if one.source:
        yield tag("pre", tag("code", one.source), class_="source", tabindex="0")
    if one.notes:
        yield tag("pre", "\n".join(one.notes), tabindex="0")
    if one.path:
        head = ("phase", "operation", "module", "where", "source", "non-finite")
        cells = (
            tuple(
                tag("code", cell, class_="name" if index < 4 else None) if 0 < index < 5 else cell
                for index, cell in enumerate(row)
            )
            for row in one.path
        )
        yield table("Propagation path, from its origin on", head, cells, numbers=(5,))
    if one.fix:
        yield tag("p", f"Suggested fix{f' ({one.check})' if one.check else ''}:")
        yield tag("pre", tag("code", one.fix), tabindex="0")


def page_of_run(run: TrainingRun, name: str) -> str:
    """The page of a run that a guard writes down, as it is now."""
    facts = [
        ("steps", f"{run.step or 0:,}"),
        ("anomalies", f"{int(run.numbers.get('trips', len(run.trips))):,}"),
        *((action, f"{number:,}") for action, number in sorted(run.actions.items())),
    ]
    bad = int(run.numbers.get("bad_samples", 0))
    facts += [("bad samples", f"{bad:,}")] if bad else []
    sections = run_sections(run.curves, list(run.trips), list(run.diagnoses.values()))
    if run.samples:
        rows = [(str(number), sample) for number, sample in enumerate(run.samples, 1)]
        sections.append(Section("Bad samples", table("The last bad samples", ("number", "sample"), rows)))
    return document(f"datacheck guard, {plain(name, 80)}", *_verdict(run), facts, sections)


def _verdict(run: TrainingRun) -> tuple[str, str]:
    if run.error:
        return f"Ended by {run.error}", "bad"
    state = "ended" if run.has_ended else "running"
    if run.trips:
        number = int(run.numbers.get("trips", len(run.trips)))
        return f"{quantity(number, 'anomaly', 'anomalies')}, {state}", "warn"
    return f"No anomaly, {state}", "good"
