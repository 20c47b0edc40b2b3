"""What ``datacheck explain`` shows as an example is what is printed for such data: only numbers and places may differ."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import datacheck
from datacheck.codes import CODES
from datacheck.findings import Finding
from datacheck.profile.notes.find import find_notes

RANDOM = np.random.default_rng(0)
NORMAL = RANDOM.normal(size=2000)


def with_values(values: Any, **at: Any) -> Any:
    """A copy with other values at some positions: ``_3=5``."""
    values = values.copy()
    for place, value in at.items():
        values[int(place[1:])] = value
    return values


def texts(*rare: str, number: int = 600, word: str = "fridge") -> list[str]:
    return [*rare, *[word] * number]


DAYS = pd.date_range("2024-01-01", periods=300, freq="D")
HOURS = pd.date_range("2024-01-01", periods=400, freq="h")
STEPS = [0, 1, 2, 8, 9]

#: For each code, columns and a schema, whose scan gives an example like that of ``explain``.
SCANNED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "DC001": ({"zzz": [1]}, {"fields": {"dep_delay": {}}}),
    "DC002": ({"x": [1], "arr_time": [1]}, {"strict": True, "fields": {"x": {}}}),
    "DC003": ({"distance": ["a"]}, {"fields": {"distance": {"dtype": "float32"}}}),
    "DC101": ({"embedding": [1.0, np.nan, np.nan, np.nan]}, {}),
    "DC102": ({"speed": [1.0, np.inf, np.inf]}, {}),
    "DC103": ({"log_count": [1.0, -np.inf]}, {}),
    "DC104": ({"arr_delay": pa.array([1.0, None, None, None])}, {}),
    "DC105": ({"tailnum": ["N1", None, None, None, None]}, {}),
    "DC110": ({"wind": pa.array([1.0, *[-999.99] * 6], pa.float32())}, {"fields": {"wind": {"missing": [-999.99]}}}),
    "DC201": ({"precip": [1.0, *[-999.0] * 6]}, {"fields": {"precip": {"ge": 0}}}),
    "DC202": ({"wind_speed": [1.0, 1048.0, 1048.0, 1048.0]}, {"fields": {"wind_speed": {"le": 200}}}),
    "DC203": ({"distance": [1.0, 0.0]}, {"fields": {"distance": {"gt": 0}}}),
    "DC204": ({"label": [1, *[10] * 6]}, {"fields": {"label": {"lt": 10}}}),
    "DC205": ({"origin": ["JFK", "JFK ", "JFK "]}, {"fields": {"origin": {"isin": ["EWR", "JFK", "LGA"]}}}),
    "DC206": ({"tailnum": ["N1", "x", "y"]}, {"fields": {"tailnum": {"str_matches": "^N[0-9A-Z]+$"}}}),
    "DC207": (
        {"dest": ["JFK", "JF"]},
        {"fields": {"dest": {"checks": {"str_length": {"min_value": 3, "max_value": 3}}}}},
    ),
    "DC211": ({"answer": ["a", "", " "]}, {"fields": {"answer": {"not_blank": True}}}),
    "DC212": ({"item": ["a", "fridge "]}, {"fields": {"item": {"stripped": True}}}),
    "DC213": ({"city": ["a", "M\ufffdnchen"]}, {"fields": {"city": {"printable": True}}}),
    "DC214": ({"page": ["a" * 100, "b", "b", "b"]}, {"fields": {"page": {"min_length": 100}}}),
    "DC215": ({"input_ids": [1, -15281, -15281]}, {"fields": {"input_ids": {"vocab_size": 50257}}}),
    "DC216": ({"labels": [[1], [-100], [-100]]}, {"fields": {"labels": {"ignore_index": -100}}}),
    "DC217": ({"boxes": [[3.0, 0, 1, 1]] * 2}, {"fields": {"boxes": {"format": "xyxy"}}}),
    "DC301": ({"flight_id": [1, *[1] * 9]}, {"fields": {"flight_id": {"unique": True}}}),
    "DC302": (
        {"wind_gust": [1, 1], "wind_speed": [2, 0]},
        {"checks": [{"name": "gust-above-wind", "expr": "wind_gust >= wind_speed"}]},
    ),
    "DC307": (
        {"image": [np.zeros((3, 4, 2)).tolist()] * 2, "mask": [np.zeros((5, 2)).tolist(), np.zeros((4, 2)).tolist()]},
        {"fields": {"image": {"shape": [3, "H", "W"]}, "mask": {"shape": ["H", "W"]}}},
    ),
    "DC319": ({"series": ["s2"] * 3, "time": [0, 59, 0]}, {"sequence": {"by": "series", "on": "time"}}),
    "DC320": (
        {"series": ["s2"] * 5, "time_idx": STEPS},
        {"sequence": {"by": "series", "on": "time_idx", "step": 1}},
    ),
    "DC321": ({"episode": [7, 8, 7]}, {"sequence": {"by": "episode", "contiguous": True}}),
    "DC322": ({"sensor": ["s39"] * 3}, {"sequence": {"by": "sensor", "num_rows": {"ge": 168}}}),
    "DC323": ({"label": ["spam", *["ham"] * 99]}, {"fields": {"label": {"share": {"spam": {"ge": "10%"}}}}}),
    "DC324": ({"temp": [20.0] * 9}, {"fields": {"temp": {"min_distinct": 2}}}),
    "DC325": ({"x": [1]}, {"num_files": 4}),
    "DC326": (
        {"time": pa.array(pd.to_datetime(["2024-03-04 23:00:00"]))},
        {"fields": {"time": {"max_age": "2d"}}},
    ),
    "DC327": (
        {"text": ["not bad"] * 2, "label": ["positive", "negative"]},
        {"determines": {"text": "label"}},
    ),
    "DC331": ({"item": texts("fridge ")}, {"fields": {"item": {"no_variants": True}}}),
}

#: For each note, columns or an array in which it is found.
NOTED: dict[str, Any] = {
    "DC501": {"wind": np.where(np.arange(2000) % 4 == 0, -999.99, NORMAL)},
    "DC502": {"forces": with_values(0.05 * NORMAL, _77=40, _78=-35)},
    "DC503": {"x": with_values(NORMAL[:100], _61=4.2e39)},
    "DC505": {"embedding": [*RANDOM.normal(size=(500, 4)).tolist(), [0.0] * 4, [0.0] * 4]},
    "DC506": RANDOM.choice(np.array([-1, 0, 1], np.float32), 900),
    "DC507": np.repeat(np.delete(np.arange(25), 5), 20),
    "DC508": {"answer": ["", " ", *map(str, range(500))]},
    "DC509": {"item": texts("fridge ", "sofa", "sofa", "bed", "bed")},
    "DC510": {"title": [f"{i}\ufffd" if i % 9 == 0 else str(i) + "x" for i in range(500)]},
    "DC515": {"city": [*["None", "nan"] * 6, *(f"c{i % 9}" for i in range(500))]},
    "DC516": {"sensor": ["s1"] * 400 + ["s2"] * 399, "time": [*HOURS, *HOURS.delete(100)]},
}


def write_unlike(folder: Path) -> None:
    for index in range(4):
        values = RANDOM.normal(285, 8, 2000) - (273.15 if index == 3 else 0)
        pq.write_table(pa.table({"ts": values.astype(np.float32)}), folder / f"model{index}.parquet")


def write_unequal(folder: Path) -> None:
    np.save(folder / "X.npy", RANDOM.normal(size=(1000, 5)))
    np.save(folder / "y.npy", RANDOM.normal(size=999))


def write_random_split(folder: Path) -> None:
    for name, days in (("train", DAYS[::2]), ("test", DAYS[1::2])):
        pq.write_table(pa.table({"ts": pa.array(days.date)}), folder / f"{name}.parquet")


def write_dark_sensor(folder: Path) -> None:
    speed = RANDOM.normal(size=(288, 20))
    speed[:, 11] = 0
    np.savez(folder / "speed.npz", speed=speed)


def write_numbers_as_text(folder: Path) -> None:
    pq.write_table(pa.table({"trip_km": [f"{i},5" for i in range(60)]}), folder / "eu.parquet")


def write_words(folder: Path) -> None:
    (folder / "vocab.tsv").write_text(
        "id\tword\n" + "".join(f"{i}\t{word}\n" for i, word in enumerate(["a", "nan", "b"]))
    )


#: Findings and notes on files.
WRITTEN: dict[str, Callable[[Path], None]] = {
    "DC106": write_words,
    "DC504": write_dark_sensor,
    "DC511": write_numbers_as_text,
    "DC512": write_unlike,
    "DC513": write_unequal,
    "DC514": write_random_split,
}


def skeleton(line: str) -> str:
    """A message without its place, quoted words and numbers."""
    line = re.sub(r"^DC\d+ (?:info: |warning: )?", "", line.strip())
    line = re.sub(r" \([^()]*(?:\.(?:parquet|csv|tsv|npy|npz|jsonl)|<memory>)[^()]*\)$", "", line)
    line = line.replace("<memory>", "train.parquet")
    line = re.sub(r"'[^']*'", "'q'", line)
    line = re.sub(r"\d{4}-\d\d-\d\d(?: \d\d:\d\d:\d\d)?", "#", line)
    line = re.sub(r"(?:\d+(?:d|h|min) )*\d+(?:d|h|min|s)\b", "#", line).replace(" file,", " files,")
    line = re.sub(r"-?\d(?:[\d,]*\d)?(?:\.\d+)?(?:e[+-]?\d+)?", "#", line)
    return re.sub(r"(#|'q'(?: \(#\))?)(?:, (?:#|'q'(?: \(#\))?))+(?:, …)?", r"\1…", line).replace(" of #", "")


def first_example(code: str) -> str:
    return next(line for line in CODES[code].example.splitlines() if re.match(rf"\s*{code}\b", line))


def check(code: str, findings: tuple[Finding, ...]) -> None:
    found = [finding for finding in findings if finding.code == code]
    assert found, [finding.message for finding in findings]
    assert skeleton(found[0].message) == skeleton(first_example(code))


@pytest.mark.parametrize("code", SCANNED)
def test_a_finding_reads_as_its_example(code: str) -> None:
    columns, schema = SCANNED[code]
    check(code, datacheck.scan(pa.table(columns), {"version": 1, **schema}).findings)


@pytest.mark.parametrize("code", NOTED)
def test_a_note_reads_as_its_example(code: str) -> None:
    data = NOTED[code]
    check(code, find_notes(pa.table(data) if isinstance(data, dict) else data))


@pytest.mark.parametrize("code", WRITTEN)
def test_a_note_on_files_reads_as_its_example(code: str, tmp_path: Path) -> None:
    WRITTEN[code](tmp_path)
    check(code, (*find_notes(str(tmp_path)), *datacheck.scan(str(tmp_path)).findings))


def test_every_code_of_values_rows_and_notes_has_an_example_here() -> None:
    known = {*SCANNED, *NOTED, *WRITTEN}
    wanted = {code for code in CODES if code.startswith(("DC1", "DC2", "DC32", "DC5"))}
    # Of formats and of several files or datasets; they have tests of their own.
    elsewhere = {"DC107", "DC108", "DC208", "DC209", "DC328", "DC329"}
    assert wanted - known == elsewhere
