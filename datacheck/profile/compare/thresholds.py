"""Thresholds above which two datasets are reported as different, as written in the configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from datacheck.errors import ConfigurationError
from datacheck.schema.validation import validate

Keys = tuple[tuple[str, ...], ...]


def as_keys(written: Any) -> Any:
    """Parse keys: ``"a,b"`` is one key of two fields; a list holds several such keys, or lists of names."""
    if written is None:
        return ()
    if isinstance(written, str):
        written = [written]
    if not isinstance(written, list | tuple):
        return written
    return tuple(
        _split(key) if isinstance(key, str) else tuple(key) if isinstance(key, list) else key for key in written
    )


def _require_names(keys: Keys) -> Keys:
    if not all(keys):
        raise ValueError("must name a field in every key, such as a,b")
    return keys


def _split(key: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in key.split(",") if name.strip())


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class Thresholds(BaseModel):
    """Differences between two datasets to tolerate.

    A larger difference counts only if it is also statistically significant, because small samples always differ.

    Attributes:
        psi: population stability index of a numeric field.
        ks: two-sample Kolmogorov-Smirnov statistic of a numeric field, the largest distance of the distributions.
        distance: Jensen-Shannon distance (base 2) of a categorical field.
        rate: difference between rates of nulls, NaN or infinities; 0.01 is one percentage point.
        significance: the probability of a false alarm per field.
        key: keys that must not occur in two splits.
        exclude: fields not to compare.
        row_exclude: columns to leave out of whole rows, such as a row number.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, hide_input_in_errors=True, populate_by_name=True, defer_build=True
    )

    SYNONYMS: ClassVar[Mapping[str, str]] = {
        "keys": "'key'",
        "js": "'distance'",
        "jensen-shannon": "'distance'",
        "alpha": "'significance'",
        "p-value": "'significance'",
        "ignore": "'exclude'",
    }

    psi: Annotated[float, Field(gt=0)] = 0.25
    ks: Annotated[float, Field(gt=0, le=1)] = 0.2
    distance: Annotated[float, Field(gt=0, le=1)] = 0.2
    rate: Annotated[float, Field(ge=0, le=1)] = 0.01
    significance: Annotated[float, Field(gt=0, lt=1)] = 0.001
    key: Annotated[Keys, BeforeValidator(as_keys), AfterValidator(_require_names)] = ()
    exclude: Annotated[tuple[str, ...], BeforeValidator(_as_list)] = ()
    row_exclude: Annotated[tuple[str, ...], BeforeValidator(_as_list)] = Field(default=(), alias="row-exclude")


def read_thresholds(written: Mapping[str, Any], place: str) -> Thresholds:
    """Read thresholds from a configuration; ``place`` names it in errors. Raises ``ConfigurationError``."""
    return validate(Thresholds, written, place, ConfigurationError)
