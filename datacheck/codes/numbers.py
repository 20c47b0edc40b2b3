"""DC1xx: NaN, infinities and nulls, which are four different things."""

from __future__ import annotations

from functools import partial

from datacheck.codes.code import Code, Family

_code = partial(Code, family=Family.MISSING, level="value", tolerable=True, allowable=True, repairable=True)

CODES = (
    _code(
        code="DC101",
        name="nan",
        message="{violations} of {checked} values are NaN in {field}",
        finds="A floating-point or complex value that is NaN.",
        why="""NaN spreads through every operation. One NaN in a batch makes the loss NaN, then its gradients, and after
            one step every weight. Comparisons with NaN are false, so a check such as `x < 0` lets it pass.""",
        example="""Row group 2 of a file has three embeddings with a NaN:

                DC101 3 of 4,096 values are NaN in 'embedding' (train.parquet, row group 2, rows 17, 90, 91)""",
        remedy="""Find its origin: a division by zero, a logarithm of zero, a failed join. Then choose a rule:

                - {action: impute, strategy: median, fields: embedding}
                - {action: nan_to_num, nan: 0.0, fields: embedding}
                - {action: drop_row, codes: DC101}
                - {action: quarantine, codes: DC101}

            If your model handles NaN, allow it in the schema with `allow_nan: true`.""",
    ),
    _code(
        code="DC102",
        name="pos-inf",
        side="upper",
        message="{violations} of {checked} values are +inf in {field}",
        finds="A floating-point or complex value that is +inf.",
        why="""The next subtraction or product turns an infinity into NaN: `inf - inf`, `inf * 0`. A mean over it is
            infinite too, and normalising with that mean destroys every row. In float16, values beyond 65,504 overflow
            to +inf.""",
        example="""A rate was divided by a duration of zero in two rows:

                DC102 2 of 100,000 values are +inf in 'speed' (train.parquet, row group 0, rows 4, 812)""",
        remedy="""Fix the division or overflow that produced it. Then choose a rule; the replacement value is always
            yours to choose:

                - {action: nan_to_num, posinf: 1000.0, fields: speed}
                - {action: impute, strategy: median, fields: speed, codes: DC102}
                - {action: quarantine, codes: [DC102, DC103]}

            If infinities are intended, allow them in the schema with `allow_inf: true`.""",
    ),
    _code(
        code="DC103",
        name="neg-inf",
        side="lower",
        message="{violations} of {checked} values are -inf in {field}",
        finds="A floating-point or complex value that is -inf.",
        why="""It turns into NaN as +inf does, and it hides better: a softmax maps one -inf to 0 without complaint, and
            a row of only -inf to NaN.""",
        example="""The logarithm of a count of zero was stored:

                DC103 1 of 100,000 values are -inf in 'log_count' (train.parquet, row group 3, row 31007)""",
        remedy="""Store `log1p` instead of `log`, or choose a rule; the replacement value is always yours to choose:

                - {action: nan_to_num, neginf: 0.0, fields: log_count}
                - {action: drop_row, codes: DC103}

            If infinities are intended, allow them in the schema with `allow_inf: true`.""",
    ),
    _code(
        code="DC104",
        name="null",
        counts_nulls=True,
        message="{violations} of {checked} values are null in {field}",
        finds="""A null (an Arrow null, an empty CSV cell, a NaT, a masked value) in a field that is not nullable.
            Without a schema, and in fields that it does not mention: a null in a number or a boolean.""",
        why="""What a null becomes depends on the next library: NaN in pandas, which writes NaN as null, too; 0 or
            arbitrary bytes where a buffer is read without its validity; an exception in a collate function. A row with
            a null label teaches nothing.""",
        example="""Flights that never arrived have no arrival delay:

                DC104 3 of 20,000 values are null in 'arr_delay' (train/part-00.parquet, row group 0, rows 471, 477, 615)""",
        remedy="""Drop rows without a label, and impute features:

                - {action: drop_row, fields: arr_delay, codes: DC104}
                - {action: impute, strategy: median, fields: dep_delay, indicator: true}

            If your code handles nulls, allow them in the schema with `nullable: true`.""",
    ),
    _code(
        code="DC105",
        name="other-null",
        severity="info",
        allowable=False,
        repairable=False,
        counts_nulls=True,
        message="{violations} of {checked} values are null in {field}",
        finds="""A null in a field that the schema does not mention, in a value that is neither a number nor a boolean:
            text, bytes, a time, or a list or struct itself. The same null in a number is an error (DC104).""",
        why="It may be meant: not every flight has a remark. But a collate function and a tokenizer fail on it.",
        example="""Some planes have no registration:

                DC105 info: 2,512 of 336,776 values are null in 'tailnum' (flights.parquet, row group 0, rows 838, 839, 1777, …)""",
        remedy="""Nothing, if the nulls are meant. List the field in the schema to say which it is:

                tailnum: {dtype: string, nullable: true}   # nulls are fine, and not reported
                carrier: {dtype: string}                   # a null is an error""",
    ),
    _code(
        code="DC106",
        name="nan-words",
        shows_words=True,
        severity="info",
        allowable=False,
        repairable=False,
        message="{violations} of {checked} values in {field} are words that pandas reads as NaN",
        finds="A word such as `nan` in a text column of a text file (CSV), which is text here and NaN in pandas.",
        why="""A vocabulary, a list of names or of country codes has such words. `pandas.read_csv` turns them into
            floats, and the code that expects text fails on them.""",
        example="""A vocabulary has the word nan:

                DC106 info: 1 of 30,522 values in 'word' are words that pandas reads as NaN, such as 'nan' (vocab.tsv, row 4021)""",
        remedy="""Read the file with `pandas.read_csv(..., keep_default_na=False)`. If the words mean that there is no
            value, list them: `reading: {csv_null_values: ['', 'nan']}`; if words that are null by default are text,
            list others. A field that the schema declares as `string` is not reported.""",
    ),
    _code(
        code="DC107",
        name="missing-key",
        allowable=False,
        repairable=False,
        counts_nulls=True,
        message="{violations} of {checked} records lack {field}",
        finds="""A JSON record without a key that the schema requires, in a field that is not `nullable`. A key whose
            value is null is DC104.""",
        why="""Readers of tables turn a missing key into null and then into NaN; a reader of records raises `KeyError`
            when the sample comes up, perhaps after days.""",
        example="""Three records have no score:

                DC107 3 of 20,000 records lack 'score' (train.jsonl, lines 472, 478, 616)""",
        remedy="""Add the key, or drop the records:

                - {action: drop_row, codes: DC107}

            If records may lack it, say so in the schema: `score: {dtype: float64, required: false, nullable:
            true}`.""",
    ),
    _code(
        code="DC108",
        name="other-missing-key",
        severity="info",
        allowable=False,
        repairable=False,
        counts_nulls=True,
        message="{violations} of {checked} records lack {field}",
        finds="A JSON record without a key that others have, in a field that the schema does not mention.",
        why="It may be meant: many keys are optional. A collate function that expects the key fails on it.",
        example="""Some records have no source:

                DC108 info: 2,512 of 336,776 records lack 'meta.source' (train.jsonl, lines 2, 9, 10, …)""",
        remedy="""Nothing, if the key is optional. List the field in the schema to say which it is:

                meta.source: {dtype: string, required: false}   # records may lack it, and nothing is reported
                score: {dtype: float64}                         # a record without it is an error""",
    ),
    _code(
        code="DC110",
        name="missing-value",
        shows_values=True,
        message="{violations} of {checked} values in {field} mark a missing value ({detail})",
        finds="""A value that the schema lists under `missing`, such as -999. In a nullable field it is a note. No other
            rule and no statistic looks at such values.""",
        why="""To a model it is a number like any other: one -999 shifts a mean, and its square outweighs thousands of
            good rows in the loss.""",
        example="""A station writes -999.99 while it is off, and the schema has `missing: [-999.99]`:

                DC110 450 of 10,000 values in 'wind' mark a missing value ('-999.99'): found -999.99 (weather.parquet, row group 0, rows 17, 90, 91, 92, 93, …)""",
        remedy="""Impute it, or make it null, which the field must then allow:

                - {action: impute, strategy: median, fields: wind}
                - {action: to_null, fields: wind}
                - {action: drop_row, fields: wind, codes: DC110}""",
    ),
)
