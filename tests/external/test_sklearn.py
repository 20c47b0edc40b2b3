"""The transformer of scikit-learn: held to scikit-learn's own checks, and used as people use it."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("sklearn")
pytestmark = pytest.mark.filterwarnings("ignore")

from sklearn.base import clone  # noqa: E402
from sklearn.compose import ColumnTransformer  # noqa: E402
from sklearn.impute import SimpleImputer  # noqa: E402
from sklearn.linear_model import LogisticRegression  # noqa: E402
from sklearn.model_selection import GridSearchCV, cross_val_score  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.utils.estimator_checks import check_estimator  # noqa: E402

from datacheck import FindingsError  # noqa: E402
from datacheck.errors import PipelineError, UsageError  # noqa: E402
from datacheck.sklearn import Cleaner  # noqa: E402

MEDIAN = [{"action": "impute", "strategy": "median", "indicator": True}]
MEAN = [{"action": "impute", "strategy": "mean"}]


def data(seed: int = 0) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    random = np.random.default_rng(seed)
    x = random.normal(size=(200, 3))
    y = (x[:, 0] > 0).astype(int)
    x[random.random(x.shape) < 0.1] = np.nan
    return x, y


@pytest.mark.parametrize(
    "cleaner",
    [Cleaner(), Cleaner(MEAN), Cleaner(MEDIAN), Cleaner(otherwise="report")],
    ids=["bare", "mean", "median", "report"],
)
def test_scikit_learns_own_checks_pass(cleaner: Cleaner) -> None:
    results = check_estimator(cleaner, on_skip=None, on_fail=None)
    failed = [(one["check_name"], one["exception"]) for one in results if one["status"] == "failed"]
    assert failed == []
    assert sum(one["status"] == "passed" for one in results) > 40


@pytest.mark.parametrize("strategy", ["mean", "median"])
def test_it_learns_from_the_training_data_only(strategy: Any) -> None:
    train, _ = data()
    test, _ = data(1)
    mine = Cleaner([{"action": "impute", "strategy": strategy}]).fit(train)
    theirs = SimpleImputer(strategy=strategy).fit(train)
    np.testing.assert_allclose(mine.transform(test), theirs.transform(test), rtol=1e-12)
    np.testing.assert_array_equal(mine.fit_transform(train), mine.transform(train))


def test_it_works_in_pipelines_searches_and_folds() -> None:
    x, y = data()
    pipeline = make_pipeline(Cleaner(MEAN), LogisticRegression())
    search = GridSearchCV(pipeline, {"cleaner__rules": [MEAN, MEDIAN]}, cv=3).fit(x, y)
    assert search.best_score_ > 0.8
    assert cross_val_score(clone(pipeline), x, y, cv=3).min() > 0.8
    fitted = pipeline.fit(x, y)
    assert list(fitted[:-1].get_feature_names_out()) == ["x0", "x1", "x2"]
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(fitted)).predict(x), fitted.predict(x))


def test_frames_stay_frames_and_set_output_chooses() -> None:
    polars = pytest.importorskip("polars")
    frame = pd.DataFrame(data()[0], columns=["a", "b", "c"], index=range(5, 205))
    cleaned = Cleaner(MEDIAN).fit_transform(frame)
    assert list(cleaned.columns) == ["a", "b", "c", "a_missing", "b_missing", "c_missing"]
    assert cleaned.index.equals(frame.index)
    assert isinstance(Cleaner(MEDIAN).fit_transform(polars.from_pandas(frame)), polars.DataFrame)
    for wanted, kind in (("pandas", pd.DataFrame), ("polars", polars.DataFrame)):
        for given in (frame, polars.from_pandas(frame), frame.to_numpy()):
            made = Cleaner(MEDIAN).set_output(transform=wanted).fit_transform(given)
            assert isinstance(made, kind)
            assert np.asarray(made, float).shape == (200, 6)
    columns = ColumnTransformer([("n", Cleaner(MEDIAN), ["a"])]).set_output(transform="pandas")
    assert list(columns.fit_transform(frame).columns) == ["n__a", "n__a_missing"]


def test_what_no_rule_repairs_is_an_error() -> None:
    x, _ = data()
    with pytest.raises(FindingsError, match=r"DC101 .* values are NaN in 'x0'"):
        Cleaner().fit(x)
    fitted = Cleaner(MEAN).fit(x)
    x[3, 1] = np.inf
    with pytest.raises(ValueError, match=r"DC102 1 of .*'x1' \(<memory>, row 3\)"):
        fitted.transform(x)
    assert np.isinf(Cleaner(MEAN, otherwise="report").fit_transform(x)[3, 1])


def test_wrong_settings_are_named() -> None:
    x, _ = data()
    with pytest.raises(UsageError, match=r"clean\[0\]: a transformer keeps every row"):
        Cleaner([{"action": "drop_row"}]).fit(x)
    with pytest.raises(PipelineError, match="did you mean 'impute'"):
        Cleaner([{"action": "imput"}]).fit(x)
    with pytest.raises(PipelineError, match="expected a list of rules"):
        Cleaner({"action": "impute"}).fit(x)
    with pytest.raises(UsageError, match="'fail' or 'report'"):
        Cleaner(otherwise="quarantine").fit(x)


def test_the_example_of_the_page_prints_what_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).parents[2] / "docs" / "sklearn.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```(\w+)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    (source,) = [text for language, text in blocks if language == "python"]
    (shown,) = [text for language, text in blocks if language == "text"]
    exec(compile(source, "docs/sklearn.md", "exec"), {})
    assert capsys.readouterr().out == shown
