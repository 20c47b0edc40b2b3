"""DC319 and on: rules of a schema about neighbouring rows, and about the dataset as a whole."""

from __future__ import annotations

from functools import partial

from datacheck.codes.code import Code, Family

_code = partial(Code, family=Family.ROWS, level="dataset")

CODES = (
    _code(
        code="DC319",
        name="out-of-order",
        tolerable=True,
        message="{violations} of {checked} rows are out of order in {field}: {detail}",
        finds="A row whose value is out of order after the row before it in its group.",
        why="""Windows, lags and differences are taken over neighbouring rows. Rows out of order mix the future into the
            past, and nothing raises.""",
        example="""The schema has `sequence: {by: series, on: time}`, and a file was appended before an earlier one:

                DC319 1 of 239 rows are out of order in 'time': expected increasing, found 0 after 59 in series 's2' (panel.parquet, row group 1, row 60)""",
        remedy="""Sort the rows by the fields of `by`, then by the field of `on`. Files are read in the order of their names.
            `order: decreasing` accepts the opposite order, `strictly_increasing` no equal values.""",
    ),
    _code(
        code="DC320",
        name="wrong-step",
        tolerable=True,
        message="{violations} of {checked} steps of {field} are wrong: {detail}",
        finds="""A row whose step from the row before it in its group is not the one in the schema: a gap, or a repeated
            value.""",
        why="""A model of time series takes the n-th row for the n-th hour. After a gap all rows are shifted, and a
            window that covers it learns a jump that never happened.""",
        example="""The schema has `sequence: {by: series, on: time_idx, step: 1}`, and five steps are missing:

                DC320 1 of 235 steps of 'time_idx' are wrong: expected 1, found 6 from 19 to 25 in series 's2' (panel.parquet, row group 0, row 140)""",
        remedy="""Fill the gap (pandas' `asfreq` or `resample`), or split the series there. To accept gaps up to a
            length, give bounds:

                sequence: {by: series, on: time, step: {gt: 0s, le: 2h}}""",
    ),
    _code(
        code="DC321",
        name="scattered-group",
        tolerable=True,
        message="rows that continue an interrupted group of {field}: {violations}; {detail}",
        finds="A row that continues a group after rows of other groups, where the schema has `contiguous: true`.",
        why="""Loaders that read a group until its key changes take each piece for a group of its own. Sequences are cut
            in two, and pieces of one patient or episode end in different batches.""",
        example="""Two exports were concatenated, and the schema has `sequence: {by: episode, contiguous: true}`:

                DC321 rows that continue an interrupted group of 'episode': 1; other rows lie between those of episode '7' (episodes.parquet, row group 3, row 30412)""",
        remedy="Sort the rows by the fields of `by`, with a stable sort that keeps the order inside each group.",
    ),
    _code(
        code="DC322",
        name="group-size",
        about_inputs=True,
        message="{violations} of {checked} groups of {field} have a wrong number of rows: {detail}",
        finds="Groups with fewer or more rows than `num_rows` of a `sequence` in the schema allows.",
        why="""A series shorter than the context window yields no sample, or one that is mostly padding; one much longer
            than all others outweighs them.""",
        example="""A sensor was installed last week, and the schema has `sequence: {by: sensor, num_rows: {ge: 168}}`:

                DC322 1 of 40 groups of 'sensor' have a wrong number of rows: expected >= 168 rows, found 12 in sensor 's39' (readings.parquet, row group 5, row 61003)""",
        remedy="""Leave the groups out before training, or correct the bound. Where a key changed its spelling, repair
            it.""",
    ),
    _code(
        code="DC323",
        name="statistic",
        about_inputs=True,
        message="the {rule} of {field} {detail}",
        finds="A mean, standard deviation, quantile or share of a field, over the whole dataset, out of its bounds.",
        why="""Each value is possible and the dataset still wrong: a changed unit, half of the labels lost, a sensor
            that sticks at zero. One number over all rows shows it.""",
        example="""One of the classes was lost in a join, and the schema has `share: {spam: {ge: 10%}}`:

                DC323 the share of spam of 'label' is 0.4 % (81 of 20,000), expected >= 10 % (train.parquet)""",
        remedy="""Find out what changed. If the data is right, change the bound in the schema; a share may be given as
            the most that is allowed: `share: {nan: 1%}`.""",
    ),
    _code(
        code="DC324",
        name="distinct-values",
        about_inputs=True,
        message="{field} {detail}",
        finds="""A field with fewer or more different values than the schema says, without some of the values that must
            occur, or with values that are not listed.""",
        why="""A constant field has a standard deviation of zero: normalising by it makes every value NaN. A class that
            does not occur cannot be learned, and an identifier with few different values does not identify anything.""",
        example="""A sensor sent its default value for a month, and the schema has `min_distinct: 2`:

                DC324 'temp' is constant: all 500 values are 20.0; expected at least 2 (train.parquet)""",
        remedy="""Leave a constant field out of training, or find out why it is constant. Collect data of the values
            that are missing, or correct `covers`.""",
    ),
    _code(
        code="DC325",
        name="dataset-size",
        about_inputs=True,
        message="the dataset has {detail}",
        finds="A number of rows or files that the schema does not allow.",
        why="""A filter that matched less than it should, or a part of an upload that never arrived, leaves data in
            which every value is right.""",
        example="""One of four shards is missing, and the schema has `num_files: 4`:

                DC325 the dataset has 3 files, expected 4 (data/part-0.parquet)""",
        remedy="Find out which rows or files are missing, or correct `num_rows` or `num_files` in the schema.",
    ),
    _code(
        code="DC326",
        name="stale",
        about_inputs=True,
        cacheable=False,
        message="{field} is stale: {detail}",
        finds="A field whose newest time is older than `max_age` in the schema.",
        why="""A job that failed in silence leaves yesterday's files where today's should be: everything about them is
            right but their age.""",
        example="""The export has not run since Monday, and the schema has `max_age: 2d`:

                DC326 'time' is stale: the newest value is 2024-03-04 23:00:00, 4d 9h ago, expected at most 2d (events.parquet, row group 7, row 70411)""",
        remedy="Run again what writes the data, and find out why its failure went unnoticed.",
    ),
    _code(
        code="DC327",
        name="contradiction",
        tolerable=True,
        message="{violations} of {checked} rows have another {field} than an earlier row: {detail}",
        finds="""A row that has other values than an earlier row with the same key, where the schema says that the key
            determines them.""",
        why="""The same text with two labels, the same image with two boxes: whatever the model answers, one of them
            counts as an error, and no training can make both right.""",
        example="""Two annotators disagreed, and the schema has `determines: {text: label}`:

                DC327 1 of 400 rows have another 'label' than an earlier row: text 'not bad' has 'negative', and 'positive' in row 17 of train.parquet (train.parquet, row group 0, row 311)""",
        remedy="""Decide which of the values is right. `drop_row` or `quarantine` keeps the rows that agree with the
            first one of their key:

                - {action: quarantine, codes: DC327}""",
    ),
    _code(
        code="DC328",
        name="broken-reference",
        cacheable=False,
        tolerable=True,
        message="{violations} of {checked} rows refer to a {field} that does not exist: {detail}",
        finds="A row whose key is missing from the file that the schema refers to, or names no file in the folder that it refers to.",
        why="""The join drops the row or fills it with nulls, and the loader raises at the first missing image:
            often in the middle of the night.""",
        example="""An image was deleted, and the schema has `references: {fields: image, folder: images}`:

                DC328 1 of 5,000 rows refer to a 'image' that does not exist: image 'cat/0173.png' is not in images (index.csv, row 173, line 175)""",
        remedy="""Restore what is missing, or leave the rows out:

                - {action: drop_row, codes: DC328}

            Paths in `references` start from the folder of the schema. Rows with a null in the key refer to nothing.""",
    ),
    _code(
        code="DC329",
        name="key-in-two-splits",
        tolerable=True,
        message="{violations} of {checked} rows have a {field} that is in another split too: {detail}",
        finds="""A row whose key also occurs in the training split, or in an earlier one, where the schema keeps them
            apart.""",
        why="""Two scans of one patient, two reviews by one customer: the model knows the answer from training, and the
            score measures its memory.""",
        example="""Scans were split one by one, and the schema has `splits: {apart: patient_id}`:

                DC329 96 of 1,204 rows have a 'patient_id' that is in another split too: patient_id '8812' is also in train, row 812 of train.parquet (test.parquet, row group 0, rows 4, 5, 31, 77, 80, …)""",
        remedy="""Split by the key (scikit-learn's `GroupShuffleSplit`), or leave the rows out of the later split:

                - {action: drop_row, codes: DC329}""",
    ),
    _code(
        code="DC330",
        name="time-overlap",
        about_inputs=True,
        message="the times of {field} overlap: {detail}",
        finds="A split whose first time is before the last one of the training split, or too close after it.",
        why="""Neighbouring days are alike. A model that was trained on the days before and after the one that it is
            tested on has seen the answer. A random split of time series is a leak.""",
        example="""Days were split at random, and the schema has `splits: {time: {on: day}}`:

                DC330 the times of 'day' overlap: test begins at 2024-01-03, the training data ends at 2024-10-26 (row 240 of train.parquet) (test.parquet, row group 0, row 0)""",
        remedy="""Split by time: train on what is before a date, test on what is after it (scikit-learn's
            `TimeSeriesSplit`). A `gap` keeps windows that reach back from the test split out of the training data.""",
    ),
    _code(
        code="DC331",
        name="variants",
        shows_values=True,
        about_inputs=True,
        message="{violations} of {checked} texts in {field} are variants of others: {detail}",
        finds="""Texts that differ from a more frequent one only in case or in blanks, and the schema has `no_variants:
            true`.""",
        why="`'fridge '` and `'fridge'` become two classes, and each has fewer rows than the one that was meant.",
        example="""A trailing blank makes another category:

                DC331 1 of 5,000 texts in 'item' are variants of others: 'fridge ' (1) of 'fridge' (1,204): found 'fridge ' (items.parquet, row group 0, row 12)""",
        remedy="""Correct the spelling where the data is produced. To report single rows, list the correct spellings:

                item: {dtype: string, isin: [fridge, oven]}""",
    ),
)
