"""SafeDataset: a dataset whose bad samples are reported and never reach the model."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from torch.utils.data import Dataset, IterableDataset, Subset

from datacheck.errors import UsageError
from datacheck.schema.loading import SchemaLike
from datacheck.storage.documents import load_schema
from datacheck.torch.loader.config import (
    OnBad,
    SafeConfig,
    check_cleaning,
    check_dataset,
    check_pool,
    is_stream,
    parse_policies,
)
from datacheck.torch.loader.index_complement import IndexComplement
from datacheck.torch.loader.indexed import IndexedSamples, has_batched_path
from datacheck.torch.loader.provenance import SampleOrigin
from datacheck.torch.loader.repair import build_repairer, schema_reference
from datacheck.torch.loader.report import DatasetReport
from datacheck.torch.loader.scan import Progress, scan_all
from datacheck.torch.loader.stream import SafeIterator
from datacheck.torch.loader.tracker import BadSampleTracker

if TYPE_CHECKING:
    from datacheck.cleaning.fit.statistics import StatisticsLike
    from datacheck.torch.loader.repair import CleaningLike


T = TypeVar("T")
S = TypeVar("S", covariant=True)


class Indexed(Protocol[S]):
    """Anything that returns samples by index, such as a list."""

    def __getitem__(self, index: int, /) -> S: ...


class SafeDataset(IndexedSamples[T]):
    """Wraps a dataset so that samples which raise, are non-finite or violate the schema never reach the model.

    ::

        safe = SafeDataset(dataset, schema="schemas/train.yaml")
        for batch in DataLoader(safe, batch_size=32, num_workers=4):
            ...
        print(safe.report())

    It keeps the length, the order and the indices of the dataset, and can be used wherever the dataset can. Wrapping an
    iterable dataset gives an iterable dataset. Split first and wrap afterwards, so that no validation sample replaces a
    training sample. ``safe.dataset`` is the wrapped dataset.

    Args:
        dataset: any map-style or iterable dataset.
        schema: what samples must look like: a path, a ``Schema``, a mapping, or anything else that
            :func:`datacheck.load_schema` takes. Fields are paths in the sample: ``image``, ``meta.age``, ``0``. Default:
            every floating-point value must be finite.
        on_bad: what to do with a bad sample. ``"replace"``: serve another one, always the same. ``"raise"``: raise
            :class:`BadSampleError`. ``"skip"``: leave it out (map-style datasets need :class:`SafeCollate`).
            ``"repair"`` or ``("repair", other)``: fix it by the rules of ``cleaning``, and apply the other policy
            (default ``"replace"``) to what cannot be fixed.
        cleaning: the rules for repairs, or a pipeline file with them. ``schema`` defaults to the schema of that file.
        statistics: the file that ``datacheck fit`` wrote for these rules.
        quarantine: a JSON file of known bad samples. It is read now; the main process adds to it.
        fingerprint: identifies the dataset in the quarantine file. Default: computed from the dataset.
        max_bad_fraction: raise :class:`TooManyBadSamplesError` if a larger share of the samples is bad.
        max_attempts: raise :class:`BadSampleError` if none of this many samples that are not known to be bad can replace one.
        retries, backoff: how often to retry after a transient I/O error, and the seconds before the first retry; each
            wait is twice as long as the one before.
        retry_on: further exceptions to treat as transient.
        seed: selects the replacements. Must be the same on all ranks.
        replace_from: the indices to draw replacements from. Default: all.
        transform: applied to each sample, with its errors caught. A stream can continue after errors raised here.
        name: the name of the dataset in reports. Default: its class name.

    Raises:
        UsageError, SchemaError, PipelineError, CleaningError: for arguments that are not valid.
    """

    def __new__(cls, dataset: Any = None, *args: Any, **options: Any) -> SafeDataset[T]:  # noqa: ARG004
        if cls is SafeDataset and dataset is not None and is_stream(dataset):
            return object.__new__(SafeIterableDataset)
        return object.__new__(cls)

    def __init__(
        self,
        dataset: Dataset[T] | Indexed[T] | Iterable[T],
        *,
        schema: SchemaLike = None,
        on_bad: OnBad = "replace",
        cleaning: CleaningLike | None = None,
        statistics: StatisticsLike | None = None,
        quarantine: str | os.PathLike[str] | None = None,
        fingerprint: str | None = None,
        max_bad_fraction: float = 0.01,
        max_attempts: int = 10,
        retries: int = 3,
        backoff: float = 0.1,
        retry_on: type[BaseException] | tuple[type[BaseException], ...] = (),
        seed: int = 0,
        replace_from: Sequence[int] | None = None,
        transform: Callable[[Any], Any] | None = None,
        name: str | None = None,
    ) -> None:
        check_dataset(dataset)
        policies = parse_policies(on_bad)
        check_cleaning(on_bad, policies, cleaning, statistics)
        config = SafeConfig(
            policy=policies[-1],
            repairs="repair" in policies,
            max_bad_fraction=max_bad_fraction,
            max_attempts=max_attempts,
            retries=retries,
            backoff=backoff,
            retry_on=(retry_on,) if isinstance(retry_on, type) else retry_on,
            seed=seed,
            replace_from=replace_from,
            transform=transform,
        )
        loaded = load_schema(schema_reference(cleaning) if schema is None and cleaning is not None else schema)
        self.dataset = dataset
        self._tracker = BadSampleTracker(
            dataset,
            config,
            loaded,
            None if cleaning is None else build_repairer(cleaning, statistics, loaded),
            is_stream=is_stream(dataset),
            quarantine=quarantine,
            fingerprint=fingerprint,
            name=name,
        )
        if not self._tracker.is_stream:
            self._check_replacements()
        self._start()

    def _check_replacements(self) -> None:
        config, num_samples = self._tracker.config, self._tracker.num_samples()
        if config.policy == "replace" and num_samples is None:
            raise UsageError(
                f"{self.name} has no length, so no replacement can be drawn for a bad sample; use on_bad='raise' or 'skip'"
            )
        if config.replace_from is not None:
            check_pool(config.replace_from, num_samples, self.name)

    def _start(self) -> None:
        self._is_clean = self._tracker.checker.sample_check.is_clean
        self._is_batched = has_batched_path(self.dataset)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_is_clean"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._start()

    def __repr__(self) -> str:
        inner = repr(self.dataset) if isinstance(self.dataset, Dataset) else type(self.dataset).__name__
        return f"{type(self).__name__}({inner}, on_bad={self._tracker.config.policy!r})"

    def set_epoch(self, epoch: int) -> None:
        """Start an epoch: draw new replacements, and :meth:`synchronize`. Call it on every rank.

        Also calls ``set_epoch`` of the wrapped dataset if there is one.
        """
        if not isinstance(epoch, int) or epoch < 0:
            raise UsageError(f"epoch must be an integer >= 0, got {epoch!r}")
        self._tracker.recorder.event_log.epoch = epoch
        inner = getattr(self.dataset, "set_epoch", None)
        if callable(inner):
            inner(epoch)
        self._tracker.synchronize()

    def synchronize(self) -> None:
        """Collect what workers found, share it among ranks, save it, and compare it to ``max_bad_fraction``.

        Under ``torch.distributed`` it raises on every rank at once, by the sum of the counts. A ``DataLoader`` with a
        ``DistributedSampler`` of this dataset calls it when an epoch starts and ends, and :meth:`set_epoch` does. With other
        samplers, call it yourself at the same points on all ranks, since it waits for them: once before the first epoch, and
        at regular intervals. Where neither happens, a rank that has too many bad samples of its own raises alone.
        """
        self._tracker.recorder.event_log.is_compared = True
        self._tracker.synchronize()

    def report(self) -> DatasetReport:
        """Every bad sample found so far by any process. Call it in the main process."""
        return self._tracker.report()

    @property
    def name(self) -> str:
        """The name of the dataset in reports."""
        return self._tracker.name

    def origin(self, index: int) -> SampleOrigin | None:
        """The file and row of a sample, or None where the dataset does not tell."""
        return self._tracker.origin(index)

    def check(
        self,
        *,
        num_workers: int = 0,
        progress: bool | Progress = False,
        batch_size: int = 64,
        multiprocessing_context: str | None = None,
    ) -> DatasetReport:
        """Check every sample ahead of training. Bad samples are known from then on.

        Also checks ``unique`` of the schema: all samples but the first with a key are bad. Rules of the schema about the
        dataset as a whole are judged on the good samples.

        Args:
            num_workers: number of worker processes.
            progress: True to print a line to stderr, or a function of the samples done, all samples, and the bad ones.
            batch_size: samples that a worker takes at a time.
            multiprocessing_context: how workers are started: ``"fork"``, ``"spawn"``, ``"forkserver"``.
        """
        scan_all(
            self._tracker,
            self._examine,
            len(self),
            num_workers=num_workers,
            progress=progress,
            batch_size=batch_size,
            multiprocessing_context=multiprocessing_context,
        )
        return self.report()

    def examine(self, index: int) -> bool:
        """Check one sample and record what is wrong with it; returns whether it can be served. Nothing replaces it."""
        return self._examine(index) is not None

    def compact(self) -> Subset[T]:
        """The samples that are not known to be bad, as a ``Subset`` of fixed length.

        Call it after :meth:`check`. Raises :class:`TooManyBadSamplesError`, and ``UsageError`` where the ranks of
        ``torch.distributed`` know different bad samples, since they would train on different lengths.
        """
        tracker = self._tracker
        tracker.recorder.begin()
        tracker.write_quarantine()
        bad = sorted(tracker.recorder.bad)
        tracker.check_agreement(bad)
        tracker.raise_excess(0, len(bad), 0)
        return Subset(self, IndexComplement(len(self.dataset), bad))

    def state_dict(self) -> dict[str, Any]:
        """The epoch and the known bad samples. ``StatefulDataLoader`` of torchdata calls it."""
        return self._tracker.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
        self._tracker.load_state_dict(state)


class SafeIterableDataset(SafeDataset[T], IterableDataset[T]):
    """What ``SafeDataset`` makes of an iterable dataset. Samples have a position in the stream instead of an index.

    With ``on_bad="replace"`` a recent good sample is served again, so that every rank still gets the same number of
    samples; with ``"skip"`` the bad one is left out. A stream yields a sample only once, so it is not loaded a second time
    before it is called bad; only ``transform`` is applied again.

    A generator cannot continue after it raised. Raise in ``transform``, or give WebDataset's stages
    ``handler=datacheck.torch.continue_and_report``.
    """

    def __iter__(self) -> Iterator[T]:
        return SafeIterator(self.dataset, self._tracker)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: Any) -> T:
        raise TypeError(f"{self.name} is iterable: its samples have no index")

    # Otherwise a loader would ask for batches by index.
    __getitems__ = None  # type: ignore[assignment]

    def check(self, **_: Any) -> DatasetReport:
        """Raises ``UsageError``: a stream need not yield the same samples again."""
        raise UsageError(f"{self.name} is iterable and cannot be checked ahead; iterate it once, then see report()")

    def compact(self) -> Subset[T]:
        """Raises ``UsageError``: a stream has no indices to leave out."""
        raise UsageError(f"{self.name} is iterable and has no indices; use on_bad='skip'")
