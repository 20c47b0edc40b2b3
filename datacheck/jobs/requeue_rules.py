"""What rules about whole files and the dataset say of an output to which rows come back."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from datacheck.batch import Batch
from datacheck.checks.checker import whole_file_of
from datacheck.checks.coerce import coerce_batch
from datacheck.checks.sentinels import null_missing
from datacheck.checks.whole_file import concatenate_batches
from datacheck.cleaning.plan import Action
from datacheck.codes import UNCHECKABLE
from datacheck.dataset_rules.base import Part
from datacheck.dataset_rules.dataset_state import (
    DatasetState,
    build_dataset_rules,
    context_of,
    rules_of_rows,
    rules_of_whole,
)
from datacheck.errors import FindingsError
from datacheck.findings import Finding
from datacheck.formats import format_of_name
from datacheck.jobs.inputs import Input
from datacheck.jobs.pipeline import Pipeline
from datacheck.jobs.reading_for_schema import read_options
from datacheck.jobs.requeue_amendment import ledger_of
from datacheck.leaves import IntArray
from datacheck.publishing.output_names import LEDGER, ROWS, stem_of
from datacheck.reports.text import errors_text
from datacheck.sources.aligned import inspect_aligned
from datacheck.sources.base import InputInfo, ReadOptions
from datacheck.sources.detect import get_source, source_for

_Key = tuple[str, str, str | None, str | None]


@dataclass(frozen=True, slots=True)
class StagedRows:
    """Rows that were taken back: their files in the staging area, and which rows of the input they are."""

    uris: tuple[str, ...]
    names: tuple[str | None, ...]
    rows: IntArray


@dataclass(frozen=True, slots=True)
class Judgement:
    """What changes in the report of an output: findings on the dataset, and violations that rules leave there, by input."""

    gone: frozenset[_Key] = frozenset()
    findings: tuple[Finding, ...] = ()
    left: Mapping[int, Mapping[tuple[str, str | None], int]] = field(default_factory=dict)

    def apply(self, manifest: dict[str, Any]) -> None:
        """Write the changes to a manifest."""
        kept = [one for one in manifest["findings"] if _key(Finding.from_dict(one)) not in self.gone]
        manifest["findings"] = [*kept, *(one.to_dict() for one in self.findings)]
        for index, changes in self.left.items():
            account = manifest["inputs"][index]
            for (code, name), change in changes.items():
                number = account["left_by_code"].pop(code, 0) + change
                account["left_by_code"] |= {code: number} if number else {}
                if number and [code, name] not in account["left_in"]:
                    account["left_in"].append([code, name])


def _key(finding: Finding) -> _Key:
    return finding.uri, finding.code, finding.field, finding.rule


def judge_with(pipeline: Pipeline, manifest: Mapping[str, Any], staged: Mapping[int, StagedRows]) -> Judgement:
    """Judge the output as it would be with rows that were taken back, by the index of their input.

    Raises ``FindingsError`` where a row, published or taken back, would break a rule by which it had not been published.
    """
    schema = pipeline.schema
    if not build_dataset_rules(schema) and whole_file_of(schema, None) is None:
        return Judgement()
    before = _Outcomes.of(pipeline, manifest, dict.fromkeys(staged))
    after = _Outcomes.of(pipeline, manifest, staged)
    decide = pipeline.plan.decide
    refused = [
        one
        for _, one in after.of_rows
        if one.is_error and one.num_violations and decide(one.field, one.code) is not Action.REPORT
    ]
    refused += [
        one
        for one in after.of_dataset
        if one.code == UNCHECKABLE or (one.is_error and decide(one.field, one.code) is Action.FAIL)
    ]
    if refused:
        raise FindingsError(
            "with these rows the output would break rules about whole files or the dataset; nothing was changed: correct the"
            f" rows, or leave some out\n{errors_text(refused)}",
            None,
        )
    left: dict[int, dict[tuple[str, str | None], int]] = {}
    for sign, outcomes in ((-1, before), (1, after)):
        for index, one in outcomes.of_rows:
            if one.is_error and decide(one.field, one.code) is Action.REPORT:
                changes = left.setdefault(index, {})
                changes[one.code, one.field] = changes.get((one.code, one.field), 0) + sign * one.num_violations
    return Judgement(frozenset(map(_key, before.of_dataset)), tuple(after.of_dataset), left)


@dataclass(frozen=True, slots=True)
class _Outcomes:
    """Findings with the input whose rows are at fault, and findings on the dataset."""

    of_rows: list[tuple[int, Finding]]
    of_dataset: list[Finding]

    @classmethod
    def of(cls, pipeline: Pipeline, manifest: Mapping[str, Any], staged: Mapping[int, StagedRows | None]) -> _Outcomes:
        """Judge the published rows and those that are staged; the rules about whole files are asked of inputs in ``staged``."""
        schema = pipeline.schema
        found = cls([], [])
        cleaned = [(index, one) for index, one in enumerate(manifest["inputs"]) if one["status"] == "cleaned"]
        totals: list[DatasetState] = []
        for index, account in cleaned:
            uri, split = str(account["uri"]), str(account["split"])
            whole = whole_file_of(schema, ReadOptions().max_whole_file_bytes) if index in staged else None
            states = [
                DatasetState.start(rules_of_whole(schema), Part(uri, split)),
                DatasetState.start(rules_of_rows(schema), Part(uri, split, keep_rows=True)),
            ]
            for batch in _batches(pipeline, account, staged.get(index)):
                if whole is not None:
                    whole.add(batch)
                for state in states:
                    state.update(null_missing(batch, schema))
            outcomes = whole.outcomes() if whole is not None else []
            found.of_rows.extend((index, one.to_finding(uri)) for one in outcomes if one.num_violations)
            for total, state in zip(totals, states, strict=False):
                total.merge(state)
            totals = totals or states
        by_uri = {str(account["uri"]): index for index, account in cleaned}
        for total in totals:
            for outcome in total.outcomes(context_of(schema, list(by_uri), pipeline.fit)):
                if total is totals[0] or outcome.rows is None:
                    found.of_dataset.append(outcome.finding)
                else:
                    found.of_rows.append((by_uri[outcome.finding.uri], outcome.finding))
            total.close()
        return found


def published_inputs(pipeline: Pipeline, account: Mapping[str, Any]) -> Iterator[tuple[Input, Mapping[str, Any]]]:
    """The files with rows of an input, or its aligned array files together, each with the first of their entries."""
    options = replace(
        read_options(ReadOptions(), pipeline.schema), by_columns=False, keep_going=False, rows=account.get("rows")
    )
    parts = [part for part in account["outputs"] if part["kind"] == ROWS]
    together = "rows" if account["files"] else "path"
    for _, same in itertools.groupby(parts, lambda part: part.get(together)):
        group = list(same)
        uris = [f"{pipeline.output}/{part['path']}" for part in group]
        names = [stem_of(uri) for uri in uris] if account["files"] else []
        yield Input(str(account["split"]), uris[0], info=_inspect(uris, names, options), identity=uris[0]), group[0]


def _inspect(uris: Sequence[str], names: Sequence[str | None], options: ReadOptions) -> InputInfo:
    record = format_of_name(uris[0])
    if names and record is not None and record.is_one_array:
        return inspect_aligned({str(name): uri for name, uri in zip(names, uris, strict=True)}, options)
    return source_for(uris[0]).inspect(uris[0], options)


def _batches(pipeline: Pipeline, account: Mapping[str, Any], staged: StagedRows | None) -> Iterator[Batch]:
    """The rows of an input that are in the output, or would be, in the order of the input."""
    ledgers = [part["path"] for part in account["outputs"] if part["kind"] == LEDGER]
    removed = np.array(sorted({row for path in ledgers for row in ledger_of(f"{pipeline.output}/{path}")}), np.int64)
    pieces: list[tuple[InputInfo, IntArray]] = []
    for item, part in published_inputs(pipeline, account):
        assert item.info is not None
        read = np.arange(part["row_start"], part["row_start"] + part["num_read"])
        rows = np.array(part["rows"], np.int64) if part.get("rows") else np.setdiff1d(read, removed)
        pieces.append((item.info, rows))
    if staged is not None and len(staged.rows):
        options = replace(
            read_options(ReadOptions(), pipeline.schema), by_columns=False, keep_going=False, rows=account.get("rows")
        )
        pieces.append((_inspect(staged.uris, staged.names, options), staged.rows))
    batches = (batch for info, rows in pieces for batch in _with_rows(info, rows))
    coerced = (coerce_batch(batch, pipeline.schema) for batch in batches)
    if all(
        before[-1] < after[0] for (_, before), (_, after) in itertools.pairwise(pieces) if len(before) and len(after)
    ):
        yield from coerced
        return
    whole = concatenate_batches([batch for batch in coerced if batch.num_rows])
    yield whole.take(np.argsort(whole.file_rows(np.arange(whole.num_rows)), kind="stable"))


def _with_rows(info: InputInfo, rows: IntArray) -> Iterator[Batch]:
    """The batches of a file of the output, with the rows of the input."""
    for unit in info.units:
        for batch in get_source(info.format).read(unit):
            places = batch.file_rows(np.arange(batch.num_rows))
            yield replace(batch, rows=rows[places], row_group=None, line_start=None, lines=None)
