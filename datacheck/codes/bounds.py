"""DC2xx: bounds, membership and other rules on single values."""

from __future__ import annotations

from functools import partial

from datacheck.codes.code import Code, Family

_code = partial(Code, family=Family.BOUNDS, level="value", tolerable=True, shows_values=True)

CODES = (
    _code(
        code="DC201",
        name="ge",
        repairable=True,
        side="lower",
        message="{violations} of {checked} values in {field} are not {detail}",
        finds="A value below the lower bound `ge`.",
        why="""An impossible value is a placeholder (-999), a wrong unit or a broken sensor. One of them shifts a mean,
            squashes all other values when features are scaled, and produces gradients that dwarf all others.""",
        example="""A sensor writes -999 for a missing value, and the schema has `ge: 0`:

                DC201 12 of 20,000 values in 'precip' are not >= 0: found -999.0 (train.parquet, row group 0, rows 5, 6, 7, 8, 9, …)""",
        remedy="""Find out what the value means. Then choose a rule; `clip` uses the schema's bounds:

                - {action: clip, fields: precip}
                - {action: impute, strategy: median, fields: precip, codes: DC201}
                - {action: quarantine, codes: DC2}""",
    ),
    _code(
        code="DC202",
        name="le",
        repairable=True,
        side="upper",
        message="{violations} of {checked} values in {field} are not {detail}",
        finds="A value above the upper bound `le`.",
        why="""An impossible value is a placeholder (9999), a wrong unit or a broken sensor. Its square in the loss
            outweighs thousands of good rows.""",
        example="""An anemometer once reported 1,048 miles an hour, and the schema has `le: 200`:

                DC202 3 of 20,000 values in 'wind_speed' are not <= 200: found 1048.0 (train.parquet, row group 2, rows 11, 12, 13)""",
        remedy="""Find out what the value means. Then choose a rule; `clip` uses the schema's bounds:

                - {action: clip, fields: wind_speed}
                - {action: quarantine, fields: wind_speed, codes: DC202}

            If the bound excludes real values, widen it in the schema.""",
    ),
    _code(
        code="DC203",
        name="gt",
        repairable=True,
        side="lower",
        message="{violations} of {checked} values in {field} are not {detail}",
        finds="A value at or below the exclusive lower bound `gt`.",
        why="""If zero or less is impossible, the logarithm, root or division that follows turns the value into NaN or
            infinity.""",
        example="""A flight of 0 miles, and the schema has `gt: 0`:

                DC203 1 of 20,000 values in 'distance' are not > 0: found 0.0 (train.parquet, row group 4, row 88213)""",
        remedy="""Quarantine such rows or impute a value. `clip` would move the value to the nearest one inside the
            bound, which for `gt: 0` is so small that its logarithm or inverse is no better:

                - {action: quarantine, fields: distance, codes: DC203}
                - {action: impute, strategy: median, fields: distance, codes: DC203}""",
    ),
    _code(
        code="DC204",
        name="lt",
        repairable=True,
        side="upper",
        message="{violations} of {checked} values in {field} are not {detail}",
        finds="A value at or above the exclusive upper bound `lt`.",
        why="""Class labels and positions start at 0, so the number of classes itself is already too large. An embedding
            or a cross-entropy indexes out of range, which on a GPU is an assertion that ends the process.""",
        example="""Ten classes are labelled 1 to 10 instead of 0 to 9, and the schema has `lt: 10`:

                DC204 6,012 of 60,000 values in 'label' are not < 10: found 10 (labels.npy, rows 3, 9, 14, 20, 31, …)""",
        remedy="""Correct the numbering where the data is produced. A few bad rows can be quarantined:

                - {action: quarantine, fields: label, codes: DC204}""",
    ),
    _code(
        code="DC205",
        name="isin",
        repairable=True,
        message="{violations} of {checked} values in {field} are not {detail}",
        finds="A value that is not in the list `isin`.",
        why="""An unknown category has no row in the encoder: it raises in the middle of training, or is mapped to
            category 0 and mislabelled.""",
        example="""A trailing space turns an airport into another one:

                DC205 2 of 20,000 values in 'origin' are not one of 'EWR', 'JFK', 'LGA': found 'JFK ' (train.parquet, row group 0, rows 3, 8)""",
        remedy="""Correct the spelling where the data is produced, add a valid new category to `isin`, or choose a rule:

                - {action: impute, strategy: most_frequent, fields: origin, codes: DC205}
                - {action: quarantine, fields: origin, codes: DC205}""",
    ),
    _code(
        code="DC206",
        name="str-matches",
        repairable=True,
        message="{violations} of {checked} values in {field} do not match {detail}",
        finds="A string that the regular expression `str_matches` does not match from its start.",
        why="An identifier in another form does not join, and the features from that join are then missing.",
        example="""Tail numbers in this data start with N, and the schema has `str_matches: '^N[0-9A-Z]+$'`:

                DC206 7 of 20,000 values in 'tailnum' do not match '^N[0-9A-Z]+$': found 'D942DN', 'n17' (train.parquet, row group 0, rows 2, 40, …)""",
        remedy="""Correct the strings where the data is produced, or the expression in the schema. End it with `$` to
            match the whole string. Rows can be quarantined:

                - {action: quarantine, fields: tailnum, codes: DC206}""",
    ),
    _code(
        code="DC207",
        name="check",
        message="{violations} of {checked} values in {field} fail {rule}",
        finds="A value that fails one of the pandera checks listed under the field's `checks`.",
        why="""The author of the schema knows that this rule holds for good values, so a value that breaks it was
            produced in some other way.""",
        example="""The schema has `checks: {str_length: {min_value: 3, max_value: 3}}`:

                DC207 1 of 20,000 values in 'dest' fail str_length(min_value=3, max_value=3): found 'JF' (train.parquet, row group 0, row 19)""",
        remedy="""Correct the values where the data is produced, or the check in the schema. Rows can be quarantined:

                - {action: quarantine, fields: dest, codes: DC207}""",
    ),
    _code(
        code="DC208",
        name="invalid-text",
        message="{violations} of {checked} values in {field} are not valid UTF-8",
        finds="Text whose bytes are not valid UTF-8, in a column that says it holds text.",
        why="""Most readers raise on the first such value, in the middle of an epoch; the others replace its characters.
            The usual cause is Latin-1 or binary data that was written as text.""",
        example="""A writer stored Latin-1 bytes:

                DC208 1 of 20,000 values in 'city' are not valid UTF-8: M\\xfcnchen (train.parquet, row group 0, row 19)""",
        remedy="""Decode the bytes with their real encoding where the data is produced, or store them as binary. Rows
            can be quarantined:

                - {action: quarantine, fields: city, codes: DC208}""",
    ),
    _code(
        code="DC209",
        name="absurd-weight",
        shows_values=True,
        message="{violations} of {checked} values in {field} are larger than any weight (1e30)",
        finds="""Finite values of more than 1e30 in a weight of a model, a statistic of a layer or the state of an
            optimizer. Looked for in GGUF and DCP checkpoints, and in `.safetensors` and `.pt` files with names of weights.""",
        why="""Memory that was allocated and never written looks like this, and so does a shard with damaged bytes. The
            first product with such a weight is infinite. Bounds in a schema replace the check.""",
        example="""A buffer was saved before it was filled:

                DC209 12 of 4,096 values in 'layers.3.scale' are larger than any weight (1e30): found 1.4e+38 (model.safetensors, rows 0, 1, 2, 3, 4, …)""",
        remedy="Fetch or write the checkpoint again. A weight that is set to 0 instead makes a plausible, wrong model.",
    ),
    _code(
        code="DC211",
        name="not-blank",
        repairable=True,
        shows_values=False,
        message="{violations} of {checked} texts in {field} are empty or blank",
        finds="A text that is empty or has only blanks, where the schema has `not_blank: true`.",
        why="A tokenizer makes no tokens of it, and a loss that averages over no tokens is 0/0, which is NaN.",
        example="""Two answers were never written:

                DC211 2 of 19,000 texts in 'answer' are empty or blank (train.parquet, row group 0, rows 28, 150)""",
        remedy="""Remove the rows:

                - {action: drop_row, fields: answer, codes: DC211}""",
    ),
    _code(
        code="DC212",
        name="stripped",
        repairable=True,
        message="{violations} of {checked} texts in {field} begin or end with a blank",
        finds="A text that begins or ends with a blank or a line break, and the schema has `stripped: true`.",
        why="`'fridge '` and `'fridge'` become two classes, and tokenizers make other tokens of a word after a blank.",
        example="""A trailing blank makes another category:

                DC212 1 of 5,000 texts in 'item' begin or end with a blank: found 'fridge ' (items.csv, row 12, line 14)""",
        remedy="""Strip the texts where they are produced. Rows can be quarantined:

                - {action: quarantine, codes: DC212}""",
    ),
    _code(
        code="DC213",
        name="printable",
        repairable=True,
        message="{violations} of {checked} texts in {field} have U+FFFD or control characters",
        finds="""A text with the replacement character U+FFFD or a control character other than tab and line breaks, and
            the schema has `printable: true`.""",
        why="""U+FFFD marks bytes that could not be decoded: the letters are lost. Control characters come from binary
            data or terminals, and become tokens that nothing else has.""",
        example="""Latin-1 was decoded as UTF-8:

                DC213 1 of 5,000 texts in 'city' have U+FFFD or control characters: found 'M�nchen' (books.parquet, row group 0, row 3)""",
        remedy="""Decode the source with its real encoding, and write the texts again. Rows can be quarantined:

                - {action: quarantine, codes: DC213}""",
    ),
    _code(
        code="DC214",
        name="length",
        repairable=True,
        shows_values=False,
        message="{violations} of {checked} values in {field} are not of {detail}",
        finds="A text or binary value that is shorter than `min_length` or longer than `max_length`.",
        why="""A context window cuts off what is too long, and what is too short is often a failed download or an error
            page.""",
        example="""A page was not found, and the schema has `min_length: 100`:

                DC214 3 of 20,000 values in 'page' are not of 100 or more characters (crawl.parquet, row group 0, rows 7, 19, 20)""",
        remedy="""Remove the rows, or correct the limits in the schema:

                - {action: drop_row, codes: DC214}""",
    ),
    _code(
        code="DC215",
        name="vocab-size",
        repairable=True,
        message="{violations} of {checked} values in {field} are not {detail}",
        finds="A token id below 0 or not below `vocab_size`, other than `ignore_index`.",
        why="""An embedding indexes out of range, which on a GPU is an assertion that ends the process. Negative ids are
            ids that wrapped around in a dtype too small for them.""",
        example="""Ids above 32,767 were saved as int16, and the schema has `vocab_size: 50257`:

                DC215 2,871 of 8,192 values in 'input_ids' are not token ids from 0 to 50,256: found -15281 (tokens.npy, rows 0, 1, 2, …)""",
        remedy="""Write the ids again in a dtype that holds them: uint16 up to 65,536 ids, else int32. Rows can be
            quarantined:

                - {action: quarantine, codes: DC215}""",
    ),
    _code(
        code="DC216",
        name="all-ignored",
        level="row",
        shows_values=False,
        message="{violations} of {checked} rows in {field} have no label other than {detail}",
        finds="A row in which every label is `ignore_index`.",
        why="A cross-entropy over a batch of such rows divides by zero: the loss is NaN.",
        example="""A prompt filled the whole context, so its answer was cut off:

                DC216 4 of 10,000 rows in 'labels' have no label other than -100 (train.parquet, row group 0, rows 3, 81, 82, 90)""",
        remedy="""Remove the rows, or cut prompts rather than answers:

                - {action: drop_row, codes: DC216}""",
    ),
    _code(
        code="DC217",
        name="format",
        level="row",
        shows_values=False,
        message="{violations} of {checked} {detail} in {field} break: {rule}",
        finds="""A box with swapped corners, without a size or beyond `within`; a chat with an unknown role, with turns
            that do not alternate, without an answer or with a message without text. The schema has a `format`.""",
        why="""A loss takes the logarithm or the root of a width, or divides by an area: of a negative width it is NaN.
            A chat template raises, or makes a sample without anything to learn.""",
        example="""Two boxes have their corners swapped:

                DC217 2 of 1,200 boxes in 'boxes' break: x1 < x2 (train.parquet, row group 0, rows 17, 90)""",
        remedy="""Correct the values where they are produced. Rows can be quarantined:

                - {action: quarantine, codes: DC217}""",
    ),
)
