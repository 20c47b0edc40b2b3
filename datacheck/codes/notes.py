"""DC5xx: notes on what looks wrong and no rule forbids. ``scan --notes``, ``schema infer`` and ``init`` print them."""

from __future__ import annotations

from functools import partial

from datacheck.codes.code import Code, Family

_code = partial(Code, family=Family.NOTES, level="dataset", severity="info", about_inputs=True)

CODES = (
    _code(
        code="DC501",
        name="sentinel",
        message="{violations} of {checked} values in {field} are {detail}",
        finds="One value that occurs many times, far beyond all others: -999, 9999, 1e20, the year 9999.",
        why="""It probably stands for a missing value. As a number it shifts the mean, squashes all other values when
            features are scaled, and dominates the loss.""",
        example="""A weather station writes -999.99 while it is off:

                DC501 info: 450 of 10,000 values in 'wind' are -999.99, far below the others, which begin at -12.4; is it a sentinel? As a rule: missing: [-999.99], or ge: -15 (weather.parquet, row 17)""",
        remedy="""If it means missing, say so in the schema; if it is an error, forbid it with a bound. A rule can then
            repair it:

                wind: {dtype: float32, missing: [-999.99]}""",
    ),
    _code(
        code="DC502",
        name="outliers",
        message="{violations} of {checked} values in {field} are far beyond the others: {detail}",
        finds="""A few values that lie beyond the middle 98 % of the values by more than ten times its width.""",
        why="One such value can outweigh thousands of others in the loss, and the loss spikes whenever it is drawn.",
        example="""Two forces of a simulation blew up:

                DC502 info: 2 of 14,400 values in 'forces' are far beyond the others: -35 and 40, while 98 % lie in -0.12 .. 0.12. As a rule: ge: -0.2, le: 0.2 (mol.npz, row 77, index [3, 0])""",
        remedy="""Look at the rows. Set bounds in the schema; a rule can then clip or quarantine what lies beyond:

                forces: {dtype: float32, ge: -5, le: 5}""",
    ),
    _code(
        code="DC503",
        name="overflow-when-cast",
        message="{violations} of {checked} values in {field} {detail}",
        finds="""A finite number that becomes infinite in float32 or in float16, or an instant that `timestamp[ns]`
            cannot hold.""",
        why="""Training casts: `.float()`, `.half()`, autocast, pandas before 3 with its nanoseconds. What is finite in
            the file is infinite, or an exception, after the cast.""",
        example="""A value was typed with too many digits:

                DC503 info: 1 of 100 values in 'x' become infinite in float32. As a rule: dtype: float32, coerce: true (train.csv, row 61)""",
        remedy="""If the model trains in the narrower dtype, declare it, so that such values are errors:

                x: {dtype: float32, coerce: true}""",
    ),
    _code(
        code="DC504",
        name="constant-field",
        message="all {checked} values in {field} are {detail}",
        finds="A field, or one index of an axis of an array, with one value throughout.",
        why="""A constant feature teaches nothing, and standardising it divides by zero. Often a sensor was off, or a
            join found nothing.""",
        example="""A sensor was off from beginning to end:

                DC504 info: all 288 values in 'speed' are 0 at index 11 of the last axis. As a rule: bounds for it under columns (speed.npz)""",
        remedy="""Find out why it is constant. If it always is, drop it:

                - {action: drop_field, fields: temp}""",
    ),
    _code(
        code="DC505",
        name="constant-vectors",
        message="{violations} of {checked} vectors in {field} {detail}",
        finds="A row's vector, matrix or image that is all zero, or one value throughout.",
        why="""A vector of zeros has no direction: its cosine similarity is 0/0, and normalising it gives NaN. It
            usually stands for an input that could not be encoded.""",
        example="""Three inputs could not be encoded:

                DC505 info: 3 of 10,000 vectors in 'embedding' are all zero. As a rule: expr: any(embedding != 0) (train.parquet, rows 4, 90, 7113)""",
        remedy="Find out what the rows have in common, and remove them or encode them again.",
    ),
    _code(
        code="DC506",
        name="few-values",
        message="the {checked} values in {field} are {detail}",
        finds="A floating-point field with only a few different values, such as class labels or flags stored as floats.",
        why="""They are codes, not measurements. One of them may be unexpected, such as -1 for rows without
            a label.""",
        example="""Labels are floats, and -1 means none:

                DC506 info: the 900 values in the array are only 3 different ones: -1 (45), 0 (792), 1 (63). As a rule: isin, with those that are meant (y_train.npy)""",
        remedy="""List the values that are meant:

                label: {dtype: float32, isin: [0, 1]}""",
    ),
    _code(
        code="DC507",
        name="missing-class",
        message="{violations} of {checked} integers from {detail}",
        finds="Integers that look like class ids, counted from 0 or 1, some of which do not occur.",
        why="""Libraries that count classes by their largest id expect every id below it. A class without a row is never
            learned, and its metric is 0/0.""",
        example="""The classes 0 to 24 have a gap:

                DC507 info: 1 of 25 integers from 0 to 24 do not occur in the array: 5. As a rule: covers, with every class from 0 to 24 (y.npy)""",
        remedy="Number the classes without gaps, or find out where the rows of the missing class went.",
    ),
    _code(
        code="DC508",
        name="blank-text",
        message="{violations} of {checked} texts in {field} are {detail}",
        finds="Empty texts, and texts of nothing but blanks, in a field that mostly has others.",
        why=("A tokenizer makes no tokens of them. A loss that averages over no tokens is 0/0, which is NaN."),
        example="""Two answers were never written:

                DC508 info: 2 of 19,000 texts in 'answer' are empty or blank. As a rule: not_blank: true (train.parquet, rows 28, 150)""",
        remedy="""Require a character that is not a blank:

                answer: {dtype: string, not_blank: true}""",
    ),
    _code(
        code="DC509",
        name="text-variants",
        message="{violations} of {checked} texts in {field} are {detail}",
        finds="""Texts of a category that differ from another one only in case or in blanks, and short texts that begin
            or end with blanks.""",
        why="`'fridge '` and `'fridge'` become two classes, and each has fewer rows than the one that was meant.",
        example="""A trailing blank makes another category:

                DC509 info: 1 of 5,000 texts in 'item' are variants of others: 'fridge ' (1) of 'fridge' (1,204). As a rule: no_variants: true (items.csv)""",
        remedy="""Correct the spelling where the data is produced, and forbid variants:

                item: {dtype: string, no_variants: true}""",
    ),
    _code(
        code="DC510",
        name="damaged-text",
        message="{violations} of {checked} texts in {field} {detail}",
        finds="Texts with the replacement character U+FFFD, or with control characters.",
        why="""U+FFFD marks bytes that could not be decoded: the letters are lost. Control characters come from binary
            data or terminals, and become tokens that nothing else has.""",
        example="""Latin-1 was decoded as UTF-8:

                DC510 info: 12 of 5,000 texts in 'title' have U+FFFD or control characters. As a rule: printable: true (books.parquet, rows 3, 71, ...)""",
        remedy="""Decode the source with its real encoding. As a rule:

                title: {dtype: string, printable: true}""",
    ),
    _code(
        code="DC511",
        name="numbers-as-text",
        message="the texts in {field} {detail}",
        finds="A text field whose values are numbers, numbers with a decimal comma, percentages or amounts of money.",
        why="Encoders take each different number for a category of its own, and no rule on numbers looks at them.",
        example="""A European spreadsheet was exported:

                DC511 info: the texts in 'trip_km' look like numbers with a decimal comma: set csv_decimal: ','. As a rule: dtype: float64 (eu.tsv)""",
        remedy="""Declare the dtype that is meant, and set the notation if it is another one (`csv_decimal`,
            `csv_thousands`).""",
    ),
    _code(
        code="DC512",
        name="file-unlike-others",
        message="{violations} of {checked} files differ from the others in {field}: {detail}",
        finds="""A file whose values of a field do not overlap with any other file, while the values of the others
            overlap; or whose values are spread 30 times as far as in the others, or less than a 30th.""",
        why="One source used another unit or another scale, and the model learns the file instead of the quantity.",
        example="""One model writes degrees Celsius, the others kelvin:

                DC512 info: 1 of 4 files differ from the others in 'ts': 'model3.parquet' has 90 % of the values in -1.4 .. 25, the others in 272 .. 298. As a rule: ge: 250 (all/model3.parquet)""",
        remedy="Convert the file to the unit of the others. Bounds in the schema find it from then on.",
    ),
    _code(
        code="DC513",
        name="lengths-side-by-side",
        message="{detail}",
        finds="""Arrays side by side, such as X.npy and y.npy or the members of an .npz, that have different numbers of
            rows. Also lists of one row that are equally long in nearly all rows, such as tokens and their labels.""",
        why="""Row i of one is not row i of the other, or the loader stops at the shorter one and says nothing. Lists of
            different lengths cannot be stacked, or each label belongs to another token.""",
        example="""A row was lost in one of two files:

                DC513 info: X has 1,000 rows, y has 999 rows, side by side. As a rule: one dimension name in their shapes, such as shape: [N] (DC304) (X.npy)""",
        remedy="""Find the row that is missing or too many, and write the files again, together. For lists of one row, as a
            rule:

                checks: [len(input_ids) == len(labels)]""",
    ),
    _code(
        code="DC514",
        name="overlapping-times",
        message="the times in {field} overlap between splits: {detail}",
        finds="A time field whose range in the training files overlaps with that in the files of another split.",
        why="A model that has seen the time it is tested on knows the future: its score does not hold in production.",
        example="""A random split of a time series:

                DC514 info: the times in 'ts' overlap between splits: train ends 2024-03-09, test begins 2024-03-01. As a rule: splits: {time: {on: ts}} (data/train.parquet)""",
        remedy="Split by time, with a gap that is as long as the horizon of the features.",
    ),
    _code(
        code="DC515",
        name="missing-words",
        message="{violations} of {checked} texts in {field} are words for a missing value. {detail}",
        finds="""Texts such as `None`, `nan` or `N/A` in a field that mostly has others, in a format that distinguishes
            text from null. In text files it is DC106.""",
        why="""`str(None)` and `str(float('nan'))` write them: a missing value has become a category, a token or a name,
            and no check for nulls finds it.""",
        example="""Missing values were converted to text:

                DC515 info: 12 of 5,000 texts in 'city' are words for a missing value. As a rule: missing: ['None', 'nan'] (people.parquet, row group 0, rows 3, 71, …)""",
        remedy="""Write nulls where the data is produced, or say what the words mean:

                city: {dtype: string, nullable: true, missing: [None, nan]}""",
    ),
    _code(
        code="DC516",
        name="uneven-steps",
        message="{violations} of {checked} steps in {field} {detail}",
        finds="""Integers or times that nearly always grow by one step from row to row, as a series does, and the places
            where they do not: gaps, repeats, shorter steps. Where the values go back, another series begins.""",
        why="""A window over rows takes them for evenly spaced in time. Across a gap it joins what does not belong
            together, and lags and differences are of the wrong length.""",
        example="""A sensor was silent for five hours:

                DC516 info: 1 of 8,760 steps in 'time' are not 1h: 1 gap (6h, from 2024-03-01 19:00:00 to 2024-03-02 01:00:00 in sensor 's2'). As a rule: sequence: {by: sensor, on: time, step: 1h} (panel.parquet, row 1459)""",
        remedy="""Fill the gap, or cut the series there. A rule finds the next one:

                sequence: {by: sensor, on: time, step: 1h}""",
    ),
)
