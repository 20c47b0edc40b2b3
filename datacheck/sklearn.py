"""Cleaning as a step of a scikit-learn pipeline (``pip install 'datacheck-ml[sklearn]'``).

>>> from datacheck.sklearn import Cleaner  # doctest: +SKIP
>>> model = make_pipeline(Cleaner([{"action": "impute", "strategy": "median"}]), LogisticRegression())  # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np

from datacheck.cleaning.plan import CleaningPlan, is_learned, parse_plan
from datacheck.cleaning.rules import Impute
from datacheck.errors import FindingsError, UsageError
from datacheck.jobs.in_memory import CleanData, clean_data
from datacheck.reports.text import errors_text
from datacheck.schema.loading import SchemaLike
from datacheck.text import join_limited

try:
    from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError as error:
    raise ImportError(
        f"datacheck.sklearn needs scikit-learn 1.6 or later ({error}): pip install 'datacheck-ml[sklearn]'"
    ) from error

__all__ = ["Cleaner"]

Array: TypeAlias = np.ndarray[Any, Any]

#: The actions that would take rows away, which no transformer may: the rows of ``y`` would stay.
_ABOUT_ROWS = frozenset({"drop_row", "quarantine"})


class Cleaner(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Repairs values, and refuses those that no rule repairs.

    What rules learn (means, medians, quantiles) they learn in ``fit``, from the training data alone. No row is ever removed;
    remove rows with :func:`datacheck.clean_data` before the pipeline.

    Args:
        rules: repairs in order, as under ``clean:`` in a pipeline file, such as ``[{"action": "impute", "strategy": "median",
            "fields": ["age"]}]``. Without any, nothing is repaired: NaN and infinities are errors.
        schema: what the data must be, as for :func:`datacheck.scan`.
        otherwise: what happens to a violation that no rule repairs: ``fail`` raises ``FindingsError``, which is a
            ``ValueError``, and ``report`` leaves it where it is.

    ``X`` is a frame of pandas or polars, and stays one, or an array ``(num_samples, num_features)``, whose columns are called
    ``x0``, ``x1`` and so on. ``set_output`` chooses another type.

    Attributes:
        statistics_: what the rules learned; None if no rule learns.
        report_: the :class:`~datacheck.RunReport` on the data that it was fitted on.
        n_features_in_, feature_names_in_: as in every transformer.
    """

    def __init__(
        self,
        rules: Sequence[Mapping[str, Any]] = (),
        schema: SchemaLike = None,
        otherwise: Literal["fail", "report"] = "fail",
    ) -> None:
        self.rules = rules
        self.schema = schema
        self.otherwise = otherwise

    def fit(self, X: Any, y: Any = None) -> Cleaner:  # noqa: ARG002, N803 - the names that scikit-learn uses
        """Learn what the rules need. Raises ``FindingsError`` for a violation that no rule repairs."""
        self._fit(X)
        return self

    def fit_transform(self, X: Any, y: Any = None, **fit_params: Any) -> Any:  # noqa: ARG002, N803
        """Fit, and return the same data cleaned."""
        return self._fit(X)

    def transform(self, X: Any) -> Any:  # noqa: N803
        """The data with repaired values. Raises ``FindingsError`` for a violation that no rule repairs."""
        check_is_fitted(self, "report_")
        columns, validated = self._columns(X, reset=False)
        return _like(self._clean(columns).data, validated)

    def get_feature_names_out(self, input_features: Any = None) -> Array:
        """The names of the columns that ``transform`` returns, ``(num_features_out,)``."""
        check_is_fitted(self, "report_")
        names = _input_names(self, input_features)
        renamed = dict(zip(self._names_in, names, strict=True))
        for rule in self._plan().rules:
            if isinstance(rule, Impute) and rule.indicator:
                pairs = zip(self._names_in, names, strict=True)
                renamed |= {str(rule.indicator_name(old)): str(rule.indicator_name(new)) for old, new in pairs}
        return np.array([renamed.get(name, name) for name in self._names_out], object)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        repairs_nan = any("DC101" in rule.covered for rule in self._plan().rules)
        tags.input_tags.allow_nan = repairs_nan or self.otherwise == "report"
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def _plan(self) -> CleaningPlan:
        if self.otherwise not in ("fail", "report"):
            raise UsageError(
                f"otherwise: expected 'fail' or 'report', got {self.otherwise!r}: a transformer keeps every row"
            )
        plan = parse_plan(self.rules, self.otherwise, "Cleaner")
        for index, rule in enumerate(plan.rules):
            if rule.action in _ABOUT_ROWS:
                raise UsageError(
                    f"{plan.location(index)}: a transformer keeps every row, so it cannot {rule.action}; remove rows with "
                    "datacheck.clean_data before the pipeline"
                )
        return plan

    def _fit(self, X: Any) -> Any:  # noqa: N803
        self._plan()
        columns, validated = self._columns(X, reset=True)
        self.statistics_ = None
        cleaned = self._clean(columns)
        self.statistics_, self.report_ = cleaned.statistics, cleaned.report
        self._names_in, self._names_out = _names(columns), _names(cleaned.data)
        return _like(cleaned.data, validated)

    def _columns(self, X: Any, *, reset: bool) -> tuple[Any, Any]:  # noqa: N803
        """The data as columns with names, and as it was validated."""
        if hasattr(X, "columns") and not hasattr(X, "tocsr"):
            validate_data(self, X, reset=reset, skip_check_array=True)
            return X, X
        # A mean of integers is a float, as for scikit-learn's own imputers.
        dtype = [np.float64, np.float32] if any(map(is_learned, self._plan().rules)) else "numeric"
        X = validate_data(self, X, reset=reset, ensure_all_finite=False, dtype=dtype)  # noqa: N806
        return {f"x{index}": X[:, index] for index in range(X.shape[1])}, X

    def _clean(self, columns: Any) -> CleanData:
        cleaned = clean_data(
            columns, self.rules, self.schema, otherwise=self.otherwise, statistics=getattr(self, "statistics_", None)
        )
        if len(cleaned.removed):
            where = join_limited(
                [f"row {row}: {why}" for row, why in zip(cleaned.removed, cleaned.reasons, strict=True)]
            )
            text = errors_text(cleaned.report.findings)
            raise FindingsError(f"the rules do not repair everything ({where})\n{text}", cleaned.report)
        return cleaned


def _names(columns: Any) -> list[str]:
    return list(map(str, columns if isinstance(columns, Mapping) else columns.columns))


def _input_names(cleaner: Cleaner, input_features: Any) -> list[str]:
    """The names of the features, as scikit-learn decides them: given, or the frame's, or ``x0``, ``x1``."""
    return list(map(str, OneToOneFeatureMixin.get_feature_names_out(cleaner, input_features)))


def _like(columns: Any, X: Any) -> Any:  # noqa: N803
    """The columns as a frame, or as one array of the dtype of ``X``."""
    if not isinstance(columns, Mapping):
        return columns
    values: Iterable[Array] = columns.values()
    return np.column_stack(list(values)).astype(X.dtype, copy=False)
