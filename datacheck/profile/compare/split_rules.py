"""Rules across splits: the schema's, and a note where the times of two datasets overlap."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from datacheck.batch import Batch
from datacheck.checks.coerce import coerce_batch
from datacheck.checks.sentinels import null_missing
from datacheck.dataset_rules.base import Context, DatasetRule, Part
from datacheck.dataset_rules.dataset_state import DatasetState
from datacheck.dataset_rules.keyed_rules import split_key_rules
from datacheck.dataset_rules.time_apart import TimeApartRule
from datacheck.errors import SourceError
from datacheck.findings import Finding, Severity
from datacheck.jobs.execution import Execution
from datacheck.jobs.executors.isolated import Isolated
from datacheck.jobs.scan import inspect_file, lost_inspection
from datacheck.jobs.stage import Stage
from datacheck.profile.data_profile import DataProfile
from datacheck.schema.dataset_models import TimeApart
from datacheck.schema.keys import outer_names
from datacheck.schema.model import Schema
from datacheck.sources import get_source
from datacheck.sources.base import WorkUnit
from datacheck.sources.discover import InputFile
from datacheck.sources.memory import batches_of

TRAIN = "train"
_TIMES = ("timestamp", "date32", "date64", "datetime64")


@dataclass(frozen=True, slots=True)
class Split:
    """A dataset as a split: its name, its files or its data in memory, and its profile."""

    name: str
    profile: DataProfile
    files: Sequence[InputFile] | None = None
    memory: Any = None


def judge_splits(train: Split, others: Sequence[Split], schema: Schema, execution: Execution) -> Iterator[Finding]:
    """The findings across splits. Times that overlap are a note, unless the schema says that they must not."""
    stated = schema.splits
    rules: list[DatasetRule] = [*split_key_rules(schema)]
    wanted = {stated.time.on} if stated is not None and stated.time is not None else set()
    if stated is not None and stated.time is not None:
        rules.append(TimeApartRule(stated.time))
    columns = [name for name in _times(train.profile) if all(name in _times(other.profile) for other in others)]
    rules += [TimeApartRule(TimeApart(on=name), in_any_order=True) for name in columns if name not in wanted]
    if not rules:
        return
    state: DatasetState | None = None
    uris: list[str] = []
    for split, name in ((train, TRAIN), *((other, other.name) for other in others)):
        for found in _states(split, name, rules, schema, execution):
            uris += [found.uri] if found.uri not in uris else []
            if state is None:
                state = found.state
            else:
                state.merge(found.state)
    if state is None:
        return
    try:
        for finding in (outcome.finding for outcome in state.outcomes(Context(tuple(uris), TRAIN))):
            is_note = finding.code == "DC330" and finding.field not in wanted
            yield replace(finding, severity=Severity.INFO) if is_note else finding
    finally:
        state.close()


def _times(profile: DataProfile) -> list[str]:
    """The columns of times, in any file."""
    found = (
        path
        for file in profile.files
        for path, facts in file.fields.items()
        if path is not None and facts.top_level and facts.dtype.startswith(_TIMES)
    )
    return list(dict.fromkeys(found))


@dataclass(frozen=True, slots=True)
class _Found:
    uri: str
    state: DatasetState


def _states(
    split: Split, name: str, rules: Sequence[DatasetRule], schema: Schema, execution: Execution
) -> Iterator[_Found]:
    if split.files is None:
        uri, batches = batches_of(split.memory)
        yield _collect(batches, Part(uri if name == TRAIN else split.name, name), rules, schema)
        return
    columns = tuple(
        dict.fromkeys(outer for rule in rules for path in rule.columns if path for outer in outer_names(path))
    )
    units: list[WorkUnit] = []
    for file in split.files:
        info = Isolated(inspect_file, lost_inspection)(
            replace(file, options=replace(file.options, columns=columns, by_columns=False))
        )
        # What cannot be read is a finding of the comparison already.
        units += [] if isinstance(info, SourceError) else info.units
    stage = Stage("read splits", rules=rules)
    read_unit = partial(_read, split=name, rules=rules, schema=schema)
    with closing(execution.map(read_unit, units, lambda _: None, stage=stage)) as read:
        yield from (found for found in read if found is not None)


def _read(unit: WorkUnit, split: str, rules: Sequence[DatasetRule], schema: Schema) -> _Found | None:
    try:
        return _collect(get_source(unit.format).read(unit), Part(unit.uri, split), rules, schema)
    except SourceError:
        return None


def _collect(batches: Iterable[Batch], part: Part, rules: Sequence[DatasetRule], schema: Schema) -> _Found:
    state = DatasetState.start(rules, part)
    for batch in batches:
        state.update(null_missing(coerce_batch(batch, schema), schema))
    return _Found(part.uri, state)
