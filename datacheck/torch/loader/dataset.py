"""SafeDataset: a data set whose bad samples never reach the model, and of which every one is named."""

from __future__ import annotations

import operator
import os
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset

from datacheck.errors import UsageError
from datacheck.schema.loading import SchemaLike, load_schema
from datacheck.torch.loader.batched import has_batched_path, load_together
from datacheck.torch.loader.config import OnBad, SafeConfig, parse_policies
from datacheck.torch.loader.core import Core
from datacheck.torch.loader.index_complement import GoodIndices
from datacheck.torch.loader.index_tracking import is_noting, note_served
from datacheck.torch.loader.inspector import Look
from datacheck.torch.loader.provenance import SampleOrigin
from datacheck.torch.loader.repair import Repairer, load_cleaning, load_statistics, schema_reference
from datacheck.torch.loader.replacement import candidates
from datacheck.torch.loader.report import DatasetReport
from datacheck.torch.loader.scan import Progress, scan_all
from datacheck.torch.loader.skipped import SkippedSample

if TYPE_CHECKING:
    from datacheck.torch.loader.repair import CleaningLike, StatisticsLike

__all__ = ["SafeDataset", "is_stream"]

T = TypeVar("T")
S = TypeVar("S", covariant=True)


class Indexed(Protocol[S]):
    """What has samples by their number, such as a list."""

    def __getitem__(self, index: int, /) -> S: ...


class SafeDataset(Dataset[T]):
    """Wraps a data set so that a sample which raises, is not finite or breaks its schema never reaches the model.

    ::

        safe = SafeDataset(dataset, schema="schemas/train.yaml")
        for batch in DataLoader(safe, batch_size=32, num_workers=4):
            ...
        print(safe.report())

    It has the length and the order of the data set, takes the same indices, and can stand wherever a data set can. An
    iterable data set gives an iterable one. Split first and wrap then, so that a sample of the validation split never
    stands in for one of the training split. Attributes of the data set are at ``safe.dataset``.

    Args:
        dataset: any data set: map-style or iterable.
        schema: what samples must be; without one, every floating-point value must be finite. A path, a ``Schema``, a
            mapping, or whatever :func:`datacheck.load_schema` takes. Fields are paths in the sample: ``image``,
            ``meta.age``, ``0``.
        on_bad: ``"replace"`` serves another sample instead, always the same one, ``"raise"`` raises
            :class:`BadSampleError`, ``"skip"`` leaves it out (of a map-style data set through :class:`SafeCollate`),
            ``"repair"`` or ``("repair", other)`` mends it by ``cleaning`` and, where that cannot be, does the other.
        cleaning: for repairs, a pipeline file, whose schema is then used unless ``schema`` is given, or its rules.
        statistics: the file that ``datacheck fit`` wrote for these rules.
        quarantine: a JSON file of known bad samples. It is read now and added to by the main process.
        fingerprint: what tells this data set from others, where the quarantine should not find out for itself.
        max_bad_fraction: the share of bad samples above which :class:`TooManyBadSamplesError` is raised.
        max_attempts: how many samples are tried to replace one before :class:`BadSampleError` is raised.
        retries, backoff: how often a passing I/O error is tried again, and the seconds before the first time; each wait
            is twice as long as the one before.
        retry_on: further exceptions that pass.
        seed: for replacements. Give all ranks the same.
        replace_from: the indices that replacements may be drawn from; all of them unless set.
        transform: applied to each sample inside the protection. A stream survives what is raised here.
        name: what reports call the data set; the name of its class unless set.

    Raises ``UsageError``, ``SchemaError`` and their like for arguments that cannot be served.
    """

    def __new__(cls, dataset: Any = None, *args: Any, **options: Any) -> SafeDataset[T]:  # noqa: ARG004
        if cls is SafeDataset and dataset is not None and is_stream(dataset):
            from datacheck.torch.loader.stream import SafeIterableDataset

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
        if isinstance(dataset, DataLoader):
            raise UsageError(
                "a DataLoader serves batches; wrap its data set: DataLoader(SafeDataset(loader.dataset), ...)"
            )
        if isinstance(dataset, str | bytes | os.PathLike):
            raise UsageError(f"{dataset!r} is no data set; datacheck.torch.open_dataset opens a path")
        if not isinstance(quarantine, str | os.PathLike | None):
            raise UsageError(f"quarantine is the path of a JSON file, and is {quarantine!r}")
        streamed = is_stream(dataset)
        if not streamed and not hasattr(dataset, "__getitem__"):
            raise UsageError(f"{type(dataset).__name__} is no data set: it has neither __getitem__ nor __iter__")
        policies = parse_policies(on_bad)
        if cleaning is None and "repair" in policies:
            raise UsageError("on_bad='repair' needs cleaning='pipeline.yaml', or a list of cleaning rules")
        if cleaning is not None and "repair" not in policies:
            raise UsageError(f"cleaning is for repairs, and on_bad={on_bad!r} repairs nothing; set on_bad='repair'")
        if statistics is not None and cleaning is None:
            raise UsageError("statistics are those of cleaning rules: give these too, as cleaning='pipeline.yaml'")
        if isinstance(retry_on, type):
            retry_on = (retry_on,)
        config = SafeConfig(
            policy=policies[-1],
            repairs="repair" in policies,
            max_bad_fraction=max_bad_fraction,
            max_attempts=max_attempts,
            retries=retries,
            backoff=backoff,
            retry_on=retry_on,
            seed=seed,
            replace_from=replace_from,
            transform=transform,
        )
        if schema is None and cleaning is not None:
            schema = schema_reference(cleaning)
        loaded = load_schema(schema)
        repairer = None
        if config.repairs and cleaning is not None:
            repairer = Repairer(load_cleaning(cleaning), load_statistics(statistics), loaded)
        self.dataset: Any = dataset
        self._core = Core(
            dataset,
            config,
            loaded,
            repairer,
            is_stream=streamed,
            quarantine=quarantine,
            fingerprint=fingerprint,
            name=name,
        )
        if not streamed and config.policy == "replace" and self._core.num_samples() is None:
            raise UsageError(
                f"{self._core.name} has no length, so no sample can be drawn to replace a bad one; use on_bad='raise' "
                "or 'skip'"
            )
        if replace_from is not None and not streamed:
            self._check_pool(replace_from)
        self._start()

    def _check_pool(self, pool: Sequence[int]) -> None:
        num_samples = self._core.num_samples()
        indices = np.asarray(pool)
        if indices.ndim != 1 or not indices.size or indices.dtype.kind not in "iu":
            raise UsageError("replace_from must be the indices of one sample or more")
        if num_samples is not None and not (indices.min() >= 0 and indices.max() < num_samples):
            raise UsageError(
                f"replace_from has indices from {indices.min()} to {indices.max()}, and {self.name} has {num_samples:,} samples"
            )

    def _start(self) -> None:
        self._is_clean = self._core.inspector.judge.is_clean
        self._is_batched = has_batched_path(self.dataset)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_is_clean"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._start()

    def __repr__(self) -> str:
        inner = repr(self.dataset) if isinstance(self.dataset, Dataset) else type(self.dataset).__name__
        return f"{type(self).__name__}({inner}, on_bad={self._core.config.policy!r})"

    def __len__(self) -> int:
        # Samplers ask for the length at the start of an epoch, which is when a main process can write things down, and open
        # what its forks then need not.
        self._core.recorder.begin()
        self._core.write_quarantine(at_most_every=1.0)
        return len(self.dataset)

    def __getitem__(self, index: Any) -> T:
        core = self._core
        bad = core.recorder.begin()
        key = index if type(index) is int and index >= 0 else self._position(index)
        core.recorder.start(key)
        try:
            if key in bad:
                return self._instead(key, None)
            try:
                sample = self._load(key)
                look = None if self._is_clean(sample) else core.inspector.look_at(key, sample)
            except Exception as error:
                return self._after(key, error)
            if look is not None:
                return self._examine(key, look)
        finally:
            core.recorder.end()
        if is_noting():
            note_served(sample, (core.token, key, None))
        return sample  # type: ignore[no-any-return]

    def _after(self, key: int, error: Exception) -> T:
        """The sample to serve where the data set raised."""
        if not self._is_within(key, error):
            raise error
        return self._examine(key, self._core.inspector.look_at_error(key, error))

    def __getitems__(self, indices: Sequence[Any]) -> list[T]:
        """The samples of a batch; asked of the data set at once, where it can be asked so."""
        core = self._core
        bad = core.recorder.begin()
        keys = [index if type(index) is int and index >= 0 else self._position(index) for index in indices]
        if not keys or not self._is_batched or not bad.isdisjoint(keys):
            return self._batch_with_bad(keys) if self._is_batched else [self[key] for key in keys]
        core.recorder.start(keys[0], len(keys))
        try:
            samples = load_together(self.dataset, keys, core.config.transform)
        finally:
            core.recorder.end()
        if samples is None:
            core.recorder.count("seen", -len(keys))
            return [self[key] for key in keys]
        try:
            is_clean = core.inspector.judge.are_clean(samples)
        except Exception:  # one of them cannot be looked at; which one is found below
            is_clean = False
        if not is_clean:
            return [self._checked(key, sample) for key, sample in zip(keys, samples, strict=True)]
        if is_noting():
            for key, sample in zip(keys, samples, strict=True):
                note_served(sample, (core.token, key, None))
        return samples

    def _batch_with_bad(self, keys: list[int]) -> list[T]:
        """A batch of which some samples are known to be bad: the others are still asked for at once."""
        bad = self._core.recorder.bad
        good = [key for key in keys if key not in bad]
        fetched = dict(zip(good, self.__getitems__(good), strict=True)) if good else {}
        return [fetched[key] if key in fetched else self[key] for key in keys]

    def _checked(self, key: int, sample: Any) -> T:
        """A sample of a batch, or what is served instead."""
        core = self._core
        core.recorder.start_other(key)
        try:
            try:
                look = Look(sample) if self._is_clean(sample) else core.inspector.look_at(key, sample)
            except Exception as error:
                return self._after(key, error)
            return self._examine(key, look)
        finally:
            core.recorder.end()

    def _load(self, key: Any) -> Any:
        sample = self.dataset[key]
        transform = self._core.config.transform
        return sample if transform is None else transform(sample)

    def _position(self, index: Any) -> int:
        """An index as a number from 0; raises ``IndexError`` for one that is out of range."""
        try:
            key = operator.index(index)
        except TypeError:
            raise TypeError(
                f"the index of a sample must be a whole number, not {type(index).__name__}: a bad sample is known by it; "
                "give a loader that is to ask for many samples at once a batch_size, or a batch_sampler"
            ) from None
        if key < 0:
            key += len(self.dataset)
        if key < 0:
            raise IndexError(f"index {index} is out of range")
        return key

    def _is_within(self, key: int, error: Exception) -> bool:
        """Whether an error is one of a sample. Beyond the end there is none that could be bad, whatever is raised there."""
        num_samples = self._core.num_samples()
        return not isinstance(error, IndexError) if num_samples is None else key < num_samples

    def _examine(self, key: int, look: Look, replaces: int | None = None) -> T:
        """The sample to serve for a look that the screen, or the data set, did not let pass."""
        core = self._core
        settled = core.settle(key, look, lambda: self._load(key))
        core.tell_unchecked()
        if settled is None:
            return self._instead(key, look)
        if is_noting():
            note_served(settled.sample, (core.token, key, replaces))
        return settled.sample  # type: ignore[no-any-return]

    def _instead(self, key: int, look: Look | None) -> T:
        """What is served instead of a sample that is bad."""
        core = self._core
        policy = core.config.policy
        error = None if look is None else look.error
        if policy == "raise":
            raise core.refuse(key, error)
        if look is None:
            core.check_cap()
        if policy == "skip":
            core.recorder.count("skipped")
            return self._skip(key)  # type: ignore[no-any-return]
        return self._replacement(key, error)

    def _skip(self, key: int) -> Any:
        skipped = SkippedSample(key)
        if is_noting():
            note_served(skipped, (self._core.token, key, None))
        return skipped

    def _replacement(self, key: int, error: Exception | None) -> T:
        """The first good sample among those that may be drawn for this index in this epoch."""
        core, config = self._core, self._core.config
        pool = len(self.dataset) if config.replace_from is None else config.replace_from
        epoch = core.recorder.journal.epoch
        for candidate in candidates(config.seed, epoch, key, pool, config.max_attempts):
            if candidate in core.recorder.begin():
                continue
            core.recorder.start_other(candidate)
            look = core.inspector.look(candidate, lambda candidate=candidate: self._load(candidate))  # type: ignore[misc]
            settled = core.settle(candidate, look, lambda candidate=candidate: self._load(candidate))  # type: ignore[misc]
            if settled is not None:
                core.recorder.count("replaced")
                if is_noting():
                    note_served(settled.sample, (core.token, candidate, key))
                return settled.sample  # type: ignore[no-any-return]
        why = f"; none of {config.max_attempts} samples that could stand in for it is good"
        raise core.refuse(key, error, why)

    def set_epoch(self, epoch: int) -> None:
        """Say that an epoch begins, on every rank: replacements are drawn anew, and :meth:`synchronize` is called.

        A data set that has a ``set_epoch`` of its own is told too.
        """
        if not isinstance(epoch, int) or epoch < 0:
            raise UsageError(f"an epoch is a whole number, 0 or more, and this is {epoch!r}")
        self._core.recorder.journal.epoch = epoch
        inner = getattr(self.dataset, "set_epoch", None)
        if callable(inner):
            inner(epoch)
        self.synchronize()

    def synchronize(self) -> None:
        """Take up what workers found, share it among ranks, write it down, and hold it against ``max_bad_fraction``.

        Under ``torch.distributed`` this, and :meth:`set_epoch`, are the places where a data set that is too bad raises: on
        every rank at once, by the sum of their counts. Call it at the same point on all ranks. It waits for them.
        """
        self._core.synchronize()

    def report(self) -> DatasetReport:
        """Every bad sample that was seen so far in any process. Call it in the main process."""
        return self._core.report()

    @property
    def name(self) -> str:
        """What reports call the data set."""
        return self._core.name

    def origin(self, index: int) -> SampleOrigin | None:
        """Where a sample comes from, where the data set says it."""
        return self._core.origin(index)

    def check(
        self,
        *,
        num_workers: int = 0,
        progress: bool | Progress = False,
        batch_size: int = 64,
        multiprocessing_context: str | None = None,
    ) -> DatasetReport:
        """Look at every sample ahead of training; what is bad is known from then on.

        Here ``unique`` of the schema is judged too: all samples but the first of each key are bad.

        Args:
            num_workers: processes that look.
            progress: True for a line on the standard error, or a function of samples done, all samples, and bad ones.
            batch_size: samples that a worker takes at a time.
            multiprocessing_context: how workers are started: ``"fork"``, ``"spawn"``, ``"forkserver"``.
        """
        scan_all(self, num_workers, progress, batch_size, multiprocessing_context)
        return self.report()

    def examine(self, index: int) -> bool:
        """Look at one sample and record what is wrong with it; whether it can be served. Nothing stands in for it."""
        return self.look_over(index) is not None

    def look_over(self, index: int) -> Look | None:
        """The same, with the sample."""
        core = self._core
        if index in core.recorder.begin():
            return None
        core.recorder.start(index)
        try:
            look = core.inspector.look(index, lambda: self._load(index))
            settled = core.settle(index, look, lambda: self._load(index), within_cap=False)
        finally:
            core.recorder.end()
        core.tell_unchecked()
        return settled

    def compact(self) -> Subset[T]:
        """The samples that are not known to be bad, as a ``Subset`` whose length stays.

        Call it after :meth:`check`. Raises :class:`TooManyBadSamplesError`, and ``UsageError`` where the ranks of
        ``torch.distributed`` know of different bad samples, for they would train on different lengths.
        """
        core = self._core
        core.recorder.begin()
        core.write_quarantine()
        bad = sorted(core.recorder.bad)
        core.check_agreement(bad)
        core.raise_excess(0, len(bad), 0)
        return Subset(self, GoodIndices(len(self.dataset), bad))

    def state_dict(self) -> dict[str, Any]:
        """The epoch, and the samples that are known to be bad. ``StatefulDataLoader`` of torchdata calls it."""
        return self._core.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what :meth:`state_dict` gave."""
        self._core.load_state_dict(state)


def is_stream(dataset: Any) -> bool:
    """Whether a data set is iterated, not indexed."""
    if isinstance(dataset, SafeDataset):
        return isinstance(dataset, IterableDataset)
    if isinstance(dataset, IterableDataset):
        return True
    return hasattr(dataset, "__iter__") and not hasattr(dataset, "__getitem__")
