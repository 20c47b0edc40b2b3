"""Serve the samples of a map-style dataset, one at a time or a batch at a time, and replace bad ones."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from torch.utils.data import Dataset, Subset

from datacheck.torch.loader.index_tracking import is_tracking, track_sample
from datacheck.torch.loader.ranks import compare_at_the_end, is_epoch_of_all_ranks
from datacheck.torch.loader.replacement import candidates
from datacheck.torch.loader.retrying_checker import CheckedSample
from datacheck.torch.loader.skipped import SkippedSample
from datacheck.torch.loader.tracker import BadSampleTracker

T = TypeVar("T")


class IndexedSamples(Dataset[T]):
    """Access by index. A subclass sets the attributes."""

    dataset: Any
    _tracker: BadSampleTracker
    #: The screen; not pickled.
    _is_clean: Callable[[Any], bool]
    #: Whether the dataset loads whole batches.
    _is_batched: bool

    def __len__(self) -> int:
        # Samplers ask for the length when an epoch starts. That is when the main process can write the quarantine, and open
        # what its forked workers then inherit.
        self._tracker.recorder.begin()
        if is_epoch_of_all_ranks():
            compare_at_the_end(self._tracker.recorder.event_log, self._tracker.synchronize)
            self._tracker.synchronize()
        else:
            self._tracker.write_quarantine(at_most_every=1.0)
        return len(self.dataset)

    def __getitem__(self, index: Any) -> T:
        tracker = self._tracker
        bad = tracker.recorder.begin()
        key = index if type(index) is int and index >= 0 else self._position(index)
        tracker.recorder.start(key)
        try:
            if key in bad:
                return self._serve_bad(key, None)
            try:
                sample = self._load(key)
                checked = None if self._is_clean(sample) else tracker.checker.check_sample(key, sample)
            except Exception as error:
                return self._handle_error(key, error)
            if checked is not None:
                return self._resolve(key, checked)
        finally:
            tracker.recorder.end()
        return self._serve(sample, key) if is_tracking() else sample

    def __getitems__(self, indices: Sequence[Any]) -> list[T]:
        """The samples of a batch, loaded in one call if the dataset can."""
        tracker = self._tracker
        bad = tracker.recorder.begin()
        keys = [index if type(index) is int and index >= 0 else self._position(index) for index in indices]
        if not keys or not self._is_batched or not bad.isdisjoint(keys):
            return self._batch_with_bad(keys) if self._is_batched else [self[key] for key in keys]
        tracker.recorder.start(keys[0], len(keys))
        try:
            samples = _load_batch(self.dataset, keys, tracker.config.transform)
        finally:
            tracker.recorder.end()
        if samples is None:
            tracker.recorder.count("seen", -len(keys))
            return [self[key] for key in keys]
        try:
            is_clean = tracker.checker.sample_check.are_clean(samples)
        except Exception:  # the check of each sample shows which one raised
            is_clean = False
        if not is_clean:
            return [self._check_loaded(key, sample) for key, sample in zip(keys, samples, strict=True)]
        return list(map(self._serve, samples, keys)) if is_tracking() else samples

    def _batch_with_bad(self, keys: list[int]) -> list[T]:
        """A batch with samples that are known to be bad; the others are still loaded in one call."""
        bad = self._tracker.recorder.bad
        good = [key for key in keys if key not in bad]
        loaded = dict(zip(good, self.__getitems__(good), strict=True)) if good else {}
        return [loaded[key] if key in loaded else self[key] for key in keys]

    def _check_loaded(self, key: int, sample: Any) -> T:
        """Check one sample of a batch; returns it, or what is served instead."""
        tracker = self._tracker
        tracker.recorder.start_other(key)
        try:
            try:
                checked = CheckedSample(sample) if self._is_clean(sample) else tracker.checker.check_sample(key, sample)
            except Exception as error:
                return self._handle_error(key, error)
            return self._resolve(key, checked)
        finally:
            tracker.recorder.end()

    def _load(self, key: Any) -> Any:
        sample = self.dataset[key]
        transform = self._tracker.config.transform
        return sample if transform is None else transform(sample)

    def _position(self, index: Any) -> int:
        """An index counted from 0. Raises ``TypeError`` and ``IndexError``."""
        try:
            key = operator.index(index)
        except TypeError:
            raise TypeError(
                f"expected an integer index, got {type(index).__name__}: bad samples are recorded by index; "
                "to load many samples at once, give the loader a batch_size or a batch_sampler"
            ) from None
        if key < 0:
            key += len(self.dataset)
        if key < 0:
            raise IndexError(f"index {index} is out of range")
        return key

    def _handle_error(self, key: int, error: Exception) -> T:
        """The sample to serve if the dataset raised."""
        num_samples = self._tracker.num_samples()
        is_in_range = not isinstance(error, IndexError) if num_samples is None else key < num_samples
        if not is_in_range:
            raise error
        return self._resolve(key, self._tracker.checker.check_error(key, error))

    def _resolve(self, key: int, checked: CheckedSample) -> T:
        """The sample to serve for one that failed the screen or could not be loaded."""
        tracker = self._tracker
        served = tracker.resolve(key, checked, lambda: self._load(key))
        tracker.warn_unchecked()
        if served is None:
            return self._serve_bad(key, checked)
        return self._serve(served.sample, key)

    def _serve(self, sample: Any, key: int, replaces: int | None = None) -> T:
        """Serve the sample of an index; :class:`SafeCollate` then knows which one it is."""
        if is_tracking():
            track_sample(sample, (self._tracker.token, key, replaces))
        return sample  # type: ignore[no-any-return]

    def _serve_bad(self, key: int, checked: CheckedSample | None) -> T:
        """Apply the policy to a bad sample; ``checked`` is None if it was known before."""
        tracker = self._tracker
        policy = tracker.config.policy
        error = None if checked is None else checked.error
        if policy == "raise":
            raise tracker.bad_sample_error(key, error)
        if checked is None:
            tracker.check_cap()
        if policy == "skip":
            tracker.recorder.count("skipped")
            return self._serve(SkippedSample(key), key)
        return self._replacement(key, error)

    def _replacement(self, key: int, error: Exception | None) -> T:
        """The first good sample among the candidates for this index in this epoch."""
        tracker, config = self._tracker, self._tracker.config
        pool = len(self.dataset) if config.replace_from is None else config.replace_from
        epoch = tracker.recorder.event_log.epoch
        num_known = num_tried = 0
        for candidate in candidates(config.seed, epoch, key, pool, config.max_attempts):
            if candidate in tracker.recorder.begin():
                num_known += 1
                continue
            if num_tried == config.max_attempts:
                break
            num_tried += 1
            tracker.recorder.start_other(candidate)
            served = self._check_and_resolve(candidate)
            if served is not None:
                tracker.recorder.count("replaced")
                return self._serve(served.sample, candidate, key)
        tried = f"{num_tried:,} tried, {num_known:,} known to be bad"
        raise tracker.bad_sample_error(key, error, f"; no good sample was found to replace it ({tried})")

    def _check_and_resolve(self, key: int, *, within_cap: bool = True) -> CheckedSample | None:
        """Load and check a sample. None if it must not be served."""

        def load() -> Any:
            return self._load(key)

        return self._tracker.resolve(key, self._tracker.checker.check(key, load), load, within_cap=within_cap)

    def _examine(self, index: int) -> CheckedSample | None:
        """Load and check one sample, and record what is wrong with it. None for a bad one."""
        tracker = self._tracker
        if index in tracker.recorder.begin():
            return None
        tracker.recorder.start(index)
        try:
            served = self._check_and_resolve(index, within_cap=False)
        finally:
            tracker.recorder.end()
        tracker.warn_unchecked()
        return served


def has_batched_path(dataset: Any) -> bool:
    """Whether a dataset loads whole batches. ``Subset`` always has the method; the dataset inside it decides."""
    if isinstance(dataset, Subset) and type(dataset).__getitems__ is Subset.__getitems__:
        return has_batched_path(dataset.dataset)
    return callable(getattr(dataset, "__getitems__", None))


def _load_batch(dataset: Any, keys: list[int], transform: Callable[[Any], Any] | None) -> list[Any] | None:
    """The samples of ``keys``; None if they must be loaded one by one.

    One bad row makes the whole call fail, and not every dataset returns a list with one sample per key.
    """
    try:
        samples = dataset.__getitems__(keys)
        if not isinstance(samples, list | tuple) or len(samples) != len(keys):
            return None
        return list(samples) if transform is None else list(map(transform, samples))
    except Exception:  # loading one by one shows which one raised
        return None
