"""The batches of steps that tripped: written down, and recognized when they come again after training is resumed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from datacheck.errors import UsageError
from datacheck.torch.diagnosis.diagnosis import Diagnosis
from datacheck.torch.guard.distributed import RankGroup, describe_ranks
from datacheck.torch.guard.trip import Signals, Trip
from datacheck.torch.loader.batch_signature import SearchedLeaf, digest_of_others, leaves_of

#: Batches that are kept. A run that meets more of them has another problem.
MAX_BATCHES = 1000
#: Trips that are not about the batch of their step: the loss scale, and what an update left behind.
_NOT_OF_THE_BATCH = frozenset({"DC454", "DC455", "DC456"})
#: Causes that no batch is to blame for.
_NOT_BY_THE_BATCH = frozenset(
    {"exploding-gradient", "learning-rate-too-high", "optimizer-epsilon", "parameter-not-finite", "not-reproducible"}
)


@dataclass(frozen=True, slots=True)
class BadBatch:
    """A batch, or micro-batch, of a step that tripped.

    Attributes:
        step: the step, from 1.
        code: of the trip.
        cause: of the diagnosis; None if there was none.
        samples: the samples that caused it, as the diagnosis names them; empty where they are not known.
        digest: of all values of the batch; None for a batch that cannot be recognized.
    """

    step: int
    code: str
    cause: str | None
    samples: tuple[str, ...]
    digest: str | None

    def to_dict(self) -> dict[str, Any]:
        """The batch as plain JSON values."""
        return {**asdict(self), "samples": list(self.samples)}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> BadBatch:
        """The batch that :meth:`to_dict` wrote. Raises :class:`~datacheck.errors.UsageError` for anything else."""
        try:
            return cls(
                step=int(record["step"]),
                code=str(record["code"]),
                cause=None if record["cause"] is None else str(record["cause"]),
                samples=tuple(map(str, record["samples"])),
                digest=None if record["digest"] is None else str(record["digest"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(f"not a bad batch that a guard wrote: {type(error).__name__}: {error}") from error


def digest_of(batch: object) -> str | None:
    """A digest of all values in a batch, wherever they are stored; None if some cannot be read."""
    tensors, others = leaves_of(batch)
    other_digest = digest_of_others(others)
    searched = [SearchedLeaf(leaf) for leaf in tensors]
    if not searched or other_digest is None or any(leaf.digest is None for leaf in searched):
        return None
    parts = [(leaf.shape, leaf.dtype, leaf.digest) for leaf in searched]
    return hashlib.blake2b(repr((parts, other_digest)).encode(), digest_size=16).hexdigest()


class BadBatches:
    """The bad batches of this run, and of earlier runs the ones to skip."""

    def __init__(self) -> None:
        self.found: list[BadBatch] = []
        self._known: dict[str, BadBatch] = {}
        self._is_known_anywhere: bool | None = None

    def expect(self, batches: Iterable[BadBatch]) -> None:
        """Skip these batches when they come again."""
        self._known.update({batch.digest: batch for batch in batches if batch.digest is not None})
        self._is_known_anywhere = None

    def recall(self, batch: object) -> BadBatch | None:
        """The record of a batch that was bad before. Reads the batch only if there are any."""
        return self._known.get(digest_of(batch) or "") if self._known else None

    def trip(self, step: int, known: BadBatch | None, group: RankGroup | None) -> Trip | None:
        """The trip of a step one of whose batches was bad before, on any rank."""
        if group is None:
            ranks: tuple[int, ...] = ()
        else:
            # The ranks must agree before the first step on whether they exchange anything at all.
            if self._is_known_anywhere is None:
                self._is_known_anywhere = group.sum([float(len(self._known))])[0] > 0
            ranks = group.ranks_where(known is not None) if self._is_known_anywhere else ()
        if known is None and not ranks:
            return None
        detail = f"on {describe_ranks(ranks)}" if known is None else _describe(known)
        return Trip(code="DC456", signals=Signals(step, None, None), detail=detail, ranks=ranks)

    def add(self, trip: Trip, diagnosis: Diagnosis | None, batches: Sequence[object]) -> list[BadBatch]:
        """Write down the batches of a step that tripped, unless they are not to blame; returns what is new.

        ``diagnosis`` may belong to an earlier step, if this one had none.
        """
        if trip.code in _NOT_OF_THE_BATCH or (diagnosis is not None and diagnosis.cause in _NOT_BY_THE_BATCH):
            return []
        is_own = diagnosis is not None and diagnosis.step == trip.step
        cause = diagnosis.cause if is_own and diagnosis else None
        samples = _samples_of(diagnosis) if is_own and diagnosis else ()
        new = [BadBatch(trip.step, trip.code, cause, samples, digest_of(batch)) for batch in batches]
        new = new[: MAX_BATCHES - len(self.found)]
        self.found.extend(new)
        return new


def _describe(known: BadBatch) -> str:
    cause = "" if known.cause is None else f", {known.cause}"
    return f"{known.code}{cause}, in step {known.step} of an earlier run"


def _samples_of(diagnosis: Diagnosis) -> tuple[str, ...]:
    if not diagnosis.origins:
        return tuple(f"sample {position} of the batch" for position in diagnosis.samples)
    return tuple(_origin_text(origin) for origin in diagnosis.origins)


def _origin_text(origin: Mapping[str, Any]) -> str:
    from datacheck.torch.loader.provenance import SampleOrigin

    names = ("uri", "row_group", "row", "replaces")
    return str(SampleOrigin(origin["index"], **{name: origin.get(name) for name in names}))
