"""DC0xx: the fields of a file, their dtypes and their shapes."""

from __future__ import annotations

from functools import partial

from datacheck.codes.code import Code, Family

__all__ = ["CODES"]

_code = partial(Code, family=Family.STRUCTURE, level="file")

CODES = (
    _code(
        code="DC001",
        name="missing-field",
        message="{field} is missing: {detail}",
        finds="A field that the schema requires is not in the file.",
        why=(
            "A loader that fills in a default, or a model that is built from the columns it finds, trains on other"
            " inputs than you think. A renamed column is the usual cause."
        ),
        example=(
            "The schema names `dep_delay`, and the file has `departure_delay`:\n"
            "\n"
            "    DC001 'dep_delay' is missing: the schema requires it (data/train/part-0.parquet)"
        ),
        remedy=(
            "Write the file again with the field, or correct its name in the schema. If the field may be absent, say"
            " so:\n"
            "\n"
            "    dep_delay: {dtype: float32, required: false}"
        ),
    ),
    _code(
        code="DC002",
        name="extra-field",
        message="{field} is not in the schema, which is strict",
        finds="A field that a strict schema does not name.",
        why=(
            "A column that nobody expects often holds the label or something known only afterwards, and a model that"
            " sees it learns to cheat. Its values are held to no rule but the one against NaN and infinities."
        ),
        example=(
            "The schema says `strict: true` and does not name `arr_time`:\n"
            "\n"
            "    DC002 'arr_time' is not in the schema, which is strict (data/train/part-0.parquet)"
        ),
        remedy=(
            "Name the field in the schema, set `strict: false`, or drop the field in the pipeline:\n"
            "\n"
            "    - {action: drop_field, fields: arr_time}"
        ),
    ),
    _code(
        code="DC003",
        name="dtype",
        becomes_null=True,
        message="{field} has the wrong dtype: {detail}",
        message_of_values="{violations} of {checked} values in {field} are {detail}",
        finds=(
            "A field whose dtype is not the one that the schema asks for. Of a field that is converted (`coerce`, and every"
            " column of a CSV file): each value that does not convert."
        ),
        why=(
            "A silent conversion changes values: int64 identifiers lose digits in float32, and NaN becomes -2147483648 in"
            " int32."
        ),
        example=(
            "The schema asks for float32, and the column was written as text:\n"
            "\n"
            "    DC003 'distance' has the wrong dtype: string, expected float32 (data/train/part-0.parquet)\n"
            "\n"
            "In a CSV file, two cells hold no number:\n"
            "\n"
            "    DC003 2 of 5,000 values in 'distance' are not float32 (planes.csv, rows 17, 4203)"
        ),
        remedy=(
            "Write the column in the right dtype, or correct `dtype` in the schema. If a conversion without loss is"
            " acceptable, allow it; the data is then converted when it is cleaned, and rows with values that do not convert"
            " are set aside:\n"
            "\n"
            "    distance: {dtype: float32, coerce: true}"
        ),
    ),
    _code(
        code="DC004",
        name="shape",
        message="{field} has the wrong shape: {detail}",
        message_of_values="{violations} of {checked} values in {field} are {detail}",
        finds="An array, or the value of a row, whose shape is not the one that the schema asks for.",
        why=(
            "Broadcasting hides a wrong shape: a target of shape (n, 1) against predictions of shape (n,) gives an (n,"
            " n) loss that trains and learns nothing. Swapped axes do not even change the size."
        ),
        example=(
            "The schema asks for 24 hours of 5 features, and the axes are swapped:\n"
            "\n"
            "    DC004 'windows' has the wrong shape: expected (any, 24, 5), got (6528, 5, 24) (windows.npy)"
        ),
        remedy=(
            "Write the array again in the right shape, or correct `shape` in the schema; `null` stands for any"
            " length:\n"
            "\n"
            "    windows: {dtype: float32, shape: [null, 24, 5]}"
        ),
    ),
    _code(
        code="DC005",
        name="not-checked",
        cacheable=False,
        message="{field} could not be checked: {detail}",
        finds="A field that may hold NaN or infinities and that datacheck cannot look into.",
        why=(
            "A field that nobody looked at is not a clean field. It is reported, so that a clean report means what it"
            " says."
        ),
        example=(
            "A union column does not say which of its values are numbers:\n"
            "\n"
            "    DC005 'payload' could not be checked: a union column hides which values are numbers (events.arrow)"
        ),
        remedy=(
            "Store the field as plain numbers, lists or structs. If training does not read it, drop it:\n"
            "\n"
            "    - {action: drop_field, fields: payload}"
        ),
    ),
    _code(
        code="DC006",
        name="duplicate-field",
        message="{field} names more than one column: {detail}",
        finds=(
            "Two columns of one file with the same name; or a column whose name is also the path of a field inside another"
            " column: `a.b`, beside a struct `a` with a field `b`."
        ),
        why=(
            "Which of the two a reader returns depends on the reader. The column that was checked need not be the one"
            " that is trained on."
        ),
        example=(
            "A join kept the column of both sides:\n"
            "\n"
            "    DC006 'year' names more than one column: 2 columns have this name (data/train/part-0.parquet)"
        ),
        remedy="Write the file again with one column for each name. datacheck does not choose for you.",
    ),
    _code(
        code="DC007",
        name="stray-words",
        severity="warning",
        message="{violations} of {checked} values in {field} are no numbers and make it text, as the others are numbers",
        finds="A CSV column most of whose values are numbers, and which is text because of the others.",
        why=(
            "One `n.a.` or `-` that nobody declared turns a column of numbers into text. NaN and infinities are then words"
            " like any other, and no bound is held against the numbers."
        ),
        example=(
            "A sensor wrote `error` instead of a value:\n"
            "\n"
            "    DC007 warning: 2 of 5,000 values in 'temp' are no numbers and make it text, as the others are numbers"
            " (weather.csv, rows 17, 4203)"
        ),
        remedy=(
            "Say the dtype in the schema: the numbers are then checked, and each word is a violation of its own. If it is"
            " meant to be text, say that:\n"
            "\n"
            "    temp: {dtype: float32}\n"
            "\n"
            "Words that stand for null can be named in a pipeline: `reading: {csv_null_values: ['', 'error']}`."
        ),
    ),
)
