"""What was not scanned is not cleaned: a dataset that is no longer what a run was made from is refused."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from data_helpers import CAPTIONS, make_tar, put, ten_samples, tree
from layouts import ALL, VECTORS, sample_members
from PIL import Image
from typer.testing import CliRunner

import clipscan
from clipscan import pipeline
from clipscan.cli import app
from clipscan.data import Sample, atomic
from clipscan.run import Compute, Ranking, Run, digests

torch = pytest.importorskip("torch", reason="needs clipscan[embed]")

SMALL = {"k": 2, "reference": "6x2", "workers": 1}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random small CLIP."""
    from safetensors.torch import save_file

    from clipscan.embed.model import MODEL_KEY, create_network

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model") / "random.safetensors"
    save_file(create_network("clipscan-conv-32").state_dict(), path, metadata={MODEL_KEY: "clipscan-conv-32"})
    return path


def painted(seed: int, count: int = 10) -> list[Sample]:
    """The ten samples with pictures that can be decoded, all of one size in bytes."""
    rng = np.random.default_rng(seed)
    samples = (ten_samples() * -(-count // 10))[:count]
    return [replace(sample, image=_bitmap(rng), caption=CAPTIONS[i % 10]) for i, sample in enumerate(samples)]


def _bitmap(rng: np.random.Generator) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(rng.integers(0, 255, (8, 8, 3), np.uint8)).save(buffer, "BMP")
    return buffer.getvalue()


def scan(source: Path, out: Path, checkpoint: Path, **options: object) -> clipscan.pipeline.Scan:
    vectors = any(path.suffix in (".npy", ".npz") for path in [*source.rglob("*"), source])
    vectors = vectors or source.name == "vectors"
    model = {} if vectors else {"pretrained": checkpoint}
    return clipscan.scan(source, out=out, fraction=0.2, **SMALL, **model, **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def scanned(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> Callable[[str], tuple[Path, Path]]:
    """Layout -> the folder of the dataset and its run, two of ten samples on the drop list."""
    made: dict[str, tuple[Path, Path]] = {}

    def of(layout: str) -> tuple[Path, Path]:
        if layout not in made:
            at = tmp_path_factory.mktemp("set")
            folder = at / ("vectors" if layout in VECTORS else "set")
            ALL[layout][0](painted(0), folder)
            assert scan(folder, at / "run", checkpoint).counts["dropped"] == 2
            made[layout] = folder, at / "run"
        return made[layout]

    return of


@contextmanager
def put_back(folder: Path) -> Iterator[None]:
    """Whatever is done to the folder inside is undone."""
    copy = folder.with_name(f"{folder.name}-copy")
    shutil.copytree(folder, copy)
    try:
        yield
    finally:
        shutil.rmtree(folder)
        copy.rename(folder)


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def largest(folder: Path) -> Path:
    return max(files(folder), key=lambda path: path.stat().st_size)


def keep_time(path: Path, data: bytes) -> None:
    """New content under the old time."""
    before = path.stat()
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def flip_a_byte(folder: Path) -> None:
    path = largest(folder)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    keep_time(path, bytes(data))


def cut_a_file(folder: Path) -> None:
    path = largest(folder)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def remove_a_file(folder: Path) -> None:
    path = max(files(folder), key=lambda path: (path.suffix in (".jpg", ".JPG"), path.name))
    path.unlink()


def lose_a_row(folder: Path) -> None:
    """Of the table, or of the archive's end: the file becomes shorter, and is valid."""
    table = next(folder.glob("*.csv"), None) or next(folder.rglob("*.tsv"))
    lines = table.read_bytes().splitlines(keepends=True)
    table.write_bytes(b"".join([*lines[:1], *lines[2:]]))


def reverse_rows(folder: Path) -> None:
    for path in files(folder):
        if path.suffix == ".npy":
            np.save(path, np.load(path)[::-1])
        elif path.suffix == ".npz":
            arrays = dict(np.load(path))
            np.savez(path, **{name: array[::-1] for name, array in arrays.items()})
        elif path.suffix == ".parquet":
            rows = pq.read_table(path)
            pq.write_table(rows.take(np.arange(len(rows))[::-1]), path)


def refuses(run: Path, to: Path, words: str) -> None:
    with pytest.raises(clipscan.ClipscanError, match=words):
        pipeline.apply(Run(run), to)
    assert not to.exists()
    assert not list(to.parent.glob(".*.part")), "nothing half-done is left"


@pytest.mark.parametrize("layout", ALL)
def test_apply_writes_what_was_scanned_also_when_it_was_touched(
    layout: str, scanned, tmp_path: Path, monkeypatch
) -> None:
    folder, run = scanned(layout)
    with put_back(folder):
        for path in files(folder):
            os.utime(path, (1, 1))
        counts = pipeline.apply(Run(run), tmp_path / "out")
        assert (counts.kept, counts.dropped, counts.bad) == (8, 2, 0)
        opened: list[str] = []
        monkeypatch.setattr(digests, "open_binary", lambda path: opened.append(path))
        _ = Run(run).dataset
        assert not opened, "what was found to be the same once is not read again"


@pytest.mark.parametrize("change", [cut_a_file, remove_a_file])
@pytest.mark.parametrize("layout", ALL)
def test_apply_refuses_a_dataset_whose_files_were_cut_or_removed(
    layout: str, change, scanned, tmp_path: Path
) -> None:
    folder, run = scanned(layout)
    with put_back(folder):
        change(folder)
        refuses(run, tmp_path / "out", "1 (changed|gone) |cannot be opened where it lay")


@pytest.mark.parametrize("layout", ALL)
def test_apply_reads_the_bytes_and_does_not_believe_the_time(layout: str, scanned, tmp_path: Path) -> None:
    folder, run = scanned(layout)
    with put_back(folder), put_back(run):
        flip_a_byte(folder)
        refuses(run, tmp_path / "out", "does not hold what was scanned|not found|cannot write|1 changed")


@pytest.mark.parametrize("layout", ["Hugging Face parquet", "plain parquet", *VECTORS])
def test_apply_refuses_reversed_rows(layout: str, scanned, tmp_path: Path) -> None:
    folder, run = scanned(layout)
    with put_back(folder):
        reverse_rows(folder)
        refuses(run, tmp_path / "out", "changed")


@pytest.mark.parametrize("layout", ["csv", "tsv in a folder", "metadata.csv"])
def test_apply_refuses_a_table_that_lost_a_row(layout: str, scanned, tmp_path: Path) -> None:
    folder, run = scanned(layout)
    with put_back(folder):
        lose_a_row(folder)
        refuses(run, tmp_path / "out", "changed")


@pytest.mark.parametrize("layout", ["csv", "tsv in a folder", "img2dataset files", "metadata.jsonl"])
def test_apply_refuses_a_replaced_picture_and_names_it(layout: str, scanned, tmp_path: Path) -> None:
    folder, run = scanned(layout)
    with put_back(folder):
        picture = next(folder.rglob("000000004.jpg"))
        picture.write_bytes(painted(7)[0].image or b"")
        refuses(run, tmp_path / "out", r"1 changed \((images/)?000000004\.jpg\)")
        keep_time(picture, painted(8)[0].image or b"")


def test_apply_refuses_a_tar_that_was_rewritten_under_other_keys(scanned, tmp_path: Path) -> None:
    folder, run = scanned("tar")
    with put_back(folder):
        tar = folder / "00000.tar"
        before = tar.stat()
        others = [replace(s, key=s.key.replace("0000000", "7777777")) for s in painted(0)]
        make_tar(tar, [m for s in others for m in sample_members(s)])
        assert tar.stat().st_size == before.st_size
        refuses(run, tmp_path / "out", r"1 changed \(00000\.tar\)")
        os.utime(tar, ns=(before.st_atime_ns, before.st_mtime_ns))
        refuses(run, tmp_path / "out", "not found|does not hold")


@pytest.mark.parametrize("layout", ["tar", "tar folder", "plain parquet", "clip-retrieval"])
def test_a_file_added_since_is_refused_or_left_out_but_never_copied(
    layout: str, scanned, tmp_path: Path
) -> None:
    folder, run = scanned(layout)
    with put_back(folder):
        plain = pipeline.apply(Run(run), tmp_path / "plain")
        old = next(path for path in files(folder) if "text_emb" not in str(path))
        added = old.with_name(old.name.replace("0", "5", 1))
        shutil.copyfile(old, added)
        refuses(run, tmp_path / "out", rf"1 new \(.*{added.name}\)")
        counts = pipeline.apply(Run(run), tmp_path / "out", leave_out_unscanned=True)
        assert counts[:3] == plain[:3]
        assert counts.left_out == (added.relative_to(folder).as_posix(),)
        assert tree(tmp_path / "out") == tree(tmp_path / "plain")


def test_a_changed_file_is_left_out_on_request_and_its_samples_are_not_missed(
    scanned, tmp_path: Path
) -> None:
    folder, run = scanned("tar folder")
    with put_back(folder):
        make_tar(folder / "part0" / "00000.tar", sample_members(painted(5)[0]))
        refuses(run, tmp_path / "out", "1 changed")
        counts = pipeline.apply(Run(run), tmp_path / "out", leave_out_unscanned=True)
        assert counts.left_out == ("part0/00000.tar",)
        assert counts.kept + counts.dropped == 4
        assert list(tree(tmp_path / "out")) == ["part1/00000.tar"] or list(tree(tmp_path / "out")) == [
            "00000.tar"
        ]


def tars(folder: Path, numbers: list[int]) -> Path:
    for number in numbers:
        members = [m for s in painted(number, 10) for m in sample_members(s)]
        make_tar(folder / f"{number:05d}.tar", members)
    return folder


def outputs(run: Path) -> dict[str, bytes]:
    """The files of a run that people read, but for those that hold a time or where it was made."""
    return {
        name: data for name, data in tree(run).items()
        if not name.startswith(("_tasks", "report", "run.json", ".lock")) and "listing" not in name
    }  # fmt: skip


@pytest.mark.parametrize("trusted", [False, True])
def test_appended_shards_cost_only_themselves_and_give_the_run_made_at_once(
    trusted: bool, checkpoint: Path, tmp_path: Path
) -> None:
    how = {}
    if trusted:
        how["trusted_pretrained"] = other_model(tmp_path)
    data = tars(tmp_path / "set", [0, 2, 4])
    scan(data, tmp_path / "run", checkpoint, **how)
    before = {path.stat().st_ino for path in (tmp_path / "run/embeddings/img_emb").iterdir()}
    tars(data, [1, 5])
    with pytest.raises(clipscan.RunError, match=r"2 new \(00001.tar, 00005.tar\).*--overwrite"):
        scan(data, tmp_path / "run", checkpoint, **how)
    scan(data, tmp_path / "run", checkpoint, overwrite=True, **how)
    scan(data, tmp_path / "once", checkpoint, **how)
    assert outputs(tmp_path / "run") == outputs(tmp_path / "once")
    after = [path.stat().st_ino for path in sorted((tmp_path / "run/embeddings/img_emb").iterdir())]
    assert [inode in before for inode in after] == [True, False, True, True, False]
    assert not (tmp_path / "run/_earlier").exists()


def other_model(tmp_path: Path) -> Path:
    from safetensors.torch import save_file

    from clipscan.embed.model import MODEL_KEY, create_network

    torch.manual_seed(1)
    save_file(
        create_network("clipscan-conv-32").state_dict(),
        tmp_path / "other.safetensors",
        metadata={MODEL_KEY: "clipscan-conv-32"},
    )
    return tmp_path / "other.safetensors"


def test_a_shard_that_is_gone_and_one_that_changed_are_not_taken_from_before(
    checkpoint: Path, tmp_path: Path
) -> None:
    data = tars(tmp_path / "set", [0, 1, 2, 3])
    scan(data, tmp_path / "run", checkpoint)
    (data / "00000.tar").unlink()
    make_tar(data / "00002.tar", [m for s in painted(9) for m in sample_members(s)])
    with pytest.raises(clipscan.RunError, match=r"1 gone \(00000.tar\); 1 changed \(00002.tar\)"):
        scan(data, tmp_path / "run", checkpoint)
    scan(data, tmp_path / "run", checkpoint, overwrite=True)
    scan(data, tmp_path / "once", checkpoint)
    assert outputs(tmp_path / "run") == outputs(tmp_path / "once")


@pytest.mark.parametrize("at", range(9))
def test_killed_while_shards_come_back_the_next_call_goes_on(
    at: int, checkpoint: Path, tmp_path: Path, monkeypatch
) -> None:
    data = tars(tmp_path / "set", [0, 2])
    scan(data, tmp_path / "run", checkpoint)
    tars(data, [1])
    from clipscan.run import earlier, run_folder

    left = at

    def dying(real: Callable[..., object]) -> Callable[..., object]:
        def work(*args: object) -> object:
            nonlocal left
            left -= 1
            if left < 0:
                raise KeyboardInterrupt
            return real(*args)

        return work

    with monkeypatch.context() as patch:
        patch.setattr(earlier.os, "replace", dying(os.replace))
        patch.setattr(earlier, "_link", dying(earlier._link))
        patch.setattr(run_folder.RunFolder, "clear", dying(run_folder.RunFolder.clear))
        patch.setattr(run_folder, "write_json", dying(run_folder.write_json))
        with pytest.raises(KeyboardInterrupt):
            scan(data, tmp_path / "run", checkpoint, overwrite=True)
    scan(data, tmp_path / "run", checkpoint, overwrite=True)
    scan(data, tmp_path / "once", checkpoint)
    assert outputs(tmp_path / "run") == outputs(tmp_path / "once")
    assert not (tmp_path / "run/_earlier").exists()


COMMANDS = [
    ["report"], ["score", "--overwrite", "--reference", "5x2"], ["knn", "--k", "3", "--overwrite"],
    ["export", "--fraction", "0.1"], ["partition"], ["explain", "000000004"], ["invert", "0"],
    ["apply", "--to", "TARGET"], ["calibrate", "RUN"],
]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_every_command_refuses_reversed_rows_and_changes_nothing(command, scanned, tmp_path: Path) -> None:
    folder, run = scanned("clip-retrieval")
    with put_back(folder):
        reverse_rows(folder)
        before = tree(run)
        words = {"TARGET": str(tmp_path / "out"), "RUN": str(run)}
        arguments = [command[0], str(run), *(words.get(word, word) for word in command[1:])]
        result = CliRunner().invoke(app, arguments)
        assert isinstance(result.exception, clipscan.RunError), result.output
        assert "6 changed (img_emb/img_emb_0.npy, " in str(result.exception)
        assert tree(run) | {".lock": b""} == before | {".lock": b""}
        assert not (tmp_path / "out").exists()


def test_a_run_of_a_relative_path_is_of_that_dataset_from_any_folder(
    checkpoint: Path, tmp_path: Path, monkeypatch
) -> None:
    for place, numbers in (("a", [0, 1, 2]), ("b", [3, 4, 5])):
        tars(tmp_path / place / "set", numbers)
    monkeypatch.chdir(tmp_path / "a")
    for source in ("set", "set/{00000..00002}.tar", "set/00000.tar::set/00002.tar"):
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
        clipscan.scan(source, out="../run", pretrained=checkpoint, **SMALL)
        assert json.loads(Path("../run/run.json").read_text())["dataset"]["source"] == source
        with monkeypatch.context() as elsewhere:
            elsewhere.chdir(tmp_path / "b")
            counts = pipeline.apply(Run("../run"), tmp_path / "out")
            dropped = pq.read_table(tmp_path / "run/drop.parquet").num_rows
            assert counts.dropped == dropped and counts.kept + dropped in (20, 30)
            written = {path.name for path in files(tmp_path / "out")}
            assert written <= {"00000.tar", "00001.tar", "00002.tar"}
        shutil.rmtree(tmp_path / "out")


def test_a_dataset_that_moved_is_told_and_scanned_from_there_without_embedding(
    checkpoint: Path, tmp_path: Path, monkeypatch
) -> None:
    tars(tmp_path / "old/set", [0, 1, 2])
    scan(tmp_path / "old/set", tmp_path / "old/run", checkpoint)
    (tmp_path / "old").rename(tmp_path / "new")
    with pytest.raises(clipscan.RunError, match="If it has moved, scan it where it lies now"):
        pipeline.apply(Run(tmp_path / "new/run"), tmp_path / "out")
    from clipscan.run import embedding

    monkeypatch.setattr(embedding, "_write", None)
    scan(tmp_path / "new/set", tmp_path / "new/run", checkpoint)
    assert pipeline.apply(Run(tmp_path / "new/run"), tmp_path / "out").kept == 24


def test_a_run_does_not_lie_in_its_dataset_nor_the_dataset_in_what_the_run_writes(
    checkpoint: Path, tmp_path: Path
) -> None:
    data = tars(tmp_path / "set", [0])
    (tmp_path / "link").symlink_to(data)
    for out in (data, data / "run", tmp_path / "link/deep/run"):
        with pytest.raises(clipscan.RunError, match="lies inside the dataset"):
            scan(data, out, checkpoint)
    assert list(tree(data)) == ["00000.tar"]
    np.save(put(tmp_path / "run/embeddings/img_emb/img_emb_0.npy", b""), np.ones((9, 4), np.float32))
    for source in ("run/embeddings", "run/embeddings/img_emb/img_emb_0.npy"):
        with pytest.raises(clipscan.RunError, match="would write over"):
            clipscan.scan(tmp_path / source, out=tmp_path / "run", **SMALL)


def test_apply_does_not_write_into_the_dataset_or_the_run(scanned) -> None:
    folder, run = scanned("tar")
    for target in (folder / "out", folder, run / "cleaned"):
        with pytest.raises(clipscan.RunError, match="lies inside"):
            pipeline.apply(Run(run), target)
    assert list(tree(folder)) == ["00000.tar"]


def test_a_run_that_says_nothing_of_its_files_is_refused(scanned, tmp_path: Path) -> None:
    _, run = scanned("tar")
    shutil.copytree(run, tmp_path / "old")
    record = json.loads((tmp_path / "old/run.json").read_text())
    record["opened"] = {"image_key": None, "text_key": None}
    (tmp_path / "old/run.json").write_text(json.dumps(record))
    with pytest.raises(clipscan.RunError, match="scan again with --overwrite"):
        _ = Run(tmp_path / "old").dataset


def test_a_run_whose_listing_is_damaged_is_refused_until_it_is_made_again(
    checkpoint: Path, tmp_path: Path
) -> None:
    data = tars(tmp_path / "set", [0, 1])
    scan(data, tmp_path / "run", checkpoint)
    for path in [tmp_path / "run/listing.parquet", *(tmp_path / "run/embeddings/listing").iterdir()]:
        path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(clipscan.RunError):
        pipeline.apply(Run(tmp_path / "run"), tmp_path / "out")
    scan(data, tmp_path / "run", checkpoint)
    assert pipeline.apply(Run(tmp_path / "run"), tmp_path / "out").kept == 16


def test_another_column_or_suffix_is_another_setting(scanned, tmp_path: Path) -> None:
    folder, run = scanned("clip-retrieval")
    with pytest.raises(clipscan.RunError, match="image_key"):
        clipscan.scan(folder, out=run, fraction=0.2, image_key="other", **SMALL)


def test_apply_leaves_out_bad_rows_of_embeddings_and_files_that_are_bad_as_a_whole(tmp_path: Path) -> None:
    data = tmp_path / "vectors"
    ALL["clip-retrieval"][0](painted(0), data)
    image = np.load(data / "img_emb/img_emb_0.npy")
    image[2] = np.nan
    np.save(data / "img_emb/img_emb_0.npy", image)
    text = np.load(data / "text_emb/text_emb_1.npy")
    np.save(data / "text_emb/text_emb_1.npy", text[:-1])  # cannot be paired
    done = scan(data, tmp_path / "run", tmp_path)
    assert done.counts["embedded"] == 6
    counts = pipeline.apply(Run(tmp_path / "run"), tmp_path / "out")
    assert counts.kept + counts.dropped == 6 and counts.bad >= 2
    written = [np.load(path) for path in sorted((tmp_path / "out/img_emb").iterdir())]
    assert sum(len(rows) for rows in written) == counts.kept
    assert np.isfinite(np.concatenate([rows for rows in written if len(rows)])).all()


def test_tars_behind_a_url_are_known_by_their_stamp(checkpoint: Path, tmp_path: Path) -> None:
    import fsspec

    store = fsspec.filesystem("memory")
    for number in (0, 1):
        local = tars(tmp_path / "set", [number]) / f"{number:05d}.tar"
        store.pipe(f"/changed/{number:05d}.tar", local.read_bytes())
    source = "memory://changed/{00000..00001}.tar"
    clipscan.scan(source, out=tmp_path / "run", pretrained=checkpoint, **SMALL)
    known = pq.read_table(tmp_path / "run/listing.parquet").to_pylist()
    assert [bool(row["stamp"]) and row["sha256"] == "" for row in known] == [True, True]
    counts = pipeline.apply(Run(tmp_path / "run"), tmp_path / "out")
    assert counts.kept + counts.dropped == 20
    store.pipe("/changed/00001.tar", (tmp_path / "set/00001.tar").read_bytes())
    refuses(tmp_path / "run", tmp_path / "again", r"1 changed \(00001.tar\)")
    store.rm("/changed", recursive=True)


def other_rows_of_same_size_and_time(at: Path, checkpoint: Path) -> Path:
    """Two arrays, scanned, whose third rows have changed places since."""
    folder = at / "vectors"
    folder.mkdir()
    arrays = np.random.default_rng(0).normal(size=(2, 10, 4))
    for number in range(2):
        np.save(folder / f"{number}.npy", arrays[number])
    scan(folder, at / "run", checkpoint)
    arrays[:, 3] = arrays[::-1, 3].copy()
    for number in range(2):
        buffer = io.BytesIO()
        np.save(buffer, arrays[number])
        keep_time(folder / f"{number}.npy", buffer.getvalue())
    return folder


def other_pictures_of_same_size_and_time(at: Path, checkpoint: Path) -> Path:
    """Two tars, scanned, the second of which holds other pictures since."""
    folder = tars(at / "set", [0, 2])
    scan(folder, at / "run", checkpoint)
    second, other = folder / "00002.tar", tars(at / "other", [5]) / "00005.tar"
    assert second.stat().st_size == other.stat().st_size
    keep_time(second, other.read_bytes())
    return folder


def score_again(run: Path) -> None:
    pipeline.score(Run(run), Ranking("kdist", 2, "6x2", fraction=0.2), Compute(), overwrite=True)


@pytest.mark.parametrize(
    ("change", "meets"),
    [
        (other_rows_of_same_size_and_time, score_again),
        (other_rows_of_same_size_and_time, lambda run: pipeline.explain(Run(run), "0.npy/000000004")),
        (other_rows_of_same_size_and_time, lambda run: pipeline.apply(Run(run), run.parent / "out")),
        (other_pictures_of_same_size_and_time, lambda run: pipeline.apply(Run(run), run.parent / "out")),
    ],
)
def test_content_that_changed_under_its_size_and_time_is_refused_and_then_scanned_anew(
    change, meets, checkpoint: Path, tmp_path: Path
) -> None:
    data, run = change(tmp_path, checkpoint), tmp_path / "run"
    with pytest.raises(clipscan.DataError, match="does not hold what was scanned"):
        meets(run)
    assert not (tmp_path / "out").exists()
    with pytest.raises(clipscan.RunError, match="[12] changed"):
        scan(data, run, checkpoint)
    scan(data, run, checkpoint, overwrite=True)
    scan(data, tmp_path / "once", checkpoint)
    assert outputs(run) == outputs(tmp_path / "once")
    counts = pipeline.apply(Run(run), tmp_path / "out")
    assert counts.kept + counts.dropped == 20


def test_a_run_that_can_only_be_read_serves_for_a_touched_dataset(
    scanned, tmp_path: Path, monkeypatch
) -> None:
    folder, run = scanned("tar")

    def refuse(draft: Path, target: Path) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    with put_back(folder):
        for path in files(folder):
            os.utime(path, (7, 7))
        with monkeypatch.context() as patch:
            patch.setattr(atomic, "rename", refuse)
            assert pipeline.apply(Run(run), tmp_path / "out")[:3] == (8, 2, 0)
            assert "rank" in pipeline.explain(Run(run), "000000004")


@pytest.mark.parametrize("kind", [os.mkdir, os.mkfifo])
def test_a_file_whose_name_something_else_has_taken_is_gone(kind, scanned, tmp_path: Path) -> None:
    folder, run = scanned("tar folder")
    with put_back(folder):
        (tar := folder / "part0" / "00000.tar").unlink()
        kind(tar)
        refuses(run, tmp_path / "out", r"1 gone \(part0/00000.tar\)")


EDITED = {
    "a source that is a number": lambda record: record["opened"].update(source=5),
    "opened that is a list": lambda record: record.update(opened=[1]),
    "an option of another version": lambda record: record["opened"].update(frames=3),
    "no dataset": lambda record: record.pop("dataset"),
    "a dataset in words": lambda record: record.update(dataset="x"),
    "shards that are a number": lambda record: record["dataset"].update(shards=3),
    "asked in words": lambda record: record.update(asked="x"),
    "asked of a stage in words": lambda record: record["asked"].update(score="x"),
}


@pytest.mark.parametrize("edit", EDITED.values(), ids=EDITED)
def test_an_edited_run_json_is_refused_in_words_and_a_scan_makes_it_again(
    edit, scanned, tmp_path: Path
) -> None:
    folder, made = scanned("vector parquet")
    run = tmp_path / "run"
    shutil.copytree(made, run)
    record = json.loads((run / "run.json").read_text())
    edit(record)
    (run / "run.json").write_text(json.dumps(record))
    for command in (pipeline.explain, pipeline.apply):
        with pytest.raises(clipscan.RunError, match=r"remove it|made by another clipscan"):
            command(Run(run), "000000004" if command is pipeline.explain else tmp_path / "out")
    (run / "run.json").unlink()
    scan(folder, run, Path())
    assert pipeline.apply(Run(run), tmp_path / "out")[:3] == (8, 2, 0)


def test_a_ranking_by_a_score_that_was_not_made_is_refused_in_words(scanned, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(scanned("vector parquet")[1], run)
    record = json.loads((run / "run.json").read_text())
    record["score"]["method"] = "guess"
    (run / "run.json").write_text(json.dumps(record))
    with pytest.raises(clipscan.RunError, match="no such score was made"):
        pipeline.explain(Run(run), "000000004")


@pytest.mark.parametrize("layout", ALL)
def test_apply_says_where_the_disk_is_full_and_leaves_nothing(layout: str, scanned, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource", reason="needs a system that can limit the size of files")
    _, run = scanned(layout)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        refuses(run, tmp_path / "out", r"out cannot be written: .*choose another target")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert pipeline.apply(Run(run), tmp_path / "out")[:3] == (8, 2, 0)
