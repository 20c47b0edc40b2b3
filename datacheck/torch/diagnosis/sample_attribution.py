"""Which samples caused a fault, and where they came from.

Samples are guessed from positions, and reported only where replays without them agree.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch

from datacheck.torch._compat import storage_id
from datacheck.torch.diagnosis.batches import given_storages, num_samples, sample_of, take
from datacheck.torch.diagnosis.recorded_replay import reproduces
from datacheck.torch.loader.provenance import batch_origins
from datacheck.torch.values import bad_positions

if TYPE_CHECKING:
    from datacheck.torch.diagnosis.context import Context
    from datacheck.torch.diagnosis.evidence import OpEvidence
    from datacheck.torch.diagnosis.probe import Positions
    from datacheck.torch.diagnosis.tensor_sources import TensorSource


#: Replays of parts of the batch may take this many times as long as the recorded replay.
SAMPLE_TIME = 4.0
#: Replays of a part of the batch for one diagnosis.
MAX_REPLAYS = 80
#: Clean samples that are replayed together with a suspected one.
NUM_CLEAN = 3

#: Whether a batch of these samples alone reproduces the fault; None where it cannot be run.
ReproducesOn: TypeAlias = Callable[[Sequence[int]], bool | None]


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
    trained = frozenset(id(leaf) for leaf in context.recording.leaves if storage_id(leaf) not in given)

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


def attribute_samples(
    size: int, reproduces_on: ReproducesOn, guesses: Iterable[Sequence[int]], max_seconds: float
) -> tuple[int, ...]:
    """The exact positions of the samples that cause the fault; empty where that cannot be determined.

    A set of samples causes it if the others alone are clean, and adding any one of the set to the others reproduces it.
    ``guesses`` are tried first; then the batch is halved.
    """
    if size == 1:
        return ()
    search = _Search(size, reproduces_on, time.monotonic() + max_seconds)
    for guess in guesses:
        chosen = sorted(set(guess))
        if chosen and len(chosen) < size and search.confirm(chosen):
            return tuple(chosen)
    if search.reproduces(range(size)):
        found = search.halve(list(range(size)))
        if found and len(found) < size and search.confirm(found):
            return tuple(found)
        if found is not None and len(found) == size:
            return tuple(found)
    return ()


class _Search:
    def __init__(self, size: int, reproduces_on: ReproducesOn, deadline: float) -> None:
        self._size = size
        self._reproduces_on = reproduces_on
        self._deadline = deadline
        self._known: dict[tuple[int, ...], bool | None] = {}

    def reproduces(self, samples: Iterable[int]) -> bool | None:
        key = tuple(samples)
        if not key:
            return False
        if key not in self._known:
            if len(self._known) >= MAX_REPLAYS or time.monotonic() > self._deadline:
                return None
            self._known[key] = self._reproduces_on(key)
        return self._known[key]

    def confirm(self, chosen: Sequence[int]) -> bool:
        """Whether the other samples are clean alone, and any one of the chosen added to them reproduces the fault."""
        chosen_samples = set(chosen)
        others = [position for position in range(self._size) if position not in chosen_samples]
        if self.reproduces(others) is not False:
            return False
        # A few clean samples suffice for code that cannot take a batch of one.
        clean = others[:NUM_CLEAN]
        return all(self.reproduces(sorted([*clean, position])) is True for position in chosen)

    def halve(self, samples: list[int]) -> list[int] | None:
        """The samples that reproduce the fault on their own, by halving; None where a part could not be run."""
        if len(samples) == 1:
            return samples
        found: list[int] = []
        middle = len(samples) // 2
        for part in (samples[:middle], samples[middle:]):
            outcome = self.reproduces(part)
            if outcome is None:
                return None
            if outcome:
                inner = self.halve(part)
                if inner is None:
                    return None
                found.extend(inner)
        return found


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
    origins = batch_origins(batch)
    if origins is None or max(samples) >= len(origins):
        return ()
    return tuple(asdict(origins[sample]) for sample in samples)
