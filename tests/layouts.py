"""The ten samples of data_helpers.py in every layout that clipscan reads."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from data_helpers import about, make_tar, put

from clipscan.data import Sample


def sample_members(sample: Sample) -> list[tuple[str, bytes]]:
    return [
        (f"{sample.key}.jpg", sample.image or b""),
        (f"{sample.key}.txt", sample.caption.encode()),
        (f"{sample.key}.json", json.dumps(about(sample)).encode()),
    ]


def write_tar(samples: list[Sample], to: Path) -> Path:
    return make_tar(to / "00000.tar", [m for s in samples for m in sample_members(s)])


def write_tar_gz(samples: list[Sample], to: Path) -> Path:
    return make_tar(to / "00000.tar.gz", [m for s in samples for m in sample_members(s)], "w:gz")


def write_tar_folder(samples: list[Sample], to: Path) -> Path:
    """Two tars in different folders, the captions in the .json only."""
    for i, part in enumerate((samples[:6], samples[6:])):
        members = [
            m
            for s in part
            for m in [
                (f"{s.key}.JPG", s.image or b""),
                (f"{s.key}.json", json.dumps({"caption": s.caption, **about(s)}).encode()),
            ]
        ]
        make_tar(to / f"part{i}" / "00000.tar", members)
    return to


def write_files(samples: list[Sample], to: Path) -> Path:
    for sample in samples:
        for name, data in sample_members(sample):
            put(to / name, data)
    return to


def write_metadata_jsonl(samples: list[Sample], to: Path) -> Path:
    lines = [json.dumps({"file_name": f"{s.key}.jpg", "text": s.caption, **about(s)}) for s in samples]
    put(to / "metadata.jsonl", "\n".join(lines).encode())
    for sample in samples:
        put(to / f"{sample.key}.jpg", sample.image or b"")
    return to


def write_metadata_csv(samples: list[Sample], to: Path) -> Path:
    """One metadata.csv in the root and one in sub/, as Hugging Face's imagefolder allows."""
    for folder in ("", "sub/"):
        rows = [s for s in samples if s.key.startswith("sub/") == bool(folder)]
        put(
            to / folder / "metadata.csv",
            table(rows, "file_name", "caption", ",", lambda s, folder=folder: s.key.removeprefix(folder)),
        )
    for sample in samples:
        put(to / f"{sample.key}.jpg", sample.image or b"")
    return to


def table(
    samples: list[Sample], image: str, text: str, separator: str, name: Callable[[Sample], str]
) -> bytes:
    out = io.StringIO()
    writer = csv.DictWriter(out, [image, text, "uid", "sha256", "url", "key"], delimiter=separator)
    writer.writeheader()
    for s in samples:
        writer.writerow({image: f"{name(s)}.jpg", text: s.caption, "key": s.key, **about(s)})
    return out.getvalue().encode()


def write_csv(samples: list[Sample], to: Path) -> Path:
    put(to / "train.csv", b"\xef\xbb\xbf" + table(samples, "filepath", "title", ",", lambda s: s.key))
    for sample in samples:
        put(to / f"{sample.key}.jpg", sample.image or b"")
    return to / "train.csv"


def write_tsv_folder(samples: list[Sample], to: Path) -> Path:
    put(to / "train.tsv", table(samples, "filepath", "title", "\t", lambda s: f"images/{s.key}"))
    for sample in samples:
        put(to / "images" / f"{sample.key}.jpg", sample.image or b"")
    return to


def columns(samples: list[Sample]) -> dict[str, list[str]]:
    names = ("key", "caption", "uid", "sha256", "url")
    return {name: [getattr(sample, name) for sample in samples] for name in names}


def write_hf_parquet(samples: list[Sample], to: Path) -> Path:
    images = [{"bytes": s.image, "path": f"{s.key}.jpg"} for s in samples]
    rows = pa.table({"image": images, **columns(samples)}).replace_schema_metadata({"huggingface": "{}"})
    to.mkdir(parents=True, exist_ok=True)
    pq.write_table(rows.slice(0, 4), to / "train-00000-of-00002.parquet", row_group_size=3)
    pq.write_table(rows.slice(4), to / "train-00001-of-00002.parquet", compression="zstd")
    return to


def write_plain_parquet(samples: list[Sample], to: Path) -> Path:
    rows = pa.table({"jpg": [s.image for s in samples], **columns(samples)})
    to.mkdir(parents=True, exist_ok=True)
    pq.write_table(rows, to / "00000.parquet", row_group_size=3)
    return to / "00000.parquet"


def image_vectors(dtype: str = "float16") -> np.ndarray:
    return np.random.default_rng(0).normal(size=(10, 8)).astype(dtype)  # [10, 8]


def text_vectors(dtype: str = "float16") -> np.ndarray:
    return np.random.default_rng(1).normal(size=(10, 8)).astype(dtype)  # [10, 8]


def write_clip_retrieval(samples: list[Sample], to: Path) -> Path:
    for number, part in enumerate((slice(0, 7), slice(7, 10))):
        for kind, array in (("img_emb", image_vectors()), ("text_emb", text_vectors())):
            (to / kind).mkdir(parents=True, exist_ok=True)
            np.save(to / kind / f"{kind}_{number}.npy", array[part])
        (to / "metadata").mkdir(exist_ok=True)
        pq.write_table(pa.table(columns(samples[part])), to / "metadata" / f"metadata_{number}.parquet")
    return to


def write_datacomp(samples: list[Sample], to: Path) -> Path:
    to.mkdir(parents=True, exist_ok=True)
    arrays = {"b32_img": image_vectors("float32")[:, :4], "b32_txt": text_vectors("float32")[:, :4]}
    np.savez(to / "0001.npz", l14_img=image_vectors(), l14_txt=text_vectors(), **arrays)
    rows = columns(samples)
    pq.write_table(pa.table({"text": rows.pop("caption"), **rows}), to / "0001.parquet")
    return to


def safetensors(**arrays: np.ndarray) -> bytes:
    """A file of arrays, those of V2 as bfloat16, as the package of that name writes it."""
    header, end = {}, 0
    for name, array in arrays.items():
        kind = {"f2": "F16", "f4": "F32", "f8": "F64", "i8": "I64", "V2": "BF16"}[array.dtype.str[1:]]
        begin, end = end, end + array.nbytes
        header[name] = {"dtype": kind, "shape": array.shape, "data_offsets": [begin, end]}
    told = json.dumps({"__metadata__": {"format": "np"}, **header}).encode()
    return len(told).to_bytes(8, "little") + told + b"".join(one.tobytes() for one in arrays.values())


def write_safetensors(samples: list[Sample], to: Path) -> Path:
    put(to / "all.safetensors", safetensors(number=np.arange(10), image=image_vectors(), text=text_vectors()))
    pq.write_table(pa.table(columns(samples)), to / "all.parquet")
    return to


def write_vector_parquet(samples: list[Sample], to: Path) -> Path:
    vectors = {
        "image_embedding": pa.array(list(image_vectors("float32")), pa.list_(pa.float32(), 8)),
        "text_embedding": pa.array(list(text_vectors("float32")), pa.list_(pa.float32())),
    }
    to.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({**columns(samples), **vectors}), to / "00000.parquet", row_group_size=4)
    return to / "00000.parquet"


PICTURES: dict[str, tuple[Callable[[list[Sample], Path], Path], str]] = {
    "tar": (write_tar, "webdataset"),
    "tar.gz": (write_tar_gz, "webdataset"),
    "tar folder": (write_tar_folder, "webdataset"),
    "img2dataset files": (write_files, "folder"),
    "metadata.jsonl": (write_metadata_jsonl, "folder"),
    "metadata.csv": (write_metadata_csv, "folder"),
    "csv": (write_csv, "csv"),
    "tsv in a folder": (write_tsv_folder, "csv"),
    "Hugging Face parquet": (write_hf_parquet, "parquet"),
    "plain parquet": (write_plain_parquet, "parquet"),
}

VECTORS: dict[str, tuple[Callable[[list[Sample], Path], Path], str]] = {
    "clip-retrieval": (write_clip_retrieval, "embeddings"),
    "DataComp": (write_datacomp, "embeddings"),
    "safetensors": (write_safetensors, "embeddings"),
    "vector parquet": (write_vector_parquet, "embeddings"),
}
ALL = PICTURES | VECTORS
