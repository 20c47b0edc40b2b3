"""DC3xx: rows, files of rows and whole data sets."""

from __future__ import annotations

from functools import partial

from datacheck.codes.code import Code, Family

__all__ = ["CODES"]

_code = partial(Code, family=Family.ROWS)

CODES = (
    _code(
        code="DC301",
        name="duplicate",
        level="dataset",
        tolerable=True,
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
    _code(
        code="DC302",
        name="expression",
        level="row",
        tolerable=True,
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
    _code(
        code="DC303",
        name="pandera",
        level="row",
        tolerable=True,
        nameless_field="the data frame",
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
    _code(
        code="DC304",
        name="unequal-lengths",
        level="file",
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
    _code(
        code="DC305",
        name="malformed-row",
        level="row",
        tolerable=True,
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
    _code(
        code="DC306",
        name="no-rows",
        level="file",
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
    _code(
        code="DC310",
        name="leaked-row",
        level="dataset",
        message="{violations} of {checked} rows stand in the training data too: {detail}",
        finds="A row of another split that is, value for value, also a row of the training split.",
        why=(
            "A model is asked what it was told. The score on such rows is one of memory, and the score on the split is"
            " too good by a part that nobody can take out again afterwards."
        ),
        example=(
            "A table was split after rows had been repeated to balance its classes:\n"
            "\n"
            "    DC310 412 of 27,268 rows stand in the training data too: row 17 is row 3 of train/a.parquet (test.parquet,"
            " row group 0, rows 17, 90, 91, 104, 233, …)"
        ),
        remedy=(
            "Remove repeated rows before you split, or split by what makes rows alike: `datacheck compare train test"
            " --key patient_id` finds rows that are alike without being the same. Fields that only number the rows hide a"
            " leak: leave them out with `--row-exclude row_id`."
        ),
    ),
    _code(
        code="DC311",
        name="leaked-key",
        level="dataset",
        message="{violations} of {checked} rows have a {field} that is in the training data too: {detail}",
        finds="A row of another split whose key stands in the training split.",
        why=(
            "Two scans of one patient, two reviews by one customer: the rows differ, and the model still knows the"
            " answer from training. It recognises who it is instead of learning what it should."
        ),
        example=(
            "Images were split one by one, and some patients have several:\n"
            "\n"
            "    DC311 96 of 1,204 rows have a 'patient_id' that is in the training data too: row 4 is as row 812 of"
            " train.parquet (test.parquet, row group 0, rows 4, 5, 31, 77, 80, …)"
        ),
        remedy=(
            "Split by the key, so that all rows of one key are in one split (`GroupShuffleSplit` of scikit-learn does"
            " so). If the key is right to be in both, take it out of `--key`, or out of `compare.key` in the"
            " configuration; a schema given with `--schema` names its unique keys, too."
        ),
    ),
    _code(
        code="DC312",
        name="drift",
        level="dataset",
        message="{field} is distributed otherwise than in the training data: {detail}",
        finds=(
            "A field whose values are spread otherwise than those of the training split, by more than a threshold and by"
            " more than chance explains."
        ),
        why=(
            "A model is only as good as its training data is like what it meets. A shift may be real, and then the score"
            " is one of other data; often it is a change of unit, a default value, or a join that matched other rows."
        ),
        example=(
            "The delays of one split were written in seconds:\n"
            "\n"
            "    DC312 'dep_delay' is distributed otherwise than in the training data: PSI 3.9 (limit 0.25), KS 0.81 (limit"
            " 0.2); the median is 120, in the training data 2 (data/test)"
        ),
        remedy=(
            "Look at what changed, and train on data that has it. If the shift is known and right, exclude the field"
            " (`--exclude month`) or raise the threshold (`--psi`, `--ks`, `--distance`; `compare` in the configuration)."
            " PSI above 0.25 is commonly called a major shift, below 0.1 none."
        ),
    ),
    _code(
        code="DC313",
        name="rate-change",
        level="dataset",
        message="the part of {rule} in {field} is not that of the training data: {detail}",
        finds="A field with a markedly larger or smaller part of nulls, NaN or infinities than in the training split.",
        why=(
            "What fills the gaps was learned from the training split. A field that was whole there and has gaps here is fed"
            " to the model as something that it has never seen."
        ),
        example=(
            "A sensor failed after the training data was taken:\n"
            "\n"
            "    DC313 the part of NaN in 'wind_gust' is not that of the training data: 31 % (8,453 of 27,268), in the"
            " training data 0.4 % (1,010 of 252,484) (data/test)"
        ),
        remedy=(
            "Find out why the values are missing. If it is right, train with such gaps, or raise the threshold (`--rate"
            " 0.05` is five percentage points)."
        ),
    ),
    _code(
        code="DC314",
        name="new-category",
        level="dataset",
        message="{violations} of {checked} values in {field} are none that the training data has: {detail}",
        finds="Values of a field of few distinct values that the training split does not have.",
        why=(
            "An encoder that was fitted on the training split raises on them, or maps them all to one index that means"
            " nothing, or to the index of another category."
        ),
        example=(
            "An airport opened after the training data was taken:\n"
            "\n"
            "    DC314 31 of 27,268 values in 'dest' are none that the training data has: 'LEX', 'ANC' "
            "(data/test/2013-11.parquet, row group 0, rows 812, 4419)"
        ),
        remedy=(
            "Correct the value if it is a misspelling. Otherwise train with it, or give unknown values an index of their"
            " own; `isin` in the schema holds all later data to the categories that are known:\n"
            "\n"
            "    origin: {dtype: string, isin: [EWR, JFK, LGA]}"
        ),
    ),
    _code(
        code="DC315",
        name="not-compared",
        level="dataset",
        severity="info",
        message="{field} is not compared: {detail}",
        finds="Something of two data sets that could not be compared, and why.",
        why="What nobody looked at is not alike. It is reported, so that a clean comparison means what it says.",
        example=(
            "A field of free text has no categories:\n"
            "\n"
            "    DC315 info: 'comment' is not compared: it has more than 1,000 different values (data/test)"
        ),
        remedy=(
            "Nothing needs to be done. To compare the field, give it in a form that can be: as a number, or as a category."
            " It is a note and does not fail a comparison."
        ),
    ),
)
