"""Features that nobody trained: the numbers that their definition says, and their place in a run."""

import math

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from run_helpers import checkpoint, contents, scan_pictures, scan_vectors, tars  # noqa: F401

import clipscan
from clipscan.embed.untrained import WIDTH, untrained_features
from clipscan.run import RunFolder
from clipscan.run.embedding import untrained, vectors
from clipscan.run.outputs import Damaged, reseal


def pictures(count, side=32, seed=0):
    """Soft shapes under grain, some of them with hard edges."""
    rng = np.random.default_rng(seed)
    made = []
    for i in range(count):
        shapes = Image.fromarray(rng.integers(0, 256, (5, 5, 3), np.uint8))
        soft = np.asarray(shapes.resize((side, side), Image.Resampling(i % 4)), np.int16)
        made.append((soft + rng.integers(-9, 10, soft.shape)).clip(0, 255).astype(np.uint8))
    return made


def filters_by_definition():
    """64 of [6][6][3], of loops over places and colours."""
    places = [(y, x, c) for y in range(6) for x in range(6) for c in range(3)]
    alike = np.array([
        [math.exp(-math.dist(a[:2], b[:2]) / 4) * (1 if a[2] == b[2] else 0.9) for b in places]
        for a in places
    ])  # fmt: skip
    for _ in range(2):  # the mean of a patch goes, of rows and of columns
        alike = alike.T - alike.mean(axis=1)
    alike *= 108 / sum(alike[i, i] for i in range(108))
    w, u = np.linalg.eigh(alike)
    whitening = u @ np.diag(1 / np.sqrt(w + 0.1)) @ u.T
    found = []
    for row in np.random.RandomState(0).standard_normal((64, 108)):
        one = whitening @ (row / math.sqrt(sum(row**2)))
        found.append(one / math.sqrt(one @ alike @ one))
    return found


def by_definition(picture):
    """560 numbers of one picture [32, 32, 3], window by window."""
    filters = filters_by_definition()
    sums = np.zeros((2, 2, 2, 64))  # quadrant's row, its column, sign, filter
    for row in range(14):
        for column in range(14):
            window = picture[2 * row : 2 * row + 6, 2 * column : 2 * column + 6].ravel() / 255
            window = (window - window.mean()) / math.sqrt(window.var() + (10 / 255) ** 2)
            for number, one in enumerate(filters):
                response = one @ window
                sums[row // 7, column // 7, 0, number] += max(response - 0.5, 0)
                sums[row // 7, column // 7, 1, number] += max(-response - 0.5, 0)
    cells = [
        picture[8 * y : 8 * y + 8, 8 * x : 8 * x + 8, c].mean() / 255
        for y in range(4) for x in range(4) for c in range(3)
    ]  # fmt: skip
    return np.concatenate([sums.ravel() / 49, cells])


def test_the_features_are_those_of_the_definition():
    some = pictures(3)
    found = untrained_features(some)
    assert found.shape == (3, WIDTH) == (3, 560) and found.dtype == np.float16
    expected = np.stack([by_definition(picture) for picture in some])
    half_a_step = np.spacing(expected.astype(np.float16)).astype(np.float64) / 2
    assert (np.abs(found - expected) <= half_a_step + 1e-5).all()
    assert (found[:, :512] > 0).mean() > 0.9, "nearly every filter finds something in every quadrant"


def test_the_features_do_not_depend_on_the_batch_or_its_order():
    some = pictures(70)
    together = untrained_features(some)
    assert (untrained_features(some[::-1])[::-1] == together).all()
    for size in (1, 7, 33):
        parts = [untrained_features(some[start : start + size]) for start in range(0, 70, size)]
        assert (np.concatenate(parts) == together).all(), size


def test_a_larger_picture_counts_as_the_means_of_its_boxes():
    small = pictures(4)
    for times in (2, 7):
        large = [picture.repeat(times, axis=0).repeat(times, axis=1) for picture in small]
        assert (untrained_features(large) == untrained_features(small)).all()
    odd = pictures(1, side=75)[0]
    boxes = np.asarray(Image.fromarray(odd).resize((32, 32), Image.Resampling.BOX))
    assert (untrained_features([odd]) == untrained_features([boxes])).all()
    assert untrained_features(pictures(2, side=8)).shape == (2, 560)


def test_of_one_grey_only_the_grey_is_left():
    grey, blue = untrained_features([np.full((32, 32, 3), one, np.uint8) for one in (51, (0, 51, 255))])
    assert not grey[:512].any() and (grey[512:] == np.float16(0.2)).all()
    assert blue[:512].any() and (blue[512:].reshape(16, 3) == np.array([0, 0.2, 1], np.float16)).all()
    assert untrained_features([]).shape == (0, 560)


# ---- in a run


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tars(tmp_path_factory.mktemp("set") / "data", shards=2, per_shard=20)


@pytest.fixture
def run(data, checkpoint, tmp_path):  # noqa: F811
    return RunFolder(scan_pictures(data, tmp_path / "run", checkpoint).out)


def older(run):
    """What a clipscan left that made no such features."""
    from clipscan.run.files import read_json, write_json

    for shard in range(2):
        run.untrained(shard).unlink()
        path = run / f"_tasks/embed-{shard:05d}.json"
        marker = read_json(path)
        del marker["files"][run.untrained(shard).relative_to(run.path).as_posix()]
        write_json(path, marker)


def pixels(data):
    """What the encoder saw of all good pairs, in order."""
    from clipscan.data import Bad, open_dataset
    from clipscan.embed.decode import DecodePool, decode_all
    from clipscan.embed.pixels import PixelSpec

    dataset = open_dataset(data)
    samples = [sample for shard in dataset.shards for sample in dataset.read(shard)]
    with DecodePool(1) as pool:
        decoded = list(decode_all(samples, PixelSpec(32), pool))
    return [one[1] for one in decoded if not isinstance(one, Bad)]


def test_a_run_keeps_the_features_of_every_embedded_picture_in_the_order_of_its_vectors(run, data):
    image, _, counts = vectors(run, None)
    found = untrained(run)
    assert counts == [19, 19] and (found.n, found.d) == (image.n, 560) == (38, 560)
    stored = np.load(run / "embeddings/untrained/untrained_00001.npy")
    assert stored.dtype == np.float16 and stored.shape == (19, 560)
    assert (found.block(0, 38) == untrained_features(pixels(data))).all()


def test_a_run_of_an_older_version_has_none_and_is_scored_as_before(run, data, checkpoint):  # noqa: F811
    scores = pq.read_table(run.scores(0))
    older(run)
    before = contents(run / "embeddings")
    assert untrained(run) is None
    scan_pictures(data, run.path, checkpoint)
    assert contents(run / "embeddings") == before, "nothing is embedded again"
    scan_pictures(data, run.path, checkpoint, method="kdist", overwrite=True)
    assert pq.read_table(run.scores(0))["kdist"].equals(scores["kdist"])
    assert untrained(run) is None


def test_features_of_some_shards_only_are_none(run):
    older(run)
    np.save(run.untrained(0), np.zeros((19, 560), np.float16))
    assert untrained(run) is None


def test_damaged_features_are_not_read_and_the_next_scan_makes_them_again(run, data, checkpoint):  # noqa: F811
    whole = run.untrained(1).read_bytes()
    run.untrained(1).write_bytes(whole[:-2] + b"\x00\x3c")
    with pytest.raises(Damaged, match=r"untrained_00001.npy has changed .* makes it again"):
        untrained(run)
    scan_pictures(data, run.path, checkpoint)
    assert run.untrained(1).read_bytes() == whole
    run.untrained(0).unlink()
    with pytest.raises(Damaged, match=r"untrained_00000.npy is gone"):
        untrained(run, deep=False)


def test_features_of_another_number_of_rows_are_refused(run):
    np.save(run.untrained(1), np.zeros((18, 560), np.float16))
    reseal(run.untrained(1))
    with pytest.raises(clipscan.RunError, match="shard 1 has 18 rows of untrained features and 19 rows of"):
        untrained(run)


def test_a_shard_without_a_good_picture_takes_none_from_the_others(checkpoint, tmp_path):  # noqa: F811
    good = tars(tmp_path / "data", shards=1, per_shard=20)
    (tars(tmp_path / "bad", shards=1, per_shard=1) / "00000.tar").rename(good / "00001.tar")
    run = RunFolder(scan_pictures(good, tmp_path / "run", checkpoint).out)
    assert np.load(run.untrained(1)).shape == (0, 560)
    assert untrained(run).n == 19


def test_vectors_of_a_run_scanned_as_a_dataset_are_the_same_and_have_no_features(run, tmp_path):
    again = RunFolder(scan_vectors(run / "embeddings", tmp_path / "again").out)
    with_dataset = clipscan.pipeline.reopen(again)
    for ours, theirs in zip(vectors(again, with_dataset)[:2], vectors(run, None)[:2], strict=True):
        assert (ours.block(0, 38) == theirs.block(0, 38)).all()
    assert untrained(again) is None and not (again / "embeddings/untrained").exists()
