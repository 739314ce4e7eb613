"""A scan, end to end: hostile datasets, kills at any moment, refusals, and what lies in the run folder."""

import io
import json
import random
import signal
import struct
import subprocess
import sys
import tarfile
import time
import zlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import clipscan
import clipscan.pipeline
from clipscan.run import Run, RunFolder, graph, status
from clipscan.run.progress import Lines, ShardMeter, Silent
from clipscan.run.selecting import rank

torch = pytest.importorskip("torch", reason="needs clipscan[embed]")


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """A random small CLIP: enough to run everything, found nothing worth finding."""
    from safetensors.torch import save_file

    from clipscan.embed.model import MODEL_KEY, create_network

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model") / "random.safetensors"
    save_file(create_network("clipscan-conv-32").state_dict(), path, metadata={MODEL_KEY: "clipscan-conv-32"})
    return path


def picture(rng, kind="PNG", side=24):
    buffer = io.BytesIO()
    colour, noise = rng.integers(0, 200, 3), rng.integers(0, 55, (side, side, 3))
    Image.fromarray((colour + noise).astype(np.uint8)).save(buffer, kind)
    return buffer.getvalue()


def png_header(width, height):
    """A PNG that claims a size and holds nothing."""
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"")),
        (b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )


def write_tar(path, members):
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def pairs(rng, first, count):
    for i in range(first, first + count):
        yield f"{i:05d}.png", picture(rng)
        yield f"{i:05d}.txt", f"picture number {i}".encode()


def tars(folder, shards=4, per_shard=60):
    folder.mkdir()
    rng = np.random.default_rng(0)
    for shard in range(shards):
        write_tar(folder / f"{shard:05d}.tar", pairs(rng, shard * per_shard, per_shard))
    return folder


def run_with_nothing_dropped(out):
    clipscan.pipeline.export(Run(out), threshold=1e300)
    return out


def scan(source, out, checkpoint, **options):
    return clipscan.scan(source, out=out, pretrained=checkpoint, k=4, reference="50x3", workers=1, **options)


def scores_of(run):
    return {path.name: path.read_bytes() for path in sorted((run / "scores").glob("*.parquet"))}


def test_a_scan_writes_the_whole_run_folder_and_its_counts_add_up(tmp_path, checkpoint):
    done = scan(tars(tmp_path / "data"), tmp_path / "run", checkpoint, fraction=0.05)
    assert done.counts == {
        "listed": 240, "embedded": 240, "bad": 0, "suspects": 12, "groups": done.counts["groups"],
        "dropped": 12, "kept": 228,
    }  # fmt: skip
    for name in (
        "run.json",
        "bad.parquet",
        "suspects.parquet",
        "groups.parquet",
        "drop.parquet",
        "keep.txt",
        "drop.txt",
        "report/index.html",
    ):
        assert (done.out / name).exists(), name
    image = np.load(done.out / "embeddings/img_emb/img_emb_00002.npy")
    metadata = pq.read_table(done.out / "embeddings/metadata/metadata_00002.parquet")
    assert image.dtype == np.float16 and len(image) == metadata.num_rows == 60
    norm = np.linalg.norm(image.astype(np.float32), axis=1)
    assert np.abs(norm / metadata["image_norm"].to_numpy() - 1).max() < 1e-3, "raw vectors, norms recorded"

    suspects = done.table()
    assert suspects["rank"].to_pylist() == list(range(1, 13))
    assert (np.diff(suspects["score"].to_numpy()) <= 0).all()
    assert all(why.endswith(".") for why in suspects["why"].to_pylist())
    assert len(suspects["neighbors"][0]) == 8
    assert [s.done for s in status(done.out)] == [4, 4, 4, 1]


def test_run_scores_are_those_of_the_library_on_the_stored_vectors(tmp_path, checkpoint):
    done = scan(tars(tmp_path / "data"), tmp_path / "run", checkpoint)
    image, text = (
        np.concatenate([np.load(p) for p in sorted((done.out / f"embeddings/{side}_emb").glob("*.npy"))])
        for side in ("img", "text")
    )
    direct = clipscan.score(image, text=text, method=["dao", "cross"], k=4, reference="50x3")
    stored = [pq.read_table(p) for p in sorted((done.out / "scores").glob("*"))]
    for name in ("dao", "cross"):
        assert (np.concatenate([t[name].to_numpy() for t in stored]) == direct[name]).all()


def test_a_hostile_dataset_is_scanned_and_every_bad_sample_is_listed_with_its_reason(tmp_path, checkpoint):
    data = tars(tmp_path / "data", per_shard=15)  # in all fewer than the page shows
    rng = np.random.default_rng(1)
    write_tar(
        data / "00004.tar",
        [
            *pairs(rng, 0, 10),  # the keys of another tar again: other samples
            ("zero.jpg", b""), ("zero.txt", b"an empty picture"),
            ("text.jpg", b"not a picture at all"), ("text.txt", b"text named .jpg"),
            ("bomb.png", png_header(30_000, 30_000)), ("bomb.txt", b"thirty thousand squared"),
            ("mute.png", picture(rng)),
            ("latin.png", picture(rng)), ("latin.txt", "caf\xe9".encode("latin-1")),
            ("script.png", picture(rng)), ("script.txt", b"<script>alert(1)</script>"),
            ("half.jpg", picture(rng, "JPEG", 64)[:300]), ("half.txt", b"cut off"),
        ],
    )  # fmt: skip
    whole = tmp_path / "whole.tar"
    write_tar(whole, pairs(rng, 500, 20))
    (data / "00005.tar").write_bytes(whole.read_bytes()[:20_000])
    (data / "00006.tar").write_bytes(b"")
    (data / "00007.tar").write_bytes(b"garbage" * 1000)

    done = scan(data, tmp_path / "run", checkpoint, fraction=1.0)
    bad = {(row["shard"], row["key"]): row["reason"] for row in done.table("bad").to_pylist()}
    for key, word in {
        "zero": "empty", "text": "", "bomb": "30000 x 30000", "mute": "caption", "latin": "UTF-8", "half": "",
    }.items():  # fmt: skip
        assert word in bad["00004.tar", key], (key, bad)
    assert all(any(shard == f"0000{n}.tar" for shard, _ in bad) for n in (5, 7)), bad
    c = done.counts
    assert c["listed"] == c["embedded"] + c["bad"] and c["embedded"] == c["kept"] + c["dropped"]
    found = {(row["shard"], row["key"]) for row in done.table().to_pylist()}
    assert {("00000.tar", "00003"), ("00004.tar", "00003"), ("00004.tar", "script")} <= found
    assert not found & set(bad)
    clean = clipscan.pipeline.apply(Run(run_with_nothing_dropped(done.out)), tmp_path / "clean")
    again = scan(tmp_path / "clean", tmp_path / "again", checkpoint)
    left = again.table("bad").to_pylist()
    assert [row["reason"] for row in left] == ["the tar holds no samples"], "what was garbage is an empty tar"
    assert again.counts["embedded"] == clean.kept == c["embedded"]
    page = done.page.read_text()
    assert "&lt;script&gt;alert(1)" in page and "<script>alert(1)" not in page


def test_zero_samples_is_an_error_that_says_what_was_found(tmp_path, checkpoint):
    data = tmp_path / "data"
    data.mkdir()
    write_tar(data / "0.tar", [("a.jpg", b"x"), ("a.txt", b"words")])
    with pytest.raises(clipscan.DataError, match="not one readable sample. 1 were refused: 1 x"):
        scan(data, tmp_path / "run", checkpoint)
    assert pq.read_table(tmp_path / "run/bad.parquet").num_rows == 1


def test_refusals_of_one_kind_are_counted_together_whatever_names_they_quote(tmp_path, checkpoint):
    (tmp_path / "data").mkdir()
    members = [(f"{i}.jpg", b"") for i in range(3)] + [(f"{i}.txt", b"words") for i in range(3)]
    write_tar(
        tmp_path / "data/0.tar", [m for i in range(3) for m in (members[i], members[i], members[i + 3])]
    )
    with pytest.raises(clipscan.DataError, match="3 were refused: 3 x member '0.jpg' comes twice"):
        scan(tmp_path / "data", tmp_path / "run", checkpoint)


def test_members_that_no_sample_has_are_counted_and_said_also_by_a_run_that_resumes(tmp_path, checkpoint):
    data = tars(tmp_path / "data")
    write_tar(data / "00009.tar", [("README.md", b"1"), ("a.mp4", b"1"), ("b.mp4", b"1")])
    for _ in range(2):
        lines = io.StringIO()
        done = scan(data, tmp_path / "run", checkpoint, progress=Lines(lines))
        assert "passed over, and kept by apply: in tars 2 .mp4, 1 .md" in lines.getvalue()
    assert json.loads((done.out / "run.json").read_text())["passed_over"] == {
        "members": [["md", 1], ["mp4", 2]], "files": [],
    }  # fmt: skip


def test_a_run_is_opened_again_with_the_roots_and_the_quoting_it_was_made_with(tmp_path, checkpoint):
    (tmp_path / "set").mkdir()
    (tmp_path / "images").mkdir()
    rng = np.random.default_rng(0)
    rows = ["filepath,title"]
    for i in range(30):
        (tmp_path / f"images/{i}.png").write_bytes(picture(rng))
        rows.append(f'{tmp_path}/images/{i}.png,"a screen of {i}')
    (tmp_path / "set/t.csv").write_text("\n".join(rows))
    done = scan(tmp_path / "set", tmp_path / "run", checkpoint, roots=[tmp_path / "images"], quoting="none")
    assert (done.counts["embedded"], done.counts["bad"]) == (30, 0)
    counts = clipscan.pipeline.apply(Run(run_with_nothing_dropped(done.out)), tmp_path / "clean")
    assert (counts.kept, counts.bad) == (30, 0)
    assert (tmp_path / "clean/t.csv").read_bytes() == (tmp_path / "set/t.csv").read_bytes()
    with pytest.raises(clipscan.DataError, match="30 x .* leads out .* --root DIR"):
        scan(tmp_path / "set", tmp_path / "closed", checkpoint, quoting="none")


def test_a_killed_scan_resumes_to_the_same_bytes(tmp_path, checkpoint):
    data = tars(tmp_path / "data", shards=6, per_shard=100)
    plain = scan(data, tmp_path / "plain", checkpoint)
    command = [
        sys.executable, "-P", "-c",
        "import sys, clipscan; clipscan.scan(sys.argv[1], out=sys.argv[2], pretrained=sys.argv[3], k=4,"
        " reference='50x3', workers=1)",
        str(data), str(tmp_path / "killed"), str(checkpoint),
    ]  # fmt: skip
    rng, kills = random.Random(0), 0
    for _ in range(2):
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        began = time.monotonic()
        while not (tmp_path / "killed/_tasks").exists() and time.monotonic() - began < 60:
            time.sleep(0.01)  # until the first shard is under way: the seconds before are imports
        time.sleep(rng.uniform(0, 1.0))
        process.send_signal(signal.SIGKILL)
        kills += process.wait() == -signal.SIGKILL
    assert kills, "every process had already ended: the kills tested nothing"
    resumed = scan(data, tmp_path / "killed", checkpoint)
    assert scores_of(resumed.out) == scores_of(plain.out)
    assert resumed.counts == plain.counts
    assert resumed.table().equals(plain.table())


def test_a_failure_in_any_task_costs_that_task_only(tmp_path, checkpoint, monkeypatch):
    data = tars(tmp_path / "data", shards=2)
    plain = scores_of(scan(data, tmp_path / "plain", checkpoint).out)
    from clipscan.run import outputs

    write, writes = outputs.write_json, 0

    def failing(path, value, **how):
        nonlocal writes
        if path.parent.name == "_tasks" and value["fingerprint"]:
            writes += 1
            if writes % 2:  # every second done marker is lost, as if killed just before it
                raise KeyboardInterrupt
        write(path, value, **how)

    monkeypatch.setattr(outputs, "write_json", failing)
    for _ in range(40):
        try:
            done = scan(data, tmp_path / "run", checkpoint)
            break
        except KeyboardInterrupt:
            pass
    assert writes == 22, "eleven tasks, each lost once and never repeated after it was finished"
    assert scores_of(done.out) == plain


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"k": 5}, "k: 4 there, 5 asked"),
        ({"seed": 1}, "seed"),
        ({"reference": "40x3"}, "40x3"),
        ({"batch_size": 7}, "batch_size"),
    ],
)
def test_other_settings_are_refused_and_overwrite_redoes_only_what_they_touch(
    tmp_path, checkpoint, change, word
):
    data, out = tars(tmp_path / "data"), tmp_path / "run"
    scan(data, out, checkpoint)
    before = (out / "embeddings/img_emb/img_emb_00000.npy").stat().st_mtime_ns
    asked = {"out": out, "pretrained": checkpoint, "k": 4, "reference": "50x3", "workers": 1} | change
    with pytest.raises(clipscan.RunError, match=word):
        clipscan.scan(data, **asked)
    clipscan.scan(data, overwrite=True, **asked)
    after = (out / "embeddings/img_emb/img_emb_00000.npy").stat().st_mtime_ns
    assert (after == before) == ("batch_size" not in change)


def test_a_changed_dataset_is_refused(tmp_path, checkpoint):
    data = tars(tmp_path / "data")
    scan(data, tmp_path / "run", checkpoint)
    write_tar(data / "00003.tar", pairs(np.random.default_rng(9), 700, 50))
    with pytest.raises(clipscan.RunError, match=r"1 changed \(00003.tar\)"):
        scan(data, tmp_path / "run", checkpoint)


def test_a_dataset_of_pictures_needs_a_model(tmp_path):
    with pytest.raises(clipscan.InputError, match="clipscan train"):
        clipscan.scan(tars(tmp_path / "data"), out=tmp_path / "run")


def test_two_processes_do_not_share_a_run_folder(tmp_path, checkpoint):
    data = tars(tmp_path / "data")
    with RunFolder(tmp_path / "run").lock(), pytest.raises(clipscan.RunError, match="another clipscan"):
        scan(data, tmp_path / "run", checkpoint)


def test_precomputed_embeddings_are_scanned_in_place_and_their_broken_rows_are_bad(tmp_path):
    rng = np.random.default_rng(0)
    image = rng.standard_normal((300, 16)).astype(np.float16)
    image[7], image[100:130] = np.nan, image[100]
    np.save(tmp_path / "a.npy", image)
    done = clipscan.scan(tmp_path / "a.npy", out=tmp_path / "run", k=4, reference="50x2")
    assert done.counts["bad"] == 1 and "not finite" in done.table("bad")["reason"][0].as_py()
    group = done.table("groups").to_pylist()[0]
    assert group["size"] == 30 and len(group["members"]) == 30
    everyone = clipscan.scan(
        tmp_path / "a.npy", out=tmp_path / "all", k=4, reference="50x2", fraction=1.0
    ).table()
    copies = [row for row in everyone.to_pylist() if row["group"] == 0]
    assert len(copies) == 30 and all("One of 30 near-copies." in row["why"] for row in copies)
    np.save(tmp_path / "b.npy", image[8:])
    done = clipscan.scan(tmp_path / "b.npy", out=tmp_path / "b", k=4, reference="50x2", graph="no")
    assert not (done.out / "embeddings/img_emb").exists(), "vectors stay where they are"
    assert done.table("groups")["size"].to_pylist() == [30], "exact copies are found without a graph"
    assert "not asked for" in json.loads((done.out / "run.json").read_text())["graph"]["skipped"]


def scores_through(door, image, text, shards):
    """All columns, stacked, of a scan of these vectors in so many files."""
    for side, rows in (("img", image), ("text", text)):
        (door / f"{side}_emb").mkdir(parents=True)
        for number, part in enumerate(np.array_split(rows, shards)):
            np.save(door / f"{side}_emb/{side}_emb_{number}.npy", part)
    done = clipscan.scan(door, out=door.with_suffix(".run"), k=4, reference="50x3", graph="no")
    tables = [pq.read_table(path) for path in sorted((done.out / "scores").glob("*"))]
    columns = pa.concat_tables(tables).drop_columns(["shard", "key"])
    return {name: columns[name].to_numpy() for name in columns.column_names}


def test_names_do_not_decide_about_the_same_vectors(tmp_path):
    rng = np.random.default_rng(5)
    image, text = (rng.normal(size=(300, 8)).astype(np.float16) for _ in range(2))
    image[100:140] = image[:40]  # one picture under two captions
    one, other = (scores_through(tmp_path / f"{n}", image, text, n) for n in (1, 3))
    assert one.keys() == other.keys() and all((one[name] == other[name]).all() for name in one)
    order = rng.permutation(300)
    turned = scores_through(tmp_path / "turned", image[order], text[order], 1)
    assert all((one[name][order] == turned[name]).all() for name in one if name != "consensus")


def test_a_graph_searched_a_shard_at_a_time_is_the_graph_searched_at_once(tmp_path, monkeypatch):
    rng = np.random.default_rng(4)
    folder = tmp_path / "shards"
    (folder / "img_emb").mkdir(parents=True)
    for shard, count in enumerate((70, 1, 90)):
        np.save(folder / f"img_emb/img_emb_{shard}.npy", rng.standard_normal((count, 8)).astype(np.float32))
    asked = {"k": 4, "reference": "50x2", "graph": "yes"}
    clipscan.scan(folder, out=tmp_path / "whole", **asked)
    monkeypatch.setattr(graph, "AT_ONCE_ROWS", 0)
    clipscan.scan(folder, out=tmp_path / "slices", **asked)
    whole, slices = (Run(tmp_path / name).graph for name in ("whole", "slices"))
    assert whole.n == 161
    assert (whole.index == slices.index).all() and (whole.distance == slices.distance).all()


def test_a_finished_graph_is_not_searched_again(tmp_path, monkeypatch):
    np.save(tmp_path / "a.npy", np.random.default_rng(5).standard_normal((60, 6)).astype(np.float32))
    asked = {"out": tmp_path / "run", "k": 3, "reference": "40x2", "graph": "yes"}
    clipscan.scan(tmp_path / "a.npy", **asked)
    monkeypatch.setattr(graph, "search", None)
    monkeypatch.setattr(graph, "check_rows", None)
    clipscan.scan(tmp_path / "a.npy", **asked)


def test_a_graph_made_later_is_no_longer_reported_as_skipped(tmp_path):
    np.save(tmp_path / "a.npy", np.random.default_rng(0).standard_normal((120, 8)).astype(np.float32))
    asked = {"out": tmp_path / "run", "k": 4, "reference": "50x2"}
    clipscan.scan(tmp_path / "a.npy", graph="no", **asked)
    assert status(tmp_path / "run")[1].total == 0
    clipscan.scan(tmp_path / "a.npy", graph="yes", overwrite=True, **asked)
    assert not json.loads((tmp_path / "run/run.json").read_text())["graph"]["skipped"]
    assert status(tmp_path / "run")[1].total == status(tmp_path / "run")[1].done == 1


def test_embedding_an_image_folder_gives_the_vectors_of_the_tars(tmp_path, checkpoint):
    data = tars(tmp_path / "data", shards=1)
    folder = tmp_path / "folder"
    folder.mkdir()
    with tarfile.open(data / "00000.tar") as tar:
        for member in tar:
            (folder / member.name).write_bytes(tar.extractfile(member).read())
    a, b = scan(data, tmp_path / "a", checkpoint), scan(folder, tmp_path / "b", checkpoint)
    for side in ("img", "text"):
        name = f"embeddings/{side}_emb/{side}_emb_00000.npy"
        assert (a.out / name).read_bytes() == (b.out / name).read_bytes()


def test_ranks_share_places_among_equals():
    assert rank(np.array([3.0, 9.0, 3.0, np.nan, 1.0])).tolist() == [2, 1, 2, 5, 4]


def test_progress_lines_tell_rate_and_time_left():
    out = io.StringIO()
    lines = Lines(out, as_json=True)
    lines.stage("embed", "images")
    lines.advance(10, 0.5)
    lines.advance(20, 1.0)
    first, last = (json.loads(line) for line in out.getvalue().splitlines())
    assert first == {"stage": "embed"}
    assert last["done"] == 20 and last["share"] == 1.0


def test_the_meter_shares_out_shards_of_unknown_length():
    seen = []

    class Listener(Silent):
        def advance(self, done, share):
            seen.append((done, round(share, 3)))

    meter = ShardMeter(Listener(), [100, 100, 200])
    meter.tick(5)
    meter.finish(10)
    meter.tick(5)
    meter.finish(10)
    meter.tick(20)
    meter.finish(40)
    assert seen == [(5, 0.0), (10, 0.25), (15, 0.375), (20, 0.5), (40, 0.995), (60, 1.0)]
