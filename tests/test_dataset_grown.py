"""Scanning a changed dataset again: only what changed is done anew, and nothing stale is kept."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from changed_helpers import SMALL, checkpoint, keep_time, painted, refuses, scan, tars  # noqa: F401
from data_helpers import make_tar, tree
from layouts import ALL, sample_members

import clipscan
from clipscan import pipeline
from clipscan.run import Compute, Ranking, Run

torch = pytest.importorskip("torch", reason="needs clipscan[embed]")


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
