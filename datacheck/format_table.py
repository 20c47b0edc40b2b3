"""The table of formats: what the rest of datacheck must know about each file format.

Readers and writers are named by dotted path and imported when they are first used.
"""

from __future__ import annotations

from dataclasses import dataclass

_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
#: The names of formats that are not written as they are named here.
_TITLES = {
    **{name: name.upper() for name in ("csv", "orc", "hdf5", "gguf", "json", "jsonl", "dicom", "mds")},
    "parquet": "Parquet",
    "arrow": "Arrow IPC",
    "avro": "Avro",
    "tfrecord": "TFRecord",
    "delta": "Delta Lake",
    "iceberg": "Iceberg",
    "zarr": "Zarr",
    "litdata": "LitData",
    "lance": "Lance",
    "nifti": "NIfTI",
    "exr": "OpenEXR",
    "dcp": "torch checkpoint",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """One file format. Dotted paths are written ``package.module:name``.

    Attributes:
        name: what pipelines and reports call it.
        suffixes: of its files, in lower case.
        magic: how its files begin; empty where files have no such mark.
        requires_magic: whether a file without one of ``magic`` is not of this format.
        recognizer: dotted path of ``(uri, head) -> bool``, for files whose name says nothing and where ``magic`` is not enough.
        needs_recognition: whether a file with one of ``suffixes`` is usually something else, so that a folder or a glob stands
            for it only if ``recognizer`` says so.
        folder: dotted path of ``(storage, folder, entries) -> bool``, for a dataset that is a folder: whether one with these
            entries is of this format.
        lister: dotted path of ``(uri, options) -> list[InputFile]``, for a folder whose log or index says which files it has:
            these are read, each in its own format.
        source: dotted path of the class that reads it; empty if it is only written.
        sink: dotted path of the class that writes it; empty if it is only read.
        indexer: dotted path of ``(uri, shards) -> size``, which writes the index that the files of a folder need: their names
            and where each is. Empty if they need none.
        concatenator: dotted path of a :class:`~datacheck.sinks.concatenate.Concatenator`; empty if the parts of a file stay
            files of their own.
        written_as: the format of cleaned files where that is not this format.
        is_tabular: whether files have named columns that can be read alone, to which ``key=value`` folders add columns.
        is_arrays: whether a file holds arrays, so that ``rows: file`` can make one sample of it.
        is_one_array: whether a file holds one array without a name, so that a table is one file per column.
        is_sample: whether each file is one sample.
        shares_suffix: whether files of other formats have the same suffix by right, so that their first bytes decide.
        has_dtypes: whether files say which dtype a column has.
        has_nested_dtypes: whether they say so of nested values, too, and not only of those beside JSON.
        is_cacheable: whether everything that is checked lies in the one file, so that its verdict can be remembered.
        is_slow_to_check: whether checking a file takes much longer than hashing it.
        may_crash: whether the library that reads it can end the process on a damaged file, so that jobs read it in another.
        provider: the package that registered it, with its version; empty for built-in formats.
    """

    name: str
    suffixes: tuple[str, ...] = ()
    magic: tuple[bytes, ...] = ()
    requires_magic: bool = True
    recognizer: str = ""
    needs_recognition: bool = False
    folder: str = ""
    lister: str = ""
    source: str = ""
    sink: str = ""
    indexer: str = ""
    concatenator: str = ""
    written_as: str = ""
    is_tabular: bool = False
    is_arrays: bool = False
    is_one_array: bool = False
    is_sample: bool = False
    shares_suffix: bool = False
    has_dtypes: bool = True
    has_nested_dtypes: bool = True
    is_cacheable: bool = True
    is_slow_to_check: bool = False
    may_crash: bool = False
    provider: str = ""

    @property
    def title(self) -> str:
        """The name as people write it: ``HDF5``, ``Parquet``."""
        return _TITLES.get(self.name, self.name)

    @property
    def output_name(self) -> str:
        """The name of the format that cleaned files get unless a pipeline chooses one."""
        return self.written_as or self.name


#: The built-in formats by name. A file without a known suffix is of the first format that recognizes it.
BUILT_IN: dict[str, Format] = {
    record.name: record
    for record in (
        Format(
            name="torch",
            suffixes=(".pt", ".pth", ".ckpt"),
            magic=(*_ZIP, b"\x80"),
            recognizer="datacheck.sources.recognizers:is_torch_archive",
            source="datacheck.sources.torch_file:TorchSource",
            written_as="safetensors",
            is_arrays=True,
        ),
        Format(
            name="npz",
            suffixes=(".npz",),
            magic=_ZIP,
            recognizer="datacheck.sources.recognizers:is_npz",
            source="datacheck.sources.npz:NpzSource",
            sink="datacheck.sinks.npz:NpzSink",
            concatenator="datacheck.sinks.concatenate:NPZ",
            is_arrays=True,
            is_slow_to_check=True,
        ),
        Format(
            name="safetensors",
            suffixes=(".safetensors",),
            recognizer="datacheck.sources.recognizers:is_safetensors",
            source="datacheck.sources.safetensors:SafetensorsSource",
            sink="datacheck.sinks.safetensors:SafetensorsSink",
            concatenator="datacheck.sinks.concatenate:SAFETENSORS",
            is_arrays=True,
        ),
        Format(
            name="parquet",
            suffixes=(".parquet", ".parq", ".pq"),
            magic=(b"PAR1", b"PARE"),
            source="datacheck.sources.parquet:ParquetSource",
            sink="datacheck.sinks.parquet:ParquetSink",
            is_tabular=True,
        ),
        Format(
            name="arrow",
            suffixes=(".arrow", ".arrows", ".feather", ".ipc"),
            # The last is the start of a stream, and of newer streams only.
            magic=(b"ARROW1", b"FEA1", b"\xff\xff\xff\xff"),
            requires_magic=False,
            source="datacheck.sources.arrow_file:ArrowSource",
            sink="datacheck.sinks.arrow:ArrowSink",
            is_tabular=True,
        ),
        Format(
            name="npy",
            suffixes=(".npy",),
            magic=(b"\x93NUMPY",),
            source="datacheck.sources.npy:NpySource",
            sink="datacheck.sinks.npy:NpySink",
            concatenator="datacheck.sinks.concatenate:NPY",
            is_arrays=True,
            is_one_array=True,
        ),
        Format(
            name="csv",
            suffixes=(".csv", ".csv.gz", ".tsv", ".tsv.gz"),
            source="datacheck.sources.csv:CsvSource",
            sink="datacheck.sinks.csv:CsvSink",
            is_tabular=True,
            has_dtypes=False,
            is_slow_to_check=True,
        ),
        Format(
            name="txt",
            suffixes=(".txt", ".txt.gz"),
            needs_recognition=True,
            recognizer="datacheck.sources.recognizers:is_number_table",
            source="datacheck.sources.csv:TxtSource",
            written_as="csv",
            is_tabular=True,
            has_dtypes=False,
            is_slow_to_check=True,
        ),
        Format(
            name="avro",
            suffixes=(".avro",),
            magic=(b"Obj\x01",),
            source="datacheck.sources.avro:AvroSource",
            written_as="parquet",
            is_tabular=True,
            is_slow_to_check=True,
        ),
        Format(
            name="orc",
            suffixes=(".orc",),
            magic=(b"ORC",),
            source="datacheck.sources.orc:OrcSource",
            written_as="parquet",
            is_tabular=True,
        ),
        Format(
            name="tfrecord",
            suffixes=tuple(f".tfrecord{more}{packed}" for more in ("", "s") for packed in ("", ".gz")),
            recognizer="datacheck.sources.tfrecord:is_tfrecord",
            source="datacheck.sources.tfrecord:TfrecordSource",
            sink="datacheck.sinks.tfrecord:TfrecordSink",
            is_tabular=True,
            is_slow_to_check=True,
        ),
        Format(
            name="delta",
            folder="datacheck.sources.folder_recognizers:is_delta",
            lister="datacheck.sources.delta:list_delta",
            source="datacheck.sources.delta:DeltaSource",
            written_as="parquet",
            is_cacheable=False,
        ),
        Format(
            name="iceberg",
            folder="datacheck.sources.folder_recognizers:is_iceberg",
            lister="datacheck.sources.iceberg:list_iceberg",
            source="datacheck.sources.iceberg:IcebergSource",
            written_as="parquet",
            is_cacheable=False,
        ),
        Format(
            name="hdf5",
            suffixes=(".h5", ".hdf5", ".hdf", ".he5", ".h5ad", ".nc", ".nc4"),
            magic=(b"\x89HDF\r\n\x1a\n",),
            source="datacheck.sources.hdf5:Hdf5Source",
            sink="datacheck.sinks.hdf5:Hdf5Sink",
            concatenator="datacheck.sinks.hdf5:HDF5",
            is_arrays=True,
            is_slow_to_check=True,
            may_crash=True,
        ),
        Format(
            name="zarr",
            suffixes=(".zarr",),
            folder="datacheck.sources.folder_recognizers:is_zarr",
            source="datacheck.sources.zarr:ZarrSource",
            written_as="npz",
            is_arrays=True,
            is_cacheable=False,
        ),
        Format(
            name="mds",
            suffixes=(".mds", ".mds.zstd", ".mds.gz"),
            source="datacheck.sources.sample_shards:MdsSource",
            sink="datacheck.sinks.mds:MdsSink",
            indexer="datacheck.sinks.mds:write_index",
            is_tabular=True,
            has_nested_dtypes=False,
            is_cacheable=False,
        ),
        Format(
            name="litdata",
            folder="datacheck.sources.folder_recognizers:is_litdata",
            lister="datacheck.sources.sample_shards:list_litdata",
            source="datacheck.sources.sample_shards:LitdataSource",
            written_as="parquet",
            is_tabular=True,
            has_nested_dtypes=False,
            is_cacheable=False,
        ),
        Format(
            name="lance",
            suffixes=(".lance",),
            folder="datacheck.sources.folder_recognizers:is_lance",
            source="datacheck.sources.lance:LanceSource",
            written_as="parquet",
            is_tabular=True,
            is_cacheable=False,
            may_crash=True,
        ),
        Format(
            name="gguf",
            suffixes=(".gguf",),
            magic=(b"GGUF",),
            source="datacheck.sources.gguf:GgufSource",
            is_arrays=True,
        ),
        Format(
            name="dcp",
            folder="datacheck.sources.folder_recognizers:is_dcp",
            source="datacheck.sources.dcp:DcpSource",
            is_arrays=True,
            is_cacheable=False,
        ),
        Format(
            name="jsonl",
            suffixes=tuple(f"{name}{packed}" for name in (".jsonl", ".ndjson") for packed in ("", ".gz", ".zst")),
            recognizer="datacheck.sources.recognizers:is_json_lines",
            source="datacheck.sources.json_lines:JsonLinesSource",
            sink="datacheck.sinks.json_lines:JsonLinesSink",
            is_tabular=True,
            has_dtypes=False,
            is_slow_to_check=True,
        ),
        Format(
            name="json",
            suffixes=(".json", ".json.gz", ".json.zst"),
            needs_recognition=True,
            recognizer="datacheck.sources.recognizers:is_json_records",
            source="datacheck.sources.json_lines:JsonSource",
            written_as="jsonl",
            is_tabular=True,
            has_dtypes=False,
            is_slow_to_check=True,
        ),
        Format(
            name="image",
            suffixes=(".png", ".jpg", ".jpeg", ".gif", ".bmp", ".tif", ".tiff", ".webp"),
            source="datacheck.sources.media_files:ImageSource",
            sink="datacheck.sinks.copies:ImageSink",
            is_sample=True,
            is_slow_to_check=True,
        ),
        Format(
            name="audio",
            suffixes=(".wav", ".flac", ".mp3", ".ogg"),
            source="datacheck.sources.media_files:AudioSource",
            sink="datacheck.sinks.copies:AudioSink",
            is_sample=True,
            is_slow_to_check=True,
        ),
        Format(
            name="nifti",
            suffixes=(".nii", ".nii.gz"),
            source="datacheck.sources.volumes:NiftiSource",
            written_as="npz",
            is_arrays=True,
            is_sample=True,
            is_slow_to_check=True,
        ),
        Format(
            name="dicom",
            suffixes=(".dcm", ".dicom"),
            source="datacheck.sources.volumes:DicomSource",
            written_as="npz",
            is_arrays=True,
            is_sample=True,
            is_slow_to_check=True,
        ),
        Format(
            name="exr",
            suffixes=(".exr",),
            magic=(b"\x76\x2f\x31\x01",),
            source="datacheck.sources.volumes:ExrSource",
            written_as="npz",
            is_arrays=True,
            is_sample=True,
            is_slow_to_check=True,
        ),
        Format(
            name="tar",
            suffixes=(".tar", ".tar.gz", ".tgz"),
            recognizer="datacheck.sources.recognizers:is_tar",
            source="datacheck.sources.tar:TarSource",
            sink="datacheck.sinks.tar:TarSink",
            has_nested_dtypes=False,
            is_slow_to_check=True,
        ),
        # A .bin that no other format recognizes.
        Format(
            name="tokens",
            suffixes=(".bin",),
            needs_recognition=True,
            shares_suffix=True,
            recognizer="datacheck.sources.tokens:is_token_bin",
            source="datacheck.sources.tokens:TokensSource",
            written_as="npy",
            has_dtypes=False,
        ),
        Format(
            name="megatron",
            suffixes=(".bin",),
            needs_recognition=True,
            shares_suffix=True,
            recognizer="datacheck.sources.tokens:is_megatron",
            source="datacheck.sources.tokens:MegatronSource",
            sink="datacheck.sinks.megatron:MegatronSink",
            is_cacheable=False,
        ),
        # Files of one array each that belong together row by row.
        Format(name="aligned", source="datacheck.sources.aligned:AlignedSource", written_as="npy"),
    )
}


@dataclass(frozen=True, slots=True, kw_only=True)
class UnreadFormat:
    """A format that is recognized and not read: its name, the suffixes and first bytes of its files, and what to do instead."""

    name: str
    suffixes: tuple[str, ...]
    magic: bytes = b""
    is_folder: bool = False
    remedy: str


_AS_ARRAYS = "save its arrays as .npy or .npz, or its table as Parquet"
_AS_PARQUET = "convert it to Parquet"

#: Formats of training data that have no source yet.
UNREAD: tuple[UnreadFormat, ...] = (
    UnreadFormat(name="NetCDF 3", suffixes=(), magic=b"CDF", remedy="convert it to NetCDF 4 (`nccopy -k nc4`)"),
    UnreadFormat(name="HDF4", suffixes=(), magic=b"\x0e\x03\x13\x01", remedy="convert it to HDF5 (`h4toh5`)"),
    UnreadFormat(
        name="pickle",
        suffixes=(".pkl", ".pickle", ".joblib", ".p"),
        remedy=f"a pickle runs code when it is loaded: {_AS_ARRAYS}",
    ),
    UnreadFormat(name="SQLite", suffixes=(".sqlite", ".db"), magic=b"SQLite format 3\0", remedy=_AS_PARQUET),
    UnreadFormat(name="Excel", suffixes=(".xlsx", ".xls"), remedy=f"{_AS_PARQUET} or CSV (`pandas.read_excel`)"),
    UnreadFormat(name="MATLAB", suffixes=(".mat",), remedy=f"{_AS_ARRAYS} (`scipy.io.loadmat`)"),
    UnreadFormat(
        name="LMDB",
        suffixes=(".mdb", ".lmdb"),
        is_folder=True,
        remedy="its values are opaque bytes: decode them as training does, and save them as .npy, .npz or Parquet",
    ),
    UnreadFormat(
        name="ArrayRecord",
        suffixes=(".array_record", ".arrayrecord"),
        remedy="copy its records to TFRecord (`array_record.python.array_record_module.ArrayRecordReader`)",
    ),
    UnreadFormat(
        name="pickled graph",
        suffixes=(".gpickle", ".pyg"),
        remedy="a pickle runs code when it is loaded: save the edge index and the features as .npz",
    ),
    UnreadFormat(name="FFCV", suffixes=(".beton",), remedy="read the dataset that it was written from"),
    UnreadFormat(name="N5", suffixes=(".n5",), is_folder=True, remedy=_AS_ARRAYS),
)
