"""Which samples caused a fault, where they came from, and whether they violate the schema."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from datacheck.batch import Batch, Column
from datacheck.checks.checker import Checker, RuleSet
from datacheck.torch.diagnosis.batches import array_leaves, given_storages, num_samples, sample_of, take
from datacheck.torch.diagnosis.memory import storage_key
from datacheck.torch.diagnosis.recorded_replay import reproduces
from datacheck.torch.diagnosis.sample_search import attribute_samples
from datacheck.torch.values import bad_positions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from datacheck.schema.model import Schema
    from datacheck.torch.diagnosis.context import Context
    from datacheck.torch.diagnosis.evidence import OpEvidence
    from datacheck.torch.diagnosis.probe import Positions
    from datacheck.torch.diagnosis.tensor_sources import TensorSource

__all__ = [
    "Violation",
    "describe_lost_origins",
    "find_violation",
    "origins_of",
    "samples_of_field",
    "samples_of_operation",
    "samples_of_values",
]

#: Replays of parts of the batch may take this many times as long as the recorded replay.
SAMPLE_TIME = 4.0


@dataclass(frozen=True, slots=True)
class Violation:
    """A field of the batch that violates the schema, and in which rows."""

    field: str | None
    message: str
    num_violations: int
    num_checked: int
    rows: tuple[int, ...]


def samples_of_operation(context: Context, op_evidence: OpEvidence) -> tuple[int, ...]:
    """The samples that made an operation fail; empty where it fails on all of them, whatever they hold."""
    size = num_samples(context.batch)
    if size is None:
        return ()
    everything = len(op_evidence.new_bad) == op_evidence.evidence.num_values
    if everything and size in op_evidence.shape:
        return ()
    found = _attribute(context, size, _guesses(size, op_evidence.shape, op_evidence.new_bad))
    return () if len(found) == size else found


def samples_of_field(context: Context, tensor_source: TensorSource, bad: Positions) -> tuple[int, ...]:
    """The samples with bad values in a field, without those whose bad values do not reach the loss or a gradient."""
    size, own, tensor = num_samples(context.batch), sample_of(context.batch, tensor_source.name), tensor_source.tensor
    if size is None or tensor is None:
        return ()
    if own is not None:
        rows = [own]
    elif tensor.dim() and tensor.shape[0] == size:
        rows = [int(row) for row in np.unique(bad // max(tensor[0].numel(), 1))]
    else:
        return ()
    found = _attribute(context, size, [rows])
    return found or (tuple(rows) if len(rows) == size or context.replay_on is None else ())


def samples_of_values(context: Context, tensor: torch.Tensor) -> tuple[int, ...]:
    """The samples of the bad values in an array of the program; empty where all of them are bad."""
    size = num_samples(context.batch)
    if size is None:
        return ()
    found = _attribute(context, size, _guesses(size, tuple(tensor.shape), bad_positions(tensor)))
    return () if len(found) == size else found


def _attribute(context: Context, size: int, guesses: Sequence[Sequence[int]]) -> tuple[int, ...]:
    replay_on = context.replay_on
    if replay_on is None:
        return ()

    given = given_storages(context.batch)
    trained = frozenset(id(leaf) for leaf in context.recording.leaves if storage_key(leaf) not in given)

    def reproduces_on(positions: Sequence[int]) -> bool | None:
        outcome = replayed(positions)
        if outcome is None and len(positions) < size:
            # Code that relies on the batch size gets as many samples, some of them repeated.
            outcome = replayed([positions[number % len(positions)] for number in range(size)])
        return outcome

    def replayed(positions: Sequence[int]) -> bool | None:
        context.restorer.restore()
        try:
            part = take(context.batch, positions, size)
        except (TypeError, ValueError, LookupError, AttributeError, RuntimeError):
            # A batch of a custom type that cannot be cut to some of its samples.
            return None
        return reproduces(lambda: replay_on(part), context.in_gradient, context.scale, trained, context.recording.error)

    return attribute_samples(size, reproduces_on, guesses, max(context.seconds * SAMPLE_TIME, 0.5))


def _guesses(size: int, shape: tuple[int, ...], bad: Positions) -> list[list[int]]:
    """Candidate samples for positions in an output, along each dimension that is a multiple of the batch size."""
    if not shape or not len(bad):
        return []
    coordinates = np.unravel_index(bad, shape)
    guesses: list[list[int]] = []
    for dim, length in enumerate(shape):
        if length == size:
            guesses.append(_unique(coordinates[dim]))
        elif length > size and length % size == 0:
            guesses.append(_unique(coordinates[dim] // (length // size)))
            guesses.append(_unique(coordinates[dim] % size))
    return guesses


def _unique(rows: np.ndarray[Any, Any]) -> list[int]:
    return [int(row) for row in np.unique(rows)]


def origins_of(batch: object, samples: Sequence[int]) -> tuple[dict[str, Any], ...]:
    """The dataset index, file and row of samples, where a loader of ours made the batch."""
    if not samples:
        return ()
    from datacheck.torch.loader.provenance import batch_origins

    origins = batch_origins(batch)
    if origins is None or max(samples) >= len(origins):
        return ()
    return tuple(asdict(origins[sample]) for sample in samples)


def describe_lost_origins() -> str:
    """Why this rank may not know the origins of its samples; empty if there is no such reason."""
    from datacheck.torch.loader import index_tracking

    return index_tracking.describe_lost_origins()


def find_violation(batch: object, schema: Schema, samples: Sequence[int]) -> Violation | None:
    """The first field of the batch that violates the schema in one of the samples; in any row, if none are given."""
    for path, leaf in array_leaves(batch):
        array = _as_array(leaf)
        if array is None:
            continue
        column = Column(path, array)
        checker = Checker(RuleSet(schema), with_rows=True)
        for outcome in checker.check(Batch((column,), len(column))):
            rows = () if outcome.rows is None else tuple(int(row) for row in outcome.rows)
            shared = tuple(row for row in rows if row in set(samples)) if samples else rows
            if outcome.num_violations and shared:
                message = outcome.to_finding("the batch").message
                return Violation(path, message, outcome.num_violations, outcome.num_checked, shared)
    return None


def _as_array(leaf: torch.Tensor | np.ndarray[Any, Any]) -> np.ndarray[Any, Any] | None:
    if isinstance(leaf, np.ndarray):
        return leaf
    if leaf.layout is not torch.strided or leaf.is_nested or leaf.is_quantized or leaf.device.type == "meta":
        return None
    values = leaf.detach().cpu()
    # NumPy has neither bfloat16 nor float8; float32 holds their values exactly.
    narrow = values.dtype.is_floating_point and values.dtype not in (torch.float16, torch.float32, torch.float64)
    return (values.float() if narrow else values).resolve_conj().resolve_neg().numpy()
