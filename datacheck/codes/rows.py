"""DC3xx: rows, files of rows and whole datasets."""

from __future__ import annotations

from functools import partial

from datacheck.codes.code import Code, Family

_code = partial(Code, family=Family.ROWS)

CODES = (
    _code(
        code="DC301",
        name="duplicate",
        level="dataset",
        tolerable=True,
        message="{violations} of {checked} rows repeat an earlier {field}",
        finds="A row whose key already occurred in an earlier row of the dataset, in this file or another.",
        why="""A duplicated row counts twice. A row that is in both the training and the test split makes the test score
            a measure of memory.""",
        example="""A file was appended to the dataset twice, and the schema has `unique: true` on `flight_id`:

                DC301 500 of 10,000 rows repeat an earlier 'flight_id' (part-7.parquet, row group 0, rows 0, 1, 2, 3, 4, …)""",
        remedy="""Remove the duplicated file, or keep the first row of each key:

                - {action: drop_row, codes: DC301}

            If the key needs more than one field, list them all: `unique: [[carrier, flight, time_hour]]`.""",
    ),
    _code(
        code="DC302",
        shows_values=True,
        name="expression",
        level="row",
        tolerable=True,
        message="{violations} of {checked} rows break {rule}: {detail}",
        finds="A row for which a cross-field expression of the schema is false.",
        why="""Each field can be valid alone and the row still impossible: an arrival before the departure, a part
            larger than the whole. Models learn such rows as readily as the others.""",
        example="""The schema has `checks: [{name: gust-above-wind, expr: wind_gust >= wind_speed}]`:

                DC302 4 of 20,000 rows break gust-above-wind: wind_gust >= wind_speed: found wind_gust=8.1, wind_speed=9.2 (train.parquet, row group 1, rows 20345, 20346, 20351, 20352)""",
        remedy="""Find out which field is wrong. Quarantine the rows, since no single value can be repaired:

                - {action: quarantine, codes: DC302}""",
    ),
    _code(
        code="DC303",
        shows_values=True,
        name="pandera",
        level="row",
        tolerable=True,
        nameless_field="the data frame",
        message="{violations} of {checked} rows fail {rule} in {field}",
        finds="A row that fails the pandera schema given with `pandera:`.",
        why="Your own schema says that the model must not learn from this row.",
        example="""The schema has `pandera: my_project.schemas:Flights`, whose check `known_route` returns false:

                DC303 9 of 20,000 rows fail known_route in 'dest' (train.parquet, row group 0, rows 5, 77, 78, 90, 112, …)""",
        remedy="""Correct the data or the pandera schema. A check that is not `element_wise` sees all rows of a file,
            and never rows of another file: put what must be unique in the whole dataset into `unique`. Rows can be
            quarantined:

                - {action: quarantine, codes: DC303}""",
    ),
    _code(
        code="DC304",
        name="unequal-lengths",
        level="file",
        message="the arrays have unequal numbers of rows: {detail}",
        finds="""Arrays that are cleaned together, or whose rows the schema gives one name (`x: {shape: [N, 4]}`, `y:
            {shape: [N]}`), and that have unequal numbers of rows.""",
        why="""Sample i belongs to target i only as long as both arrays have the same rows. If one array lost a row,
            every pair after it is wrong, and nothing raises.""",
        example="""One array lost a row:

                DC304 the arrays have unequal numbers of rows: 'windows' has 6,528 rows, 'target' has 6,527 (train.npz)""",
        remedy="""Write the arrays from the same rows. Unrelated arrays can still be scanned, each on its own; to clean
            them, put each into its own file.""",
    ),
    _code(
        code="DC305",
        name="malformed-row",
        level="row",
        tolerable=True,
        message="{violations} of {checked} records are not valid{first}: {detail}",
        finds="""A line of a CSV file with more or fewer cells than the header, or of JSON Lines that is not JSON. Also a
            record of TFRecord without its checksum, and a sample of MDS whose sizes do not fit.""",
        why="""A delimiter inside unquoted text shifts every value after it one column to the right: plausible numbers
            in the wrong fields.""",
        example="""Names with a comma were written without quotes:

                DC305 2 of 5,000 records are not valid, the first: 9 cells instead of 8 (planes.csv, rows 17, 90)""",
        remedy="""Write the file with quoted text (`csv.QUOTE_MINIMAL` is enough), or as Parquet. Quarantine the record:

                - {action: quarantine, codes: DC305}""",
    ),
    _code(
        code="DC306",
        name="no-rows",
        level="file",
        severity="warning",
        message="no rows: {detail}",
        finds="A readable file without rows.",
        why="""It may be correct. More often a filter or a join matched nothing, and the dataset is smaller than it
            should be without any error.""",
        example="""A query for one day returned nothing:

                DC306 warning: no rows: the file has 19 fields and no row (data/day=2013-02-29/part-0.parquet)""",
        remedy="Check what wrote the file. Delete it if it should not exist. It is a warning and does not fail a job.",
    ),
    _code(
        code="DC307",
        name="dimension",
        level="row",
        shows_values=True,
        tolerable=True,
        message="{violations} of {checked} rows have different sizes of {rule} in {detail}",
        finds="A row in which one named dimension of the schema has different sizes.",
        why="""An image and a mask of different sizes are cropped or resized apart, and every pixel after that has the
            label of another one. Nothing raises until the loss is computed, and often not even then.""",
        example="""The schema has `image: {shape: [3, H, W]}` and `mask: {shape: [H, W]}`:

                DC307 2 of 300 rows have different sizes of H in image [3, H, W], mask [H, W]: found image 480, mask 479 (train.parquet, row group 0, rows 12, 200)""",
        remedy="""Correct what writes the field. If the sizes may differ, give them different names, or `null`. Rows can
            be quarantined:

                - {action: quarantine, codes: DC307}""",
    ),
    _code(
        code="DC308",
        name="dimension-of-files",
        level="dataset",
        about_inputs=True,
        message="{rule} is not one size: {detail}",
        finds="""A named dimension of the schema with different sizes in a file or in the dataset, where `dimensions`
            requires one size. Also one with different sizes in arrays of one file that are not the columns of a table.""",
        why="""A model has one input size. A batch of vectors of 768 and of 1,024 numbers cannot be stacked, and the
            file that has the others is found in the middle of an epoch.""",
        example="""The schema has `embedding: {shape: [D]}` and `dimensions: {D: dataset}`, and one file was written by
            another model:

                DC308 D is not one size: embedding [D]: 'embedding' of part-0.parquet has 768, 'embedding' of part-1.parquet has 1,024 (part-1.parquet)""",
        remedy="""Write the file again. If the sizes may differ between files, state `file` or `row` instead:

                dimensions: {D: file}""",
    ),
    _code(
        code="DC310",
        name="leaked-row",
        level="dataset",
        tolerable=True,
        message="{violations} of {checked} rows also occur in the training data: {detail}",
        finds="A row of another split that is, value for value, also a row of the training split.",
        why="""The score on such rows measures memory, so the score on the whole split is too good, by an amount that
            cannot be corrected afterwards. Rows of few small values also repeat by chance: as many matches as
            independent columns would give are a note, not an error.""",
        example="""A table was split after its minority class had been oversampled:

                DC310 412 of 27,268 rows also occur in the training data: row 17 is row 3 of train/a.parquet (test.parquet, row group 0, rows 17, 90, 91, 104, 233, …)""",
        remedy="""Remove duplicated rows before you split, or split by what makes rows alike: `datacheck compare train
            test --key patient_id` finds rows that are related but not equal. Fields that only number the rows hide a
            leak: leave them out with `--row-exclude row_id`. Expected matches can be tolerated: `tolerances: {'*':
            {DC310: '2%'}}`.""",
    ),
    _code(
        code="DC311",
        name="leaked-key",
        level="dataset",
        message="{violations} of {checked} rows have a {field} that also occurs in the training data: {detail}",
        finds="A row of another split whose key also occurs in the training split.",
        why="""Two scans of one patient, two reviews by one customer: the rows differ, and the model still knows the
            answer from training. It recognises the patient instead of the disease.""",
        example="""Images were split one by one, and some patients have several:

                DC311 96 of 1,204 rows have a 'patient_id' that also occurs in the training data: row 4 matches row 812 of train.parquet (test.parquet, row group 0, rows 4, 5, 31, 77, 80, …)""",
        remedy="""Split by the key, so that all rows of one key are in one split (scikit-learn's `GroupShuffleSplit`
            does this). If the key may occur in both, remove it from `--key`, or from `compare.key` in the
            configuration; the unique keys of a schema given with `--schema` are compared, too.""",
    ),
    _code(
        code="DC312",
        name="drift",
        level="dataset",
        message="{field} has drifted from the training data: {detail}",
        finds="""A field whose distribution differs from the training split by more than a threshold and by more than
            chance explains.""",
        why="""A model is only as good as its training data resembles what it meets. The drift may be real, and then the
            score describes different data; often it is a changed unit, a default value, or a join that matched other
            rows.""",
        example="""The delays of one split were written in seconds:

                DC312 'dep_delay' has drifted from the training data: PSI 3.9 (limit 0.25), KS 0.81 (limit 0.2); the median is 120, in the training data 2 (data/test)""",
        remedy="""Find out what changed, and train on data that includes it. If the drift is expected, exclude the field
            (`--exclude month`) or raise the threshold (`--psi`, `--ks`, `--distance`; `compare` in the configuration).
            By convention a PSI above 0.25 is a major shift and one below 0.1 is none.""",
    ),
    _code(
        code="DC313",
        name="rate-change",
        level="dataset",
        message="the {rule} rate of {field} changed from {detail}",
        finds="A field whose rate of nulls, NaN or infinities is markedly higher or lower than in the training split.",
        why="""What to impute was learned from the training split. If a field was complete there and has gaps here, the
            model gets inputs it has never seen.""",
        example="""A sensor failed after the training data was collected:

                DC313 the NaN rate of 'wind_gust' changed from 0.4 % (1,010 of 252,484) in the training data to 31 % (8,453 of 27,268) (data/test)""",
        remedy="""Find out why the values are missing. If it is expected, train with such gaps, or raise the threshold
            (`--rate 0.05` is five percentage points).""",
    ),
    _code(
        code="DC314",
        name="new-category",
        level="dataset",
        message="{violations} of {checked} values in {field} do not occur in the training data: {detail}",
        finds="Values of a categorical field that do not occur in the training split.",
        why="""An encoder fitted on the training split raises on them, or maps them all to one meaningless index, or to
            the index of another category.""",
        example="""An airport opened after the training data was collected:

                DC314 31 of 27,268 values in 'dest' do not occur in the training data: 'LEX', 'ANC' (data/test/2013-11.parquet, row group 0, rows 812, 4419)""",
        remedy="""Correct the value if it is misspelt. Otherwise train with it, or give unknown values an index of their
            own; `isin` in the schema restricts all later data to the known categories:

                origin: {dtype: string, isin: [EWR, JFK, LGA]}""",
    ),
    _code(
        code="DC315",
        name="not-compared",
        level="dataset",
        severity="info",
        message="{field} was not compared: {detail}",
        finds="Something that could not be compared between two datasets, and why.",
        why="""Something that was not compared may differ. It is reported, so that a clean comparison means what it
            says.""",
        example="""A field of free text has no categories:

                DC315 info: 'comment' was not compared: it has more than 1,000 distinct values (data/test)""",
        remedy="""Nothing needs to be done. To compare the field, store it as a number or as a category. It is a note
            and does not fail a comparison.""",
    ),
    _code(
        code="DC316",
        name="missing-in-some-files",
        level="dataset",
        about_inputs=True,
        message="{field} is not in all {checked} files: {detail}",
        finds="""A field that some files of one dataset have and others do not. Files of one format in one folder
            are one dataset if their names or most of their fields are alike; `train` and `test` files are compared
            apart.""",
        why="""A reader takes its columns from the first file: it raises in the middle of training, fills the field with
            nulls, or drops it from every other file.""",
        example="""One of ten parts was written before a column was added:

                DC316 'wind_gust' is not in all 10 files: missing in 1: 'part-3.parquet' (data/train/part-3.parquet)""",
        remedy="""Write the files again with the same fields. If the field is optional, say so in the schema:

                wind_gust: {dtype: float32, required: false}""",
    ),
    _code(
        code="DC317",
        name="dtypes-differ",
        level="dataset",
        about_inputs=True,
        message="{field} has different dtypes in {checked} files: {detail}",
        finds="""A field with different dtypes in the files of one dataset. It is a warning between folders whose files
            have the same fields.""",
        why="""The usual cause is one missing value that turned integers into floats: identifiers beyond 2**53 have lost
            digits in that file and no longer join. A reader casts to the dtype of the first file, or raises.""",
        example="""One id was missing when the second part was written:

                DC317 'object_id' has different dtypes in 10 files: float64 in 1: 'part-1.parquet'; int64 in 9 (data/part-1.parquet)""",
        remedy="""Write the odd files again in the dtype of the others. To state which dtype is right, name it in the
            schema:

                object_id: {dtype: int64}""",
    ),
    _code(
        code="DC318",
        name="all-null-in-some-files",
        level="dataset",
        severity="warning",
        about_inputs=True,
        message="{field} is all null in {violations} of {checked} files: {detail}",
        finds="A field without any value in some files of a dataset, and with values in the others.",
        why="""A join matched nothing, or a sensor was off. Whatever is imputed from such a file is the same value in
            every row.""",
        example="""The weather service was down in one month:

                DC318 warning: 'station' is all null in 1 of 12 files: '2013-02.parquet' (data/2013-02.parquet)""",
        remedy="Produce the odd files again, or leave them out. It is a warning and does not fail a job.",
    ),
)
