"""Faults that people reported after they had ruined a training run, each with the rule that finds it.

Every case is the situation in words, the rule as a user would write it, and small data with the fault. The rows without
the fault keep the rule.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import datacheck
from datacheck.codes import CODES, codes_with_prefix
from datacheck.errors import SchemaError


def field(**rules: Any) -> dict[str, Any]:
    return {"fields": {"x": rules}}


def expr(*rules: str) -> dict[str, Any]:
    return {"checks": list(rules)}


#: The situation; the rule; the rows; those that have the fault, and the code of the finding.
FAULTY_ROWS: dict[str, tuple[dict[str, Any], list[dict[str, Any]], list[int], str]] = {
    # Inside the list or array of a row
    "a text of unknown words has an embedding of zeros, which is NaN once it is normalised": (
        expr("norm(x) > 0"),
        [{"x": [0.6, 0.8]}, {"x": [0.0, 0.0]}, {"x": [1.0, 0.0]}],
        [1],
        "DC302",
    ),
    "the padding token equals the end of the text, so all labels are ignored and the loss is 0 / 0": (
        expr("any(labels != -100)"),
        [{"labels": [-100, 7, 2]}, {"labels": [-100, -100, -100]}, {"labels": [2]}],
        [1],
        "DC302",
    ),
    "a flipped box has x1 beyond x2, and the loss takes the logarithm of a negative width": (
        expr("x[0] < x[2] and x[1] < x[3]"),
        [{"x": [10, 10, 60, 40]}, {"x": [539, 20, 502, 80]}, {"x": [1, 5, 9, 5]}],
        [1, 2],
        "DC302",
    ),
    "a sensor froze, so its window has one value and a standard deviation of 0": (
        expr("std(x) > 0", "nunique(x) > 1"),
        [{"x": [1.0, 2.0, 1.5]}, {"x": [3.5, 3.5, 3.5]}],
        [1],
        "DC302",
    ),
    "an event log of a user is out of order, so positions run backwards": (
        expr("is_sorted(x)"),
        [{"x": [1, 2, 9]}, {"x": [1, 9, 2]}],
        [1],
        "DC302",
    ),
    "soft labels do not add up to 1 after rounding to two digits": (
        expr("abs(sum(x) - 1) < 0.001", "all(x >= 0)"),
        [{"x": [0.25, 0.75]}, {"x": [0.33, 0.33, 0.33]}],
        [1],
        "DC302",
    ),
    "an edge points to a node that the graph does not have": (
        expr("max(edge_index) < len(x)"),
        [{"x": [0.1, 0.2, 0.3], "edge_index": [[0, 1], [1, 2]]}, {"x": [0.1, 0.2], "edge_index": [[0, 1], [1, 2]]}],
        [1],
        "DC302",
    ),
    "tensors are stored as bytes beside their shape, and one was cut short": (
        expr("len(latent) == 4 * shape[0] * shape[1]"),
        [{"latent": bytes(24), "shape": [2, 3]}, {"latent": bytes(20), "shape": [2, 3]}],
        [1],
        "DC302",
    ),
    # Named dimensions
    "a tokenizer cut the input but not the labels, so their lengths differ": (
        {"fields": {"input_ids": {"shape": ["T"]}, "labels": {"shape": ["T"]}}},
        [{"input_ids": [5, 6, 7], "labels": [5, 6, 7]}, {"input_ids": [5, 6], "labels": [5, 6, 7]}],
        [1],
        "DC307",
    ),
    # Per index
    "a label file of a detector has a coordinate above 1, and the picture is dropped as corrupt": (
        field(columns={0: {"ge": 0, "lt": 80}, 1: {"ge": 0, "le": 1}}),
        [{"x": [3.0, 0.5, 0.5, 0.1, 0.1]}, {"x": [3.0, 1.0710385, 0.5, 0.1, 0.1]}],
        [1],
        "DC202",
    ),
    # Missing values
    "a station writes -999.99 where it measured nothing, and float32 cannot hold that number exactly": (
        field(dtype="float32", coerce=True, missing=[-999.99]),
        [{"x": 280.5}, {"x": -999.99}, {"x": 281.0}],
        [1],
        "DC110",
    ),
    "a speed of 0 means that the detector was off": (field(missing=[0]), [{"x": 55.1}, {"x": 0.0}], [1], "DC110"),
    # Texts
    "an empty answer has no tokens, so its mean loss is NaN": (
        field(not_blank=True),
        [{"x": "yes"}, {"x": ""}, {"x": "   "}],
        [1, 2],
        "DC211",
    ),
    "a label with a blank at its end becomes a class of its own": (
        field(stripped=True),
        [{"x": "fridge"}, {"x": "fridge "}],
        [1],
        "DC212",
    ),
    "a page was decoded with the wrong encoding": (
        field(printable=True),
        [{"x": "München"}, {"x": "M\ufffdnchen"}, {"x": "a\x00b"}],
        [1, 2],
        "DC213",
    ),
    "a prompt is longer than the context": (field(max_length=8), [{"x": "short"}, {"x": "far too long"}], [1], "DC214"),
    # Token ids
    "token ids above 32,767 were saved as int16 and became negative": (
        field(vocab_size=50_257),
        [{"x": [1, 32_767]}, {"x": [2, 50_000 - 65_536]}],
        [1],
        "DC215",
    ),
    "a token was added to the tokenizer but not to the embedding": (
        field(vocab_size=50_257),
        [{"x": [1, 50_256]}, {"x": [50_257, 3]}],
        [1],
        "DC215",
    ),
    "a question fills the context, so that no token of its answer is left to learn": (
        field(vocab_size=100, ignore_index=-100),
        [{"x": [-100, 7]}, {"x": [-100, -100]}, {"x": [8, 9]}],
        [1],
        "DC216",
    ),
    # Boxes, classes, masks
    "a box has no width": (
        field(format="xywh"),
        [{"x": [[0.0, 0.0, 5.0, 5.0]]}, {"x": [[1.0, 1.0, 2.0, 2.0], [3.0, 3.0, 0.0, 4.0]]}],
        [1],
        "DC217",
    ),
    "a box reaches beyond its picture after the picture was resized": (
        {"fields": {"x": {"format": "xyxy", "within": ["width", "height"]}}},
        [
            {"x": [[0.0, 0.0, 640.0, 480.0]], "width": 640, "height": 480},
            {"x": [[0.0, 0.0, 640.0, 480.0]], "width": 320, "height": 240},
        ],
        [1],
        "DC302",
    ),
    "a mask was saved as a picture, with 255 in place of 1": (
        field(isin=[0, 1]),
        [{"x": [0, 1, 1]}, {"x": [0, 255, 255]}],
        [1],
        "DC205",
    ),
    "ten classes are numbered from 1 to 10": (field(vocab_size=10), [{"x": 1}, {"x": 9}, {"x": 10}], [2], "DC215"),
    # Chats
    "a conversation ends before the assistant says anything": (
        field(format="chat"),
        [
            {"x": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]},
            {"x": [{"role": "user", "content": "hi"}]},
        ],
        [1],
        "DC217",
    ),
    # Field patterns
    "one coordinate deep inside a list of structs is negative": (
        {"fields": {"boxes[].*": {"ge": 0}}},
        [{"boxes": [{"x": 1.0, "y": 2.0}]}, {"boxes": [{"x": 1.0, "y": 2.0}, {"x": -3.0, "y": 1.0}]}],
        [1],
        "DC201",
    ),
    # Keys
    "one text was labelled twice, and differently": (
        {"determines": {"text": "label"}},
        [{"text": "a", "label": 1}, {"text": "b", "label": 0}, {"text": "a", "label": 0}],
        [2],
        "DC327",
    ),
    "a shard was uploaded twice, so its ids occur twice": (
        {"unique": [["id"]]},
        [{"id": 1}, {"id": 2}, {"id": 1}],
        [2],
        "DC301",
    ),
}


@pytest.mark.parametrize("situation", FAULTY_ROWS)
def test_the_rule_finds_the_rows_of_a_reported_fault_and_no_others(situation: str, tmp_path: Path) -> None:
    schema, rows, faulty, code = FAULTY_ROWS[situation]
    table = pa.Table.from_pylist(rows)
    pq.write_table(table, tmp_path / "data.parquet", row_group_size=2)
    findings = datacheck.scan(tmp_path / "data.parquet", schema).findings
    assert {finding.code for finding in findings if finding.is_error} == {code}
    places = {example.row for finding in findings if finding.is_error for example in finding.examples}
    assert places == set(faulty)
    kept = table.take([row for row in range(len(rows)) if row not in faulty])
    assert datacheck.scan(kept, schema).ok


HOURS = pd.Timestamp("2024-01-01") + pd.to_timedelta(np.arange(6), unit="h")
#: The situation; the rule; the columns; how the finding reads.
FAULTY_DATASETS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "hours are missing inside one of several series, so a window spans the gap": (
        {"sequence": {"by": "series", "on": "time", "step": "1h"}},
        {"series": list("aaabbb"), "time": HOURS.delete(4).append(HOURS[-1:] + pd.Timedelta("1h"))},
        "DC320 1 of 4 steps of 'time' are wrong: expected 1h, found 2h",
    ),
    "a table was sorted by its values and lost its order in time": (
        {"sequence": {"on": "time", "order": "strictly_increasing"}},
        {"time": HOURS[[0, 1, 3, 2, 4, 5]]},
        "DC319 1 of 5",
    ),
    "episodes of two exports are mixed, and a loader that groups neighbouring rows cuts them": (
        {"sequence": {"by": "episode", "contiguous": True}},
        {"episode": [1, 1, 2, 1, 2]},
        "DC321 ",
    ),
    "one episode is shorter than the window of the model": (
        {"sequence": {"by": "episode", "num_rows": {"ge": 2}}},
        {"episode": [1, 1, 2]},
        "DC322 ",
    ),
    "one of two shards was not copied": (
        {"num_files": 2},
        {"x": [1, 2]},
        "DC325 the dataset has 1 file, expected 2",
    ),
    "a continuous column is constant in the training data, so (x - mean) / std is NaN": (
        field(min_distinct=2),
        {"x": [20.0] * 6},
        "DC324 'x' is constant",
    ),
    "class 2 of 0 to 3 has no row, and a classifier wants classes without gaps": (
        field(covers={"from": 0, "to": 3}),
        {"x": [0, 1, 3, 3]},
        "DC324 'x' lacks 1",
    ),
    "unlabelled samples stand as class -1 in most of the rows": (
        field(share={-1: "10%"}),
        {"x": [-1, -1, 0, 1]},
        "DC323 the share of -1 of 'x' is 50 % (2 of 4)",
    ),
    "features were standardised twice or not at all": (
        field(mean={"ge": -0.1, "le": 0.1}, std={"ge": 0.9, "le": 1.1}),
        {"x": np.linspace(200, 300, 6)},
        "DC323 the mean of 'x' of 6 values is 250, expected",
    ),
    "a model of the ensemble gives its temperatures in degrees Celsius": (
        field(quantiles={0.5: {"ge": 200}}),
        {"x": [11.0, 12.0, 13.0]},
        "DC323 the quantile 0.5 of 'x' is not >= 200",
    ),
    "a download stopped early and the dataset is far too small": (
        {"num_rows": {"ge": 1000}},
        {"x": [1, 2, 3]},
        "DC325 the dataset has 3 rows, expected >= 1000",
    ),
    "the nightly export stopped, and training goes on with last year's data": (
        {"fields": {"time": {"max_age": "7d"}}},
        {"time": HOURS},
        "DC326 'time' is stale: the newest value is 2024-01-01 05:00:00",
    ),
    "one category is spelled in two ways, each a class of its own": (
        field(no_variants=True),
        {"x": ["Paris"] * 3 + ["paris"]},
        "DC331 1 of 4",
    ),
    "one of twenty sensors was dark for the whole recording": (
        field(columns={1: {"min_distinct": 2}}),
        {"x": [[0.5, 0.0], [0.7, 0.0], [0.9, 0.0]]},
        "DC324 'x[1]' is constant",
    ),
}


@pytest.mark.parametrize("situation", FAULTY_DATASETS)
def test_the_rule_about_the_dataset_finds_a_reported_fault(situation: str, tmp_path: Path) -> None:
    schema, columns, expected = FAULTY_DATASETS[situation]
    pq.write_table(pa.table(columns), tmp_path / "data.parquet", row_group_size=2)
    found = [f"{one.code} {one.message}" for one in datacheck.scan(tmp_path / "data.parquet", schema).findings]
    assert any(message.startswith(expected) for message in found), found


SPLITS: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any], str]] = {
    "two pictures of one patient are in training and test": (
        {"apart": "patient"},
        {"patient": [1, 2]},
        {"patient": [2, 3]},
        "DC329",
    ),
    "a random split puts days after the test days into training": (
        {"time": {"on": "day"}},
        {"day": HOURS[[0, 1, 4]]},
        {"day": HOURS[[2, 5]]},
        "DC330",
    ),
    "the test split has a shop that the embedding table of training does not": (
        {"within": "shop"},
        {"shop": ["a", "b"]},
        {"shop": ["b", "c"]},
        "DC314",
    ),
}


@pytest.mark.parametrize("situation", SPLITS)
def test_the_rule_about_splits_finds_a_reported_leak(situation: str, tmp_path: Path) -> None:
    rule, train, test, code = SPLITS[situation]
    for name, columns in (("train", train), ("test", test)):
        pq.write_table(pa.table(columns), tmp_path / f"{name}.parquet")
    errors = [one for one in datacheck.scan(tmp_path, {"splits": rule}).findings if one.is_error]
    assert [(one.code, Path(one.uri).name, one.num_violations) for one in errors] == [(code, "test.parquet", 1)]


def test_missing_gusts_are_expected_up_to_a_share_and_more_of_them_are_a_broken_sensor() -> None:
    schema = {"fields": {"gust": {"dtype": "float64"}}, "tolerances": {"gust": {"DC101": "10%"}}}
    gust = np.arange(20.0)
    gust[[3, 7]] = np.nan
    assert datacheck.scan({"gust": gust}, schema).ok
    gust[11] = np.nan
    errors = [one for one in datacheck.scan({"gust": gust}, schema).findings if one.is_error]
    assert [(one.code, one.num_violations) for one in errors] == [("DC101", 3)]


def test_the_alpha_channel_of_one_picture_is_nan(tmp_path: Path) -> None:
    pictures = np.zeros((3, 4, 2, 2), np.float32)
    pictures[0, 0, 0, 0] = pictures[1, 3] = np.nan  # allowed in a colour, not in alpha
    np.save(tmp_path / "pictures.npy", pictures)
    schema = {"fields": {None: {"allow_nan": True, "channels": {3: {"allow_nan": False}}}}}
    (found,) = [one for one in datacheck.scan(tmp_path / "pictures.npy", schema).findings if one.is_error]
    assert (found.code, found.num_violations, {example.row for example in found.examples}) == ("DC101", 4, {1})


def test_an_answer_that_must_be_json_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "answer_checks.py").write_text(
        "import json\nimport datacheck\nimport numpy as np\n\n"
        "def is_broken(text):\n"
        "    try:\n        json.loads(text)\n    except ValueError:\n        return True\n    return False\n\n"
        '@datacheck.own_check("X931", "are not JSON", why="The model learns to stop early.")\n'
        "def parses(values):\n    return np.array([is_broken(text) for text in values.to_pylist()])\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "answer_checks", raising=False)
    before = dict(CODES)
    try:
        schema = {"fields": {"answer": {"own_checks": "answer_checks:parses"}}}
        (found,) = datacheck.scan(pa.table({"answer": ['{"a": 1}', '{"a": 1, "b"', "[]"]}), schema).findings
        assert (found.code, found.num_violations, found.examples[0].row) == ("X931", 1, 1)
    finally:
        for code in CODES.keys() - before:
            del CODES[code]
        codes_with_prefix.cache_clear()


def test_an_index_names_a_picture_that_was_not_downloaded(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "1.png").touch()
    (tmp_path / "index.csv").write_text("image,label\n1.png,0\n2.png,1\n")
    (tmp_path / "index.yaml").write_text("references: {fields: image, folder: images}\n")
    (found,) = datacheck.scan(tmp_path / "index.csv", tmp_path / "index.yaml").findings
    assert found.code == "DC328"
    assert "'2.png' is not in images" in found.message


def test_a_feature_matrix_and_its_labels_have_different_numbers_of_rows(tmp_path: Path) -> None:
    np.save(tmp_path / "X_train.npy", np.ones((8, 4), np.float32))
    np.save(tmp_path / "y_train.npy", np.ones(6, np.int64))
    schema = {"fields": {"X_train": {"shape": ["N", 4]}, "y_train": {"shape": ["N"]}}, "dimensions": {"N": "dataset"}}
    (found,) = datacheck.scan(tmp_path, schema).findings
    assert (found.code, "8 rows" in found.message, "6 rows" in found.message) == ("DC304", True, True)


def test_a_vocabulary_does_not_fit_the_dtype_that_its_ids_are_stored_in() -> None:
    with pytest.raises(SchemaError, match=r"vocab_size.*128,?256"):
        datacheck.Schema(fields={"ids": {"dtype": "uint16", "vocab_size": 128_256}})


def test_words_that_pandas_reads_as_nan_are_noted_in_a_vocabulary(tmp_path: Path) -> None:
    words = ["para", "n/a", "null", "nan", *(f"w{number}" for number in range(40))]
    table = pa.table({"word": words})
    pq.write_table(table, tmp_path / "vocab.parquet")
    notes = datacheck.check(tmp_path / "vocab.parquet", notes=True, cache=False).findings
    assert [(one.code, one.field, one.num_violations, one.is_error) for one in notes] == [("DC515", "word", 3, False)]
