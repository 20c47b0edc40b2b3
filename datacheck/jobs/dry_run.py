"""What a run would do, from the headers of its inputs: nothing is written, and no row is checked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from datacheck.cleaning.plan import is_learned
from datacheck.cleaning.rules import Rule
from datacheck.cleaning.validate_plan import validate_plan
from datacheck.jobs.execution import Execution
from datacheck.jobs.fit import find_fields
from datacheck.jobs.identify import identify
from datacheck.jobs.inputs import Input, find_inputs
from datacheck.jobs.pipeline import Pipeline
from datacheck.jobs.run import PipelineLike, check_output, loaded_pipeline
from datacheck.publishing.manifest import read_manifest
from datacheck.publishing.resume import earlier_identity, find_output
from datacheck.publishing.staging import STAGING_NAME
from datacheck.reports.text import format_size, format_table
from datacheck.sinks import get_sink
from datacheck.storage import storage_of
from datacheck.text import plain, quantity

_SHOWN_FIELDS = 6


@dataclass(frozen=True, slots=True)
class RunPlan:
    """What a run would do: its inputs, its rules and the fields that they apply to, and what is in the output already."""

    pipeline: Pipeline
    inputs: Sequence[Input]
    rules: Sequence[tuple[Rule, Sequence[str]]]
    output: str

    @property
    def ok(self) -> bool:
        """Whether every input can be read."""
        return all(item.error is None for item in self.inputs)

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        pipeline = self.pipeline
        yield f"pipeline {pipeline.file}, schema with {pipeline.schema.summary()}"
        yield ""
        yield from format_table([("split", "inputs", "rows", "size"), *map(self._split, pipeline.inputs)], "lrrr")
        for item in self.inputs:
            if item.error is not None:
                yield f"cannot be read, and would be left out: {item.error}"
        yield ""
        if self.rules:
            yield from format_table([("rule", "action", "codes", "fields"), *self._rules()], "rlll")
        yield f"anything else that breaks the schema: {pipeline.plan.otherwise}"
        learned = [str(index) for index, (rule, _) in enumerate(self.rules) if is_learned(rule)]
        if learned:
            rules = f"rule {learned[0]} learns" if len(learned) == 1 else f"rules {', '.join(learned)} learn"
            yield f"{rules} from the split {pipeline.fit!r}"
        yield ""
        yield self.output
        yield "dry run: only headers were read, and nothing was written"

    def _split(self, split: str) -> tuple[str, str, str, str]:
        items = [item for item in self.inputs if item.split == split]
        infos = [item.info for item in items if item.info is not None]
        counts = [info.num_rows for info in infos]
        rows = "unknown" if None in counts else f"{sum(number or 0 for number in counts):,}"
        return plain(split), f"{len(items):,}", rows, format_size(sum(info.num_bytes for info in infos))

    def _rules(self) -> Iterator[tuple[str, str, str, str]]:
        for index, (rule, fields) in enumerate(self.rules):
            more = f" and {len(fields) - _SHOWN_FIELDS} more" if len(fields) > _SHOWN_FIELDS else ""
            names = ", ".join(plain(name, 40) for name in fields[:_SHOWN_FIELDS]) + more
            strategy = getattr(rule, "strategy", None)
            action = rule.action if strategy is None else f"{rule.action} {strategy}"
            yield str(index), action, ", ".join(rule.codes or ("all",)), names or "none of these inputs"


def plan_run(pipeline: PipelineLike, *, workers: int | None = None, overwrite: bool = False) -> RunPlan:
    """What :func:`datacheck.run` would do with these arguments. Raises the errors that it would raise before it reads rows."""
    loaded = loaded_pipeline(pipeline)
    execution = Execution(workers)
    inputs = find_inputs(loaded, execution)
    check_output(loaded, inputs)
    for format_ in {item.format(loaded.format) for item in inputs}:
        get_sink(format_, loaded.format_options)
    fields = find_fields(inputs, loaded.plan, loaded.schema)
    plan = validate_plan(loaded.plan, fields, loaded.schema)
    names = (*fields, *(part for parts in plan.parts.values() for part in parts))
    rules = [
        (rule, [name for name in names if name is not None and rule.matches(name)] or ["the array"] * (None in fields))
        for rule in plan.rules
    ]
    return RunPlan(loaded, inputs, rules, _describe_output(loaded, inputs, execution, overwrite=overwrite))


def _describe_output(pipeline: Pipeline, inputs: Sequence[Input], execution: Execution, *, overwrite: bool) -> str:
    output, name = pipeline.output, plain(pipeline.output)
    formats = ", ".join(sorted({item.format(pipeline.format) for item in inputs if item.info is not None}))
    would = f"would write {name}" + (f" ({formats})" if formats else "")
    identity = identify(pipeline, inputs, "", earlier_identity(output), execution)
    found = find_output(output, identity, overwrite=overwrite)
    if found is not None and found.report is not None:
        return f"nothing to do: the output of these inputs is already in {name}"
    if read_manifest(output) is not None:
        return f"{would}, and replace what an earlier run published there"
    if storage_of(output).exists(f"{output}/{STAGING_NAME}"):
        return f"{would}, and continue what an interrupted run left there, as far as it was the same"
    return would + f", {quantity(len(inputs), 'input')}"
