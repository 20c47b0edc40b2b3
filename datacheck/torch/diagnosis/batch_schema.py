"""Judges a batch by a schema: what is wrong in which of its samples."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from datacheck.batch import Batch, Column
from datacheck.checks.checker import Checker, RuleSet
from datacheck.checks.own_checks import register_own_checks
from datacheck.checks.structure import FieldFacts, check_structure
from datacheck.codes import CODES
from datacheck.findings import Finding, merge_findings
from datacheck.schema.dtypes import dtype_kind
from datacheck.schema.model import Schema
from datacheck.text import plain
from datacheck.torch.diagnosis.batches import num_samples, samples_in
from datacheck.torch.diagnosis.diagnosis import ChainLink
from datacheck.torch.loader.path_screens import as_declared
from datacheck.torch.loader.sample_check import SampleCheck
from datacheck.torch.structure import parts_of
from datacheck.torch.values import as_numpy, dtype_name

_SCALARS = (str, bytes, bool, int, float, type(None))


@dataclass(frozen=True, slots=True)
class Violation:
    """A rule that samples of a batch break: the finding, and the positions of all of these samples."""

    finding: Finding
    samples: tuple[int, ...]

    @property
    def link(self) -> ChainLink:
        """The violation as the beginning of a propagation path."""
        finding = self.finding
        name = "the batch" if finding.field is None else f"'{plain(finding.field)}'"
        return ChainLink(f"input {name}", "input", num_bad=finding.num_violations, num_values=finding.num_checked)


class BatchSchema:
    """Judges batches by a schema whose fields are the samples', named as ``SafeDataset`` names them.

    A batch is a structure of tensors, arrays or lists whose first dimension is the number of samples, or a list of samples. If
    they do not agree on a number, each is judged alone. ``may_wait`` also reads tensors of an accelerator.

    Attributes:
        unchecked: the reason for each path whose values cannot be judged here. The caller reports and empties it.
    """

    def __init__(self, schema: Schema, *, may_wait: bool = False) -> None:
        register_own_checks(schema)
        self._schema = schema
        self._rules = RuleSet(schema)
        self._samples = SampleCheck(schema)
        self.unchecked = self._samples.unchecked
        self._may_wait = may_wait
        self._left_out: set[str | None] = set()
        self._has_structure = bool(schema.fields) or schema.strict

    def judge(self, batch: object, uri: str) -> list[Violation]:
        """What is wrong with a batch. Findings name ``uri``; the rows of their examples are the samples' positions."""
        samples = samples_in(batch)
        if samples is not None:
            return self._judge_samples(samples, uri)
        size = num_samples(batch)
        columns = tuple(self._columns(batch, None, size))
        if size is None:
            return [one for column in columns for one in self._judge_columns((column,), len(column), uri, alone=True)]
        return list(self._judge_columns(columns, size, uri))

    def _judge_samples(self, samples: list[Any] | tuple[Any, ...], uri: str) -> list[Violation]:
        found = [
            finding
            for position, sample in enumerate(samples)
            if not self._samples.is_clean(sample)
            for finding in self._samples.beyond_tolerances(self._samples.find_violations(sample, uri, position))
        ]
        positions: dict[tuple[str, str, str, str], set[int]] = {}
        for finding in found:
            rows = (example.row for example in finding.examples)
            positions.setdefault(finding.key, set()).update(row for row in rows if row is not None)
        return [Violation(one, tuple(sorted(positions[one.key]))) for one in merge_findings(found)]

    def _judge_columns(
        self, columns: tuple[Column, ...], size: int, uri: str, *, alone: bool = False
    ) -> Iterator[Violation]:
        checker = Checker(self._rules, with_rows=True)
        outcomes = checker.check(Batch(columns, size, is_alone=alone))
        if self._has_structure and not alone:
            facts = {path: self._as_declared(path, fact) for path, fact in checker.fields.items()}
            # What was left out is not missing.
            outcomes += [
                one for one in check_structure(self._schema, facts, (), None) if one.field not in self._left_out
            ]
        for outcome in outcomes:
            if outcome.num_violations and outcome.reported and CODES[outcome.code].severity != "info":
                rows = () if outcome.rows is None else tuple(int(row) for row in outcome.rows)
                for finding in self._samples.beyond_tolerances([outcome.to_finding(uri)]):
                    yield Violation(finding, rows)

    def _as_declared(self, path: str | None, fact: FieldFacts) -> FieldFacts:
        """The facts of a field of one sample; in the schema's dtype if only the width differs, which collating changes."""
        field = self._schema.field_for(path)
        if fact.is_array and fact.shape is not None:
            fact = replace(fact, shape=as_declared(tuple(size or 0 for size in fact.shape[1:]), field), is_array=False)
        if field is None or field.dtype is None or "<" in fact.dtype or fact.dtype == "struct":
            return fact
        is_same = dtype_kind(fact.dtype) == dtype_kind(field.dtype)
        return replace(fact, dtype=field.dtype) if is_same else fact

    def _columns(self, value: object, path: str | None, size: int | None) -> Iterator[Column]:
        if isinstance(value, torch.Tensor | np.ndarray | np.generic):
            array = self._read(value, path)
            if array is not None and array[0].ndim and size in (None, len(array[0])):
                yield Column(path, *array)
            elif array is not None:
                self._leave_out(path, "its first dimension is not the number of samples")
        elif isinstance(value, list | tuple) and size is None and any(isinstance(one, _SCALARS) for one in value):
            self._leave_out(path, "no tensor or array of the batch shows its number of samples")
        elif isinstance(value, list | tuple) and len(value) == size and all(isinstance(one, _SCALARS) for one in value):
            try:
                yield Column(path, pa.array(value))
            except (pa.ArrowException, ValueError, TypeError, OverflowError):
                self._leave_out(path, "its entries have different types")
        else:
            for name, part in parts_of(value, objects=True) or ():
                yield from self._columns(part, name if path is None else f"{path}.{name}", size)

    def _read(self, value: Any, path: str | None) -> tuple[np.ndarray[Any, Any], str | None] | None:
        """The values as NumPy sees them, with their logical dtype; None if they cannot be read here."""
        if not isinstance(value, torch.Tensor):
            return (np.asarray(value), None)
        if value.device.type == "meta" or not (value.is_cpu or self._may_wait):
            self._leave_out(
                path, f"it is on {value.device.type}, and reading it would make the host wait in every step"
            )
        elif value.layout is not torch.strided or value.is_nested or value.is_quantized:
            self._leave_out(path, "sparse, nested and quantized tensors are not judged in batches")
        else:
            return as_numpy(value.detach().as_subclass(torch.Tensor)), dtype_name(value.dtype)
        return None

    def _leave_out(self, path: str | None, reason: str) -> None:
        if self._schema.field_for(path) is not None:
            self._left_out.add(path)
            self.unchecked.setdefault(path or "", reason)
