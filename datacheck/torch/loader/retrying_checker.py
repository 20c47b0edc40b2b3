"""Load and check a sample, with retries, and a second time before it is called bad."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from datacheck.errors import OutputError
from datacheck.findings import Finding
from datacheck.torch.loader.errors import TooManyBadSamplesError
from datacheck.torch.loader.provenance import SampleOrigin
from datacheck.torch.loader.records import SampleVerdict, error_finding
from datacheck.torch.loader.retry import Retries
from datacheck.torch.loader.sample_check import SampleCheck


@dataclass(frozen=True, slots=True)
class CheckedSample:
    """The result of loading and checking a sample once: the sample, or the error the dataset raised, and the findings."""

    sample: Any = None
    error: Exception | None = None
    findings: tuple[Finding, ...] = ()
    origin: SampleOrigin | None = None
    is_transient: bool = False

    @property
    def is_clean(self) -> bool:
        return self.error is None and not self.findings


class RetryingChecker:
    """Loads and checks samples.

    ``locate(index, sample)`` returns the origin of a sample or None; ``count`` counts samples ``retried`` and ``tolerated``.
    """

    def __init__(
        self,
        sample_check: SampleCheck,
        retries: Retries,
        name: str,
        locate: Callable[[int, Any], SampleOrigin | None],
        count: Callable[[str], None],
    ) -> None:
        self.sample_check, self.retries, self.name = sample_check, retries, name
        self._locate, self._count = locate, count

    def check(self, index: int, load: Callable[[], Any], raw: Any = None) -> CheckedSample:
        """Load and check a sample; retries transient errors."""
        try:
            sample = self.retries.call(load, partial(self._count, "retried"))
            return (
                CheckedSample(sample) if self.sample_check.is_clean(sample) else self.check_sample(index, sample, raw)
            )
        except Exception as error:
            return self.check_error(index, error, raw)

    def check_sample(self, index: int, sample: Any, raw: Any = None) -> CheckedSample:
        """Check a sample exactly. Raises what its values raise: an image may be decoded only now.

        ``raw`` is the sample of a stream before ``transform``, which may hold its origin.
        """
        origin = self._locate(index, sample if raw is None else raw)
        found = self.sample_check.find_violations(sample, *self.location(index, origin))
        findings = self.sample_check.beyond_tolerances(found)
        if found and not findings:
            self._count("tolerated")
        return CheckedSample(sample, None, findings, origin)

    def check_error(self, index: int, error: Exception, raw: Any = None) -> CheckedSample:
        """Turn an error that the dataset raised into a finding. Raises it again if it is not about a sample."""
        if isinstance(error, TooManyBadSamplesError | OutputError):
            raise error
        origin = self._locate(index, raw)
        uri, row, row_group = self.location(index, origin)
        file = origin.uri if origin is not None and origin.row is None else None
        finding = error_finding(error, uri, row, row_group, file)
        return CheckedSample(None, error, (finding,), origin, self.retries.is_transient(error))

    def location(self, index: int, origin: SampleOrigin | None) -> tuple[str, int | None, int | None]:
        """The URI, row and row group for findings: the file's, or else the dataset's name and the index."""
        if origin is None or origin.uri is None:
            return self.name, index, None
        return origin.uri, origin.row, origin.row_group

    def recheck(
        self, index: int, first: CheckedSample, load: Callable[[], Any], raw: Any = None
    ) -> tuple[SampleVerdict | None, CheckedSample]:
        """Load and check again a sample that failed its first check. Returns the verdict (None: clean) and the last result.

        A random transform may have produced the bad value, so one failure does not make the sample bad.
        """
        if first.is_transient:
            first = self.check(index, load, raw)
            if first.is_clean:
                return None, first
            if first.is_transient:
                return SampleVerdict.TRANSIENT, first
        second = self.check(index, load, raw)
        if second.is_clean:
            return SampleVerdict.UNSTABLE, CheckedSample(second.sample, first.error, first.findings, first.origin)
        return (SampleVerdict.TRANSIENT if second.is_transient else SampleVerdict.BAD), second
