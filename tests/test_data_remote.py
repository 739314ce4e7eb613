"""Object stores whose driver keeps listings, as s3fs and gcsfs do: what is read is what lies there now."""

from __future__ import annotations

import io
from pathlib import Path

import fsspec
import pytest
from data_helpers import make_tar
from fsspec.dircache import DirCache
from fsspec.spec import AbstractFileSystem

from clipscan.data import Bad, Sample, open_dataset

STORE: dict[str, bytes] = {}  # what lies in the bucket


class Bucket(AbstractFileSystem):
    """A store of objects that lists a folder once, and reads an object only under the etag it listed."""

    protocol = "bucket"
    cachable = True

    def __init__(self, **options: object) -> None:
        super().__init__(**options)
        self.dircache = DirCache()

    def ls(self, path: str, detail: bool = True, **_: object) -> list:
        folder = self._strip_protocol(path)
        if folder not in self.dircache:
            self.dircache[folder] = [
                {"name": name, "size": len(data), "type": "file", "ETag": str(hash(data))}
                for name, data in STORE.items()
                if self._parent(name) == folder
            ]
        if not (found := self.dircache[folder]):
            raise FileNotFoundError(path)
        return found if detail else [about["name"] for about in found]

    def info(self, path: str, **_: object) -> dict:
        name = self._strip_protocol(path)
        if any(self._parent(other) == name for other in STORE):
            return {"name": name, "size": 0, "type": "directory"}
        found = [about for about in self.ls(self._parent(name)) if about["name"] == name]
        if not found:
            raise FileNotFoundError(path)
        return found[0]

    def invalidate_cache(self, path: str | None = None) -> None:
        if path is None:
            self.dircache.clear()
        else:
            self.dircache.pop(self._strip_protocol(path), None)

    def _open(self, path: str, mode: str = "rb", **_: object) -> io.BytesIO:
        name = self._strip_protocol(path)
        if self.info(name)["ETag"] != str(hash(STORE[name])):
            raise OSError(f"{name} was changed since it was listed")
        return io.BytesIO(STORE[name])


@pytest.fixture(autouse=True)
def bucket():
    fsspec.register_implementation("bucket", Bucket, clobber=True)
    STORE.clear()
    Bucket.clear_instance_cache()
    yield
    STORE.clear()


def tar_of(tmp_path: Path, *keys: str) -> bytes:
    return make_tar(
        tmp_path / "t.tar", [(f"{k}.{ext}", b"1") for k in keys for ext in ("jpg", "txt")]
    ).read_bytes()


def keys(source: str) -> list[str]:
    dataset = open_dataset(source)
    outcomes = [o for shard in dataset.shards for o in dataset.read(shard)]
    assert not [o for o in outcomes if isinstance(o, Bad)]
    return [f"{o.shard}/{o.key}" for o in outcomes]


@pytest.mark.parametrize("source", ["bucket://set", "bucket://set/{0..1}.tar"])
def test_a_tar_added_or_rewritten_meanwhile_is_read(source: str, tmp_path: Path) -> None:
    STORE["set/0.tar"] = tar_of(tmp_path, "a")
    STORE["set/1.tar"] = tar_of(tmp_path, "b")
    assert keys(source) == ["0.tar/a", "1.tar/b"]
    STORE["set/0.tar"] = tar_of(tmp_path, "a", "c")
    STORE["set/2.tar"] = tar_of(tmp_path, "d")
    more = ["2.tar/d"] if source == "bucket://set" else []
    assert keys(source) == ["0.tar/a", "0.tar/c", "1.tar/b", *more]
    assert keys("bucket://set/2.tar") == ["2.tar/d"]
    stamps = {shard.name: shard.stamp for shard in open_dataset(source).shards}
    STORE["set/1.tar"] = tar_of(tmp_path, "e")
    changed = {shard.name: shard.stamp for shard in open_dataset(source).shards}
    assert {name for name in stamps if stamps[name] != changed[name]} == {"1.tar"}


def test_a_tar_rewritten_after_the_listing_is_read_as_it_is_now(tmp_path: Path) -> None:
    STORE["set/0.tar"] = tar_of(tmp_path, "a")
    dataset = open_dataset("bucket://set")
    STORE["set/0.tar"] = tar_of(tmp_path, "b")
    (sample,) = dataset.read(dataset.shards[0])
    assert isinstance(sample, Sample) and sample.key == "b"
