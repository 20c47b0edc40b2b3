"""Looking at a sample, and looking again before it is called bad."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from datacheck.errors import OutputError
from datacheck.findings import Finding
from datacheck.torch.loader.errors import TooManyBadSamplesError
from datacheck.torch.loader.provenance import SampleOrigin
from datacheck.torch.loader.records import BadSample, Verdict, describe_error, error_finding
from datacheck.torch.loader.retry import Retries
from datacheck.torch.loader.sample_check import SampleJudge

__all__ = ["Inspector", "Look", "describe"]


@dataclass(frozen=True, slots=True)
class Look:
    """What one look at a sample gave: the sample, or what the data set raised, and what is wrong with it."""

    sample: Any = None
    error: Exception | None = None
    findings: tuple[Finding, ...] = ()
    origin: SampleOrigin | None = None
    is_passing: bool = False

    @property
    def is_clean(self) -> bool:
        return self.error is None and not self.findings


class Inspector:
    """Looks at samples.

    ``locate(index, sample)`` gives the origin of a sample where there is one, ``on_retry`` is called for each try more.
    """

    def __init__(
        self,
        judge: SampleJudge,
        retries: Retries,
        name: str,
        locate: Callable[[int, Any], SampleOrigin | None],
        on_retry: Callable[[], None],
    ) -> None:
        self.judge, self.retries, self.name = judge, retries, name
        self._locate, self._on_retry = locate, on_retry

    def look(self, index: int, load: Callable[[], Any], raw: Any = None) -> Look:
        """One look; passing errors are tried again."""
        try:
            sample = self.retries.call(load, self._on_retry)
            return Look(sample) if self.judge.is_clean(sample) else self.look_at(index, sample, raw)
        except Exception as error:
            return self.look_at_error(index, error, raw)

    def look_at(self, index: int, sample: Any, raw: Any = None) -> Look:
        """The exact look at a sample that the screen stopped. Raises what looking raises: an image is decoded only then.

        ``raw`` is what a stream gave before it was transformed, which may say where it comes from.
        """
        origin = self._locate(index, sample if raw is None else raw)
        findings = self.judge.judge(sample, *self.place(index, origin))
        return Look(sample, None, findings, origin)

    def look_at_error(self, index: int, error: Exception, raw: Any = None) -> Look:
        """What the data set raised, as a look. Raises it again if it is no word about a sample."""
        if isinstance(error, TooManyBadSamplesError | OutputError):
            raise error
        origin = self._locate(index, raw)
        uri, row, row_group = self.place(index, origin)
        file = origin.uri if origin is not None and origin.row is None else None
        finding = error_finding(error, uri, row, row_group, file)
        return Look(None, error, (finding,), origin, self.retries.is_passing(error))

    def place(self, index: int, origin: SampleOrigin | None) -> tuple[str, int | None, int | None]:
        """What findings say of where the sample comes from: its file and row, or the data set and the index."""
        if origin is None or origin.uri is None:
            return self.name, index, None
        return origin.uri, origin.row, origin.row_group

    def settle(self, index: int, first: Look, load: Callable[[], Any], raw: Any = None) -> tuple[Verdict | None, Look]:
        """The verdict on a sample whose first look was not clean, and the look that decided; None for a clean sample.

        A second look comes before the verdict: what a random transform did once is not held against the sample.
        """
        if first.is_passing:
            first = self.look(index, load, raw)
            if first.is_clean:
                return None, first
            if first.is_passing:
                return Verdict.PASSING, first
        second = self.look(index, load, raw)
        if second.is_clean:
            return Verdict.UNSTABLE, Look(second.sample, first.error, first.findings, first.origin)
        return (Verdict.PASSING if second.is_passing else Verdict.BAD), second


def describe(index: int, verdict: Verdict, look: Look, epoch: int, worker: int | None) -> BadSample:
    """A look as the record that is kept of it."""
    error = None if look.error is None else describe_error(look.error)
    return BadSample(index, verdict, look.findings, look.origin, error, epoch, worker)
