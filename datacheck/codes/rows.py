"""DC3xx: rows, files of rows and whole data sets."""

from __future__ import annotations

from datacheck.codes.code import Code

__all__ = ["CODES"]

CODES = (
    Code(
        code="DC301",
        name="duplicate",
        message="{violations} of {checked} rows repeat an earlier {field}",
        finds="A row whose key stood in an earlier row of the data set, in this file or another.",
        why=(
            "A row that comes twice counts twice. A row that is in the training and in the test split makes the test"
            " score a measure of memory."
        ),
        example=(
            "A file was appended to the data set a second time, and the schema has `unique: true` on `flight_id`:\n"
            "\n"
            "    DC301 500 of 10,000 rows repeat an earlier 'flight_id' (part-7.parquet, row group 0, rows 0, 1, 2, 3,"
            " 4, …)"
        ),
        remedy=(
            "Remove the file that came twice, or keep the first row of each key:\n"
            "\n"
            "    - {action: drop_row, codes: DC301}\n"
            "\n"
            "If the key needs more than one field, name them all: `unique: [[carrier, flight, time_hour]]`."
        ),
    ),
    Code(
        code="DC302",
        name="expression",
        message="{violations} of {checked} rows break {rule}: {detail}",
        finds="A row for which one of the schema's cross-field expressions is false.",
        why=(
            "Each field can look right alone and the row still be impossible: an arrival before the departure, a part"
            " larger than the whole. Models learn such rows as readily as the others."
        ),
        example=(
            "The schema has `checks: [{name: gust-above-wind, expr: wind_gust >= wind_speed}]`:\n"
            "\n"
            "    DC302 4 of 20,000 rows break gust-above-wind: wind_gust >= wind_speed (train.parquet, row group 1,"
            " rows 20345, 20346, 20351, 20352)"
        ),
        remedy=(
            "Find out which of the fields is wrong. Set the rows aside, since no single value can be repaired:\n"
            "\n"
            "    - {action: quarantine, codes: DC302}"
        ),
    ),
    Code(
        code="DC303",
        name="pandera",
        message="{violations} of {checked} rows fail {rule} in {field}",
        finds="A row that the pandera schema named by `pandera:` refuses.",
        why="Your own schema says that the row is not what the model is meant to learn from.",
        example=(
            "The schema has `pandera: my_project.schemas:Flights`, whose check `known_route` returns false:\n"
            "\n"
            "    DC303 9 of 20,000 rows fail known_route in 'dest' (train.parquet, row group 0, rows 5, 77, 78, 90,"
            " 112, …)"
        ),
        remedy=(
            "Correct the data or the pandera schema. It runs on each batch alone: put what must hold over the whole"
            " data set into `unique`. Rows can be set aside:\n"
            "\n"
            "    - {action: quarantine, codes: DC303}"
        ),
    ),
    Code(
        code="DC304",
        name="unequal-lengths",
        message="the arrays are not rows of one table: {detail}",
        finds="Arrays that are cleaned together and have unequal numbers of rows.",
        why=(
            "Sample i and target i belong together only while both arrays have the same rows. If one row was lost in"
            " one of them, every pair after it is wrong, and nothing raises."
        ),
        example=(
            "One array lost a row:\n"
            "\n"
            "    DC304 the arrays are not rows of one table: 'windows' has 6,528 rows, 'target' has 6,527 (train.npz)"
        ),
        remedy=(
            "Write the arrays again from the same rows. Arrays that do not belong together can still be scanned, each"
            " on its own; to clean them, put them in files of their own."
        ),
    ),
    Code(
        code="DC305",
        name="malformed-row",
        message="{violations} of {checked} lines do not have the columns of the header: {detail}",
        finds="A line of a CSV file with more or fewer cells than the header.",
        why=(
            "A delimiter inside an unquoted text shifts every value after it one column to the right: plausible numbers"
            " in the wrong fields."
        ),
        example=(
            "A name with a comma was written without quotes:\n"
            "\n"
            "    DC305 1 of 5,000 lines do not have the columns of the header: expected 8 cells, got 9 (planes.csv, row"
            " 17)"
        ),
        remedy=(
            "Write the file with quotes round text (`csv.QUOTE_MINIMAL` is enough), or as Parquet. Set the line"
            " aside:\n"
            "\n"
            "    - {action: quarantine, codes: DC305}"
        ),
    ),
    Code(
        code="DC306",
        name="no-rows",
        severity="warning",
        message="no rows: {detail}",
        finds="A file that can be read and holds no row.",
        why=(
            "It may be right. More often a filter or a join matched nothing, and the data set is smaller than it should"
            " be without any error."
        ),
        example=(
            "A query for one day returned nothing:\n"
            "\n"
            "    DC306 warning: no rows: the file has 19 fields and no row (data/day=2013-02-29/part-0.parquet)"
        ),
        remedy=(
            "Check what wrote the file. Delete it if it should not be there. It is a warning and does not fail a job."
        ),
    ),
)
