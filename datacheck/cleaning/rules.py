"""The rules of a pipeline's ``clean:`` list: what to do about which codes in which fields.

``fields`` (a name, a pattern with ``*`` and ``?``, or a list of them) and ``codes`` (a code such as ``DC101``, a prefix
such as ``DC2``, or a list of them) limit a rule. A rule that names a list field also applies to its values: ``emb`` also
means ``emb[]``. A struct's fields are named one by one (``s.x``) or by a pattern (``s.*``).
"""

from __future__ import annotations

import math
import re
import string
from collections.abc import Mapping
from functools import lru_cache
from typing import Annotated, Any, Literal, TypeAlias, TypeGuard

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    model_validator,
)
from pydantic import Field as ModelField

from datacheck.checks.structure import INDICATOR_SUFFIX
from datacheck.codes import CODES, OWN_CODE, codes_with_prefix
from datacheck.errors import nearest_name
from datacheck.schema.validation import fault
from datacheck.text import join_limited, plain

#: A value that a rule writes, or that was learned.
Scalar: TypeAlias = bool | int | float | str

#: The codes whose values an impute rule can replace.
_REPAIRABLE = {number: code for number, code in CODES.items() if code.repairable}
#: The codes that a clip rule can repair, by the end of the range that the values lie beyond.
_BELOW = frozenset(number for number, code in CODES.items() if code.side == "lower")
_ABOVE = frozenset(number for number, code in CODES.items() if code.side == "upper")


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _known_codes(codes: tuple[str, ...]) -> tuple[str, ...]:
    for code in codes:
        if not ((code.startswith("DC") and codes_with_prefix(code)) or OWN_CODE.fullmatch(code)):
            raise ValueError(f"{plain(code)!r} is not a code or the start of one{nearest_name(code, CODES)}")
    return codes


def _codes_named(names: tuple[str, ...] | None) -> frozenset[str]:
    """The codes of a rule: those that it has in full, and the errors of a prefix; every error without names.

    A warning or a note must be named.
    """
    selected = CODES.keys() if names is None else codes_with_prefix(*names)
    return frozenset(code for code in selected if CODES[code].is_error or code in (names or ()))


def _number(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"expected a number, got {plain(repr(value), 60)}")
    return _finite(value)


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"expected a finite number, got {value}")
    return value


def _as_values(values: Any) -> Any:
    return [values] if isinstance(values, bool | int | float | str) else values


def _not_empty(names: tuple[Any, ...]) -> tuple[Any, ...]:
    if not names:
        raise ValueError("is an empty list; remove it to match all")
    return names


_Names = Annotated[tuple[StrictStr, ...], BeforeValidator(_listed), AfterValidator(_not_empty)]
_Codes = Annotated[_Names, AfterValidator(_known_codes)]
_Number = Annotated[int | float, BeforeValidator(_number)]


class _Rule(BaseModel):
    """What every rule has.

    Attributes:
        fields: names or patterns of the fields that the rule is for; all by default.
        codes: codes (``DC101``), or prefixes (``DC2``) of which it takes the errors; by default every error that it can act on.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    fields: _Names | None = None
    codes: _Codes | None = None

    def matches(self, path: str | None) -> bool:
        """Whether the rule applies to a field or leaf."""
        return self.fields is None or any(path_matches(name, path) for name in self.fields)

    @property
    def covered(self) -> frozenset[str]:
        """The codes that the rule applies to; every error without ``codes``."""
        return _codes_named(self.codes)


class DropRow(_Rule):
    """Remove the row."""

    action: Literal["drop_row"]


class Quarantine(_Rule):
    """Move the row, unrepaired, to the quarantine with its reasons."""

    action: Literal["quarantine"]


class Fail(_Rule):
    """Fail the run, and publish nothing."""

    action: Literal["fail"]


class Report(_Rule):
    """Keep the row as it is, and report the finding."""

    action: Literal["report"]


class DropField(_Rule):
    """Remove the field from the output."""

    action: Literal["drop_field"]
    fields: _Names
    codes: None = None


class NanToNum(_Rule):
    """Replace NaN, +inf and -inf, each only if a value is given for it.

    Attributes:
        nan, posinf, neginf: what replaces NaN, +inf and -inf.
    """

    action: Literal["nan_to_num"]
    nan: _Number | None = None
    posinf: _Number | None = None
    neginf: _Number | None = None

    @model_validator(mode="after")
    def _check(self) -> NanToNum:
        if self.nan is None and self.posinf is None and self.neginf is None:
            raise fault("nan", "give at least one of nan, posinf and neginf")
        if not self.covered:
            raise fault("codes", "matches no code that the rule has a value for")
        return self

    @property
    def replacements(self) -> dict[str, float]:
        said = {"DC101": self.nan, "DC102": self.posinf, "DC103": self.neginf}
        return {code: value for code, value in said.items() if value is not None and _names_code(self.codes, code)}

    @property
    def covered(self) -> frozenset[str]:
        return frozenset(self.replacements)


class Impute(_Rule):
    """Replace missing values: NaN, null and what the schema lists as ``missing``, or the values with the given ``codes``.

    The statistic is learned from the training split. ``per_feature`` learns one for each index of the last axis of
    arrays with a fixed shape. ``indicator`` adds a boolean field that is true where a value was missing: in the shape of
    an array, or one value per row of a nested column. It is named ``{field}_missing``, or by a template.

    Attributes:
        strategy: where the value comes from.
        value: the constant.
        indicator: whether to add a field that says where a value was missing, or a template of its name.
        per_feature: whether to learn a value for each index of the last axis.
    """

    action: Literal["impute"]
    strategy: Literal["constant", "mean", "median", "most_frequent"]
    value: Annotated[StrictBool | StrictInt | StrictFloat | StrictStr | None, BeforeValidator(_finite)] = None
    codes: _Codes = ("DC101", "DC104", "DC110")
    indicator: StrictBool | StrictStr = False
    per_feature: StrictBool = False

    @model_validator(mode="after")
    def _check(self) -> Impute:
        if self.strategy == "constant" and self.value is None:
            raise fault("value", "is required by strategy 'constant'")
        if self.strategy != "constant" and self.value is not None:
            raise fault("value", f"strategy {self.strategy!r} learns its value; remove this key")
        if self.strategy == "constant" and self.per_feature:
            raise fault("per_feature", "a constant is the same for every feature")
        for code in self.codes:
            if not codes_with_prefix(code) & _REPAIRABLE.keys():
                known = ", ".join(_REPAIRABLE)
                raise fault("codes", f"{code} does not identify single values; choose from {known}")
        if isinstance(self.indicator, str) and not _is_template(self.indicator):
            raise fault("indicator", "expected true or a name that contains {field}, such as '{field}_missing'")
        return self

    @property
    def covered(self) -> frozenset[str]:
        return _codes_named(self.codes) & _REPAIRABLE.keys()

    def indicator_name(self, path: str | None) -> str | None:
        """The name of the indicator field of a leaf; None for a rule without one."""
        if self.indicator is False:
            return None
        template = f"{{field}}{INDICATOR_SUFFIX}" if self.indicator is True else self.indicator
        name = path or ""
        while name.endswith("[]"):
            name = name.removesuffix("[]")
        return template.replace("{field}", name)


class Clip(_Rule):
    """Clip values to bounds: ``ge`` and ``le``, learned ``quantiles``, or the schema's (the default).

    Without ``codes``, finite values are clipped at both ends. With them, only the named ones: finite values below
    (DC201, DC203) or above (DC202, DC204), +inf (DC102), -inf (DC103). NaN and null never change. For an exclusive bound
    of the schema (``gt``, ``lt``), a value is clipped to the nearest value of its dtype inside the bound.

    Attributes:
        ge, le: the least and the greatest value.
        bounds: the schema's.
        quantiles: two quantiles to learn bounds from, such as ``[0.01, 0.99]``.
        per_feature: whether to learn bounds for each index of the last axis.
    """

    action: Literal["clip"]
    ge: _Number | None = None
    le: _Number | None = None
    bounds: Literal["schema"] | None = None
    quantiles: tuple[_Number, _Number] | None = None
    per_feature: StrictBool = False

    @model_validator(mode="after")
    def _check(self) -> Clip:
        ways = [self.ge is not None or self.le is not None, self.bounds is not None, self.quantiles is not None]
        if sum(ways) > 1:
            raise fault("bounds", "give bounds in one way only: ge and le, bounds: schema, or quantiles")
        if self.ge is not None and self.le is not None and self.ge > self.le:
            raise fault("ge", f"{self.ge} is above le, {self.le}")
        if self.quantiles is not None and not 0 <= self.quantiles[0] < self.quantiles[1] <= 1:
            raise fault("quantiles", f"expected two increasing numbers between 0 and 1, got {list(self.quantiles)}")
        if self.per_feature and self.quantiles is None:
            raise fault("per_feature", "applies only to quantiles; ge and le are the same for every feature")
        missing = _ABOVE if self.ge is not None and self.le is None else frozenset()
        missing |= _BELOW if self.le is not None and self.ge is None else frozenset()
        if not self.covered or (self.codes is not None and self.covered <= missing):
            raise fault("codes", "matches no code that the rule can clip (DC102, DC103, DC201 to DC204)")
        return self

    @property
    def by_schema(self) -> bool:
        return self.ge is None and self.le is None and self.quantiles is None

    @property
    def covered(self) -> frozenset[str]:
        if self.codes is None:
            named = frozenset(code for code in _BELOW | _ABOVE if not CODES[code].allowable)
        else:
            named = _codes_named(self.codes)
        below = _BELOW if self.ge is not None or self.le is None else frozenset()
        above = _ABOVE if self.le is not None or self.ge is None else frozenset()
        return named & (below | above)


class ToNull(_Rule):
    """Make values null: what the schema lists as ``missing``, or the values with the given ``codes``.

    In an array, which has no nulls, a floating-point value becomes NaN.
    """

    action: Literal["to_null"]
    codes: _Codes = ("DC110",)

    @model_validator(mode="after")
    def _check(self) -> ToNull:
        _require_repairable(self.codes, self.covered)
        return self

    @property
    def covered(self) -> frozenset[str]:
        return _codes_named(self.codes) & _REPAIRABLE.keys() - {"DC104"}


class Replace(_Rule):
    """Replace the values in ``to_replace`` with ``value``.

    A violation that the rule may replace is left to it: what it leaves is quarantined. ``codes`` limits which those are.

    Attributes:
        to_replace: the values to replace.
        value: what replaces them.
    """

    action: Literal["replace"]
    to_replace: Annotated[
        tuple[StrictBool | StrictInt | StrictFloat | StrictStr, ...],
        BeforeValidator(_as_values),
        AfterValidator(_not_empty),
    ]
    value: Annotated[StrictBool | StrictInt | StrictFloat | StrictStr, BeforeValidator(_finite)]

    @model_validator(mode="after")
    def _check(self) -> Replace:
        if self.codes is not None:
            _require_repairable(self.codes, self.covered)
        return self

    @property
    def covered(self) -> frozenset[str]:
        named = _REPAIRABLE.keys() if self.codes is None else _codes_named(self.codes) & _REPAIRABLE.keys()
        return frozenset(named) - {"DC101", "DC102", "DC103", "DC104"}


def _require_repairable(codes: tuple[str, ...], covered: frozenset[str]) -> None:
    if not covered:
        raise fault(
            "codes", f"{', '.join(codes)} does not identify single values; choose from {', '.join(_REPAIRABLE)}"
        )


Repair: TypeAlias = NanToNum | Impute | Clip | ToNull | Replace
_AnyRule: TypeAlias = Repair | DropField | DropRow | Quarantine | Fail | Report


_MODELS: dict[str, type[_Rule]] = {
    "nan_to_num": NanToNum,
    "impute": Impute,
    "clip": Clip,
    "to_null": ToNull,
    "replace": Replace,
    "drop_field": DropField,
    "drop_row": DropRow,
    "quarantine": Quarantine,
    "fail": Fail,
    "report": Report,
}


def _check_keys(rule: Any) -> Any:
    """Suggest the nearest action or key, which pydantic does not for a union of models."""
    if not isinstance(rule, Mapping):
        return rule
    action = rule.get("action")
    if action is None:
        raise fault("action", f"is required; choose from {join_limited(list(_MODELS))}")
    model = _MODELS.get(action) if isinstance(action, str) else None
    if model is None:
        hint = nearest_name(str(action), _MODELS) or f"; choose from {join_limited(list(_MODELS))}"
        raise fault("action", f"unknown action {plain(str(action), 60)!r}{hint}")
    for key in rule:
        if key not in model.model_fields:
            hint = (
                nearest_name(str(key), model.model_fields)
                or f"; choose from {join_limited(list(model.model_fields), 12)}"
            )
            raise fault(str(key), f"unknown key of {action}{hint}")
    return rule


Rule = Annotated[_AnyRule, ModelField(discriminator="action"), BeforeValidator(_check_keys)]


def is_repair(rule: BaseModel) -> TypeGuard[Repair]:
    """Whether a rule changes values."""
    return isinstance(rule, NanToNum | Impute | Clip | ToNull | Replace)


def is_pattern(name: str) -> bool:
    return "*" in name or "?" in name


def path_matches(name: str, path: str | None) -> bool:
    """Whether a field name or pattern of a rule matches a leaf path. The name of a list also matches its values and columns."""
    if path is None:
        return name == "*"
    expression = _compiled(name)
    while not expression.fullmatch(path):
        if not path.endswith("]"):
            return False
        path = path.rpartition("[")[0]
    return True


@lru_cache(maxsize=4096)
def _compiled(name: str) -> re.Pattern[str]:
    return re.compile(re.escape(name).replace(r"\*", ".*").replace(r"\?", "."), re.DOTALL)


def _names_code(codes: tuple[str, ...] | None, code: str) -> bool:
    return codes is None or code in _codes_named(codes)


def _is_template(text: str) -> bool:
    try:
        names = [name for _, name, _, _ in string.Formatter().parse(text) if name is not None]
    except ValueError:
        return False
    return names == ["field"]
