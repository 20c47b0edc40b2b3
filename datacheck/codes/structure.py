"""DC0xx: the fields of a file, their dtypes and their shapes."""

from __future__ import annotations

from functools import partial

from datacheck.codes.code import Code, Family

_code = partial(Code, family=Family.STRUCTURE, level="file")

CODES = (
    _code(
        code="DC001",
        name="missing-field",
        message="{field} is missing: {detail}",
        finds="A field that the schema requires and the file does not have.",
        why="""A loader that fills in a default, or a model built from the columns it finds, trains on different inputs
            than you think. The usual cause is a renamed column.""",
        example="""The schema has `dep_delay`, and the file has `departure_delay`:

                DC001 'dep_delay' is missing: the schema requires it (data/train/part-0.parquet)""",
        remedy="""Write the file with the field, or correct its name in the schema. If the field is optional, say so:

                dep_delay: {dtype: float32, required: false}""",
    ),
    _code(
        code="DC002",
        name="extra-field",
        message="{field} is not in the schema, which is strict",
        finds="A field that a strict schema does not list.",
        why="""An unexpected column often holds the label, or something known only afterwards, and a model that sees it
            learns to cheat. Its values are checked only for NaN, infinities and nulls.""",
        example="""The schema has `strict: true` and does not list `arr_time`:

                DC002 'arr_time' is not in the schema, which is strict (data/train/part-0.parquet)""",
        remedy="""Add the field to the schema, set `strict: false`, or drop the field in the pipeline:

                - {action: drop_field, fields: arr_time}""",
    ),
    _code(
        code="DC003",
        shows_values=True,
        name="dtype",
        becomes_null=True,
        message="{field} has the wrong dtype: {detail}",
        message_of_values="{violations} of {checked} values in {field} are {detail}",
        finds="""A field whose dtype differs from the schema. In a field that is converted (`coerce`, and every column
            of a CSV file): each value that does not convert.""",
        why="""A silent conversion changes values: int64 identifiers lose digits in float32, and NaN becomes -2147483648
            in int32.""",
        example="""The schema has float32, and the column was written as text:

                DC003 'distance' has the wrong dtype: string, expected float32 (data/train/part-0.parquet)

            Two cells of a CSV file are not numbers:

                DC003 2 of 5,000 values in 'distance' are not float32: found 'n.a.', '-' (planes.csv, rows 17, 4203, lines 19, 4205)""",
        remedy="""Write the column in the right dtype, or correct `dtype` in the schema. To accept any dtype that
            converts without loss, set `coerce`: the data is converted when it is cleaned, and rows with values that do
            not convert are quarantined:

                distance: {dtype: float32, coerce: true}""",
    ),
    _code(
        code="DC004",
        name="shape",
        message="{field} has the wrong shape: {detail}",
        message_of_values="{violations} of {checked} values in {field} are {detail}",
        finds="An array, or the value of a row, whose shape differs from the schema.",
        why="""Broadcasting hides a wrong shape: a target of shape (n, 1) against predictions of shape (n,) gives an (n,
            n) loss that trains and learns nothing. Swapped axes do not even change the size.""",
        example="""The schema has 24 hours of 5 features, and the axes are swapped:

                DC004 'windows' has the wrong shape: (6528, 5, 24), expected (any, 24, 5) (windows.npy)""",
        remedy="""Write the array in the right shape, or correct `shape` in the schema; `null` means any length:

                windows: {dtype: float32, shape: [null, 24, 5]}""",
    ),
    _code(
        code="DC005",
        name="not-checked",
        cacheable=False,
        nameless_field="the data",
        message="{field} could not be checked: {detail}",
        finds="A field that may hold NaN or infinities and that datacheck cannot inspect.",
        why="""A field that was not checked is not a clean field. It is reported, so that a clean report means what it
            says.""",
        example="""A union column hides which of its values are numbers:

                DC005 'payload' could not be checked: a union column hides which values are numbers (events.arrow)""",
        remedy="""Store the field as plain numbers, lists or structs. If training does not use it, drop it:

                - {action: drop_field, fields: payload}""",
    ),
    _code(
        code="DC006",
        name="duplicate-field",
        message="{field} is ambiguous: {detail}",
        finds="""Two columns of one file with the same name, or a column named like the path of a nested field: `a.b`
            beside a struct `a` with a field `b`.""",
        why="""Which of the two a reader returns depends on the reader. The column that was checked may not be the one
            you train on.""",
        example="""A join kept the column of both sides:

                DC006 'year' is ambiguous: 2 columns have this name (data/train/part-0.parquet)""",
        remedy="Write the file with one column per name. datacheck does not choose for you.",
    ),
    _code(
        code="DC007",
        name="stray-words",
        shows_words=True,
        becomes_null=True,
        message="{violations} of {checked} values in {field} are not numeric",
        finds="""Words in a column of a text file (CSV) that has mostly numbers, or numbers in a notation that was not
            set: a decimal comma, separated thousands, numbers in quotes. The numbers of the column are still checked.""",
        why="""One undeclared `n.a.` or `-` turns a numeric column into text for most readers, and `float()` or
            `np.loadtxt` fail on it.""",
        example="""A sensor wrote `error` instead of a value:

                DC007 2 of 5,000 values in 'temp' are not numeric, such as 'error' (weather.csv, rows 17, 4203)""",
        remedy="""If the words mean that there is no value, list them: `--csv-null-values error` on the command line, or
            `reading: {csv_null_values: ['', 'error']}` in the configuration or the pipeline. If the numbers are written
            in another way, say how: `--csv-decimal ,`, `--csv-thousands .`, `--csv-quote`, or `csv_decimal` and so on
            under `reading`. If the column is text, say that in the schema:

                temp: {dtype: string}

            A pipeline quarantines the rows, unless a rule about DC007 says otherwise, and publishes a column of
            numbers.""",
    ),
    _code(
        code="DC008",
        name="not-looked-into",
        severity="info",
        message="{field} was not looked into: {detail}",
        finds="""A field whose values may hold numbers that no check can see: bytes (serialized tensors, images), JSON
            or vectors in text.""",
        why="NaN in a tensor that was stored as bytes, or in a vector that was stored as text, is found by no check.",
        example="""Latents were stored as bytes, with their shape and dtype in other columns:

                DC008 info: 'latent_bytes' was not looked into: it holds bytes, which with 'latent_shape' and 'latent_dtype' are probably tensors; store them as lists of numbers (vid.parquet)""",
        remedy="""Nothing needs to be done. To have the values checked, store them as numbers, lists or structs. It is a
            note and does not fail a job; `ignore: [DC008]` in the configuration hides it.""",
    ),
    _code(
        code="DC009",
        name="never-written",
        message="{violations} of {checked} chunks of {field} were never written: {detail}",
        finds="""Chunks of an HDF5 dataset or a Zarr array that are declared and not stored. An error if readers see an
            infinity there, or NaN that the schema does not allow (`allow_nan`), else a warning.""",
        why="""Readers return the fill value for such chunks, without an error: rows of NaN, or of silent zeros. The
            usual cause is a writer that was killed, or an upload that lost files. A Zarr writer also leaves out chunks
            that hold nothing but the fill value, and the two cannot be told apart.""",
        example="""A job that fills a store was killed:

                DC009 7 of 10 chunks of 'x' were never written: readers see the fill value nan there, from row 300 on (train.zarr)""",
        remedy="""Write the chunks. Where all of a chunk is the fill value on purpose, write it too
            (`write_empty_chunks=True` in Zarr), or ignore the finding: `ignore: [DC009]`.""",
    ),
    _code(
        code="DC010",
        name="all-zero",
        severity="info",
        message="{field} holds only zeros",
        finds="A weight of a model with at least two axes, all of whose values are 0.",
        why="""A weight that was never loaded or never initialised is often a page of zeros. Some are zero on purpose:
            the second matrix of a LoRA adapter before training, the last layer of a residual block.""",
        example="""A conversion script left out the output layer:

                DC010 info: 'lm_head.weight' holds only zeros (model.safetensors)""",
        remedy="Compare with the checkpoint that it was made of. It is a note and does not fail a job.",
    ),
    _code(
        code="DC011",
        name="mixed-dtypes",
        severity="info",
        message="{field} has several dtypes: {detail}",
        finds="Weights whose names differ only in the layer number, and whose dtypes differ.",
        why="One layer in another precision is usually left over from a merge or a conversion that was interrupted.",
        example="""One layer was merged from another checkpoint:

                DC011 info: 'layers.*.mlp.weight' has several dtypes: 31 bfloat16 ('layers.0.mlp.weight', 'layers.1.mlp.weight' and 29 more), 1 float32 ('layers.7.mlp.weight') (model.safetensors)""",
        remedy="Save all layers in one dtype, unless they differ on purpose. It is a note and does not fail a job.",
    ),
    _code(
        code="DC012",
        name="mixed-types",
        shows_words=True,
        becomes_null=True,
        message="{violations} of {checked} values in {field} are of another type: {detail}",
        message_of_values="{violations} of {checked} values in {field} are of another type: {detail}",
        finds="""JSON values of another type than most at their path: the string `"NaN"` among numbers, an
            object among strings. The others are still checked.""",
        why="""Readers disagree about it: polars reads the numbers as strings, pyarrow and `datasets` fail on the whole
            file, and Python hands a string to the code that expects a number.""",
        example="""A score was written as text in two records:

                DC012 2 of 5,000 values in 'score' are of another type: strings among numbers, such as 'NaN' (chat.jsonl, lines 18, 4204)""",
        remedy="""Write one type per key. A pipeline quarantines the records, unless a rule about DC012 says otherwise:

                - {action: drop_row, codes: DC012}""",
    ),
    _code(
        code="DC013",
        name="split-sample",
        message="{violations} of {checked} samples are not whole in {field}: {detail}",
        finds="""A tar shard in which the members of one key are not next to each other, or in which two members of a
            sample have the same suffix.""",
        why="""WebDataset groups neighbours: members that are apart become two samples, each missing a field, without an
            error. Of two members with one name, the loader raises or takes the last.""",
        example="""Two writers appended to one shard:

                DC013 1 of 4,000 samples are not whole in '__key__': the members of 'n0017' are in several places (a-000.tar, row 801)""",
        remedy="Write the shard again, with the members of each sample in a row (`tar --sort=name`).",
    ),
    _code(
        code="DC014",
        name="vocabulary-too-large",
        message="the vocabulary does not fit {field}: {detail}",
        finds="Token ids in a dtype that cannot hold the vocabulary, which the schema gives with `lt` or `le`.",
        why="""Ids beyond the dtype wrap around when they are written: a vocabulary of 128,256 in uint16 makes half of
            the tokens wrong, and none of them is out of range.""",
        example="""A tokenizer with 128,256 tokens was written by a script for GPT-2:

                DC014 the vocabulary does not fit 'tokens': uint16 holds ids up to 65,535, and the schema allows ids below 128,256 (train.bin)""",
        remedy="Write the tokens again, with uint32.",
    ),
    _code(
        code="DC015",
        name="token-width",
        message="{field} seems to be read with the wrong dtype: {detail}",
        finds="Token ids every second of which is 0, or most of which are beyond any vocabulary.",
        why="""Ids of 4 bytes that are read as 2 have a 0 after each id: half of what the model learns is that 0 comes
            next.""",
        example="""A bin of int32 is read as uint16:

                DC015 'tokens' seems to be read with the wrong dtype: every second id is 0, as if they had 4 bytes each, and they are read as uint16 (train.bin)""",
        remedy="""Say the dtype in the schema:

                tokens: {dtype: uint32, lt: 128256}""",
    ),
    _code(
        code="DC016",
        name="duplicate-key",
        severity="warning",
        message="{violations} of {checked} records have the key {field} twice in one object: {detail}",
        finds="A JSON object in which a key occurs twice.",
        why="""Some readers keep the last value, others the first, others refuse the file: two people train on different
            data.""",
        example="""A writer put a default before the value:

                DC016 warning: 1 of 5,000 records have the key 'score' twice in one object: most readers keep the last value, some the first (train.jsonl, row 17, line 18)""",
        remedy="Write the records again, with each key once. The last value is what is checked, and what is kept.",
    ),
)
