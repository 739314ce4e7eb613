"""Features that nobody trained: the numbers that their definition says, and their place in a run."""

import itertools
import math

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from run_helpers import checkpoint, contents, scan_pictures, scan_vectors, tars  # noqa: F401

import clipscan
from clipscan.embed.untrained import WIDTH, untrained_features
from clipscan.run import Run
from clipscan.run.markers import Damaged, reseal
from clipscan.run.vectors import read_untrained


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
    """688 numbers of one picture [32, 32, 3] or [64, 64, 3], window by window."""
    filters = filters_by_definition()
    side = len(picture)
    stride, places, half = {32: (1, 27, 14), 64: (2, 30, 15)}[side]
    sums = np.zeros((2, 2, 2, 64))  # quadrant's row, its column, sign, filter
    largest = np.full((2, 64), -np.inf)  # sign, filter
    for row, column in itertools.product(range(places), repeat=2):
        y, x = stride * row, stride * column
        window = picture[y : y + 6, x : x + 6].ravel() / 255
        window = (window - window.mean()) / math.sqrt(window.var() + (10 / 255) ** 2)
        down = {0: row < half, 1: row >= places - half}
        across = {0: column < half, 1: column >= places - half}
        for number, one in enumerate(filters):
            for sign, response in enumerate((one @ window, -(one @ window))):
                largest[sign, number] = max(largest[sign, number], response)
                for i, j in itertools.product(range(2), repeat=2):
                    if down[i] and across[j]:
                        sums[i, j, sign, number] += max(response - 0.5, 0)
    cell = side // 4
    cells = [
        picture[cell * y : cell * y + cell, cell * x : cell * x + cell, c].mean() / 255
        for y in range(4) for x in range(4) for c in range(3)
    ]  # fmt: skip
    return np.concatenate([sums.ravel() / half**2, largest.ravel(), cells])


@pytest.mark.parametrize("side", [32, 64])
def test_the_features_are_those_of_the_definition(side):
    some = pictures(2, side)
    found = untrained_features(some)
    assert found.shape == (2, WIDTH) == (2, 688) and found.dtype == np.float16
    expected = np.stack([by_definition(picture) for picture in some])
    half_a_step = np.spacing(expected.astype(np.float16)).astype(np.float64) / 2
    assert (np.abs(found - expected) <= half_a_step + 1e-5).all()
    assert (found[:, :512] > 0).mean() > 0.9, "nearly every filter finds something in every quadrant"


@pytest.mark.parametrize("side", [32, 64])
def test_the_features_do_not_depend_on_the_batch_or_its_order(side):
    some = pictures(70, side)
    together = untrained_features(some)
    assert (untrained_features(some[::-1])[::-1] == together).all()
    for size in (1, 3, 33):
        parts = [untrained_features(some[start : start + size]) for start in range(0, 70, size)]
        assert (np.concatenate(parts) == together).all(), size


def test_a_small_patch_shows_in_a_maximum_and_hardly_in_a_mean():
    plain = pictures(1)[0]
    patched = plain.copy()
    patched[25:29, 25:29] = 255 * (np.indices((4, 4)).sum(axis=0) % 2)[..., None]
    before, after = untrained_features([plain, patched]).astype(np.float64)
    moved = np.abs(after - before)
    assert moved[512:640].max() > 8 * moved[:512].max()
    assert (after[:384] == before[:384]).all(), "of four quadrants it lies in the last"


def test_the_middle_windows_of_27_are_in_both_halves():
    picture = np.full((32, 32, 3), 128, np.uint8)
    picture[18, 18] = 255  # seen by rows and columns 13 to 18 of windows; of those only 13 is in a first half
    first, _, _, last = untrained_features([picture])[0, :512].reshape(4, 128)
    assert (first > 0).any() and (last >= first).all()
    picture[18, 18], picture[19, 19] = 128, 255
    assert not untrained_features([picture])[0, :128].any()


@pytest.mark.parametrize(("side", "larger"), [(16, 32), (64, 128), (64, 448)])
def test_a_picture_counts_as_the_means_of_its_boxes(side, larger):
    small = pictures(4, side)
    times = larger // side
    large = [picture.repeat(times, axis=0).repeat(times, axis=1) for picture in small]
    assert (untrained_features(large) == untrained_features(small)).all()


@pytest.mark.parametrize(("side", "seen"), [(33, 32), (63, 32), (65, 64), (75, 64)])
def test_pictures_of_64_px_and_more_are_seen_at_64_and_smaller_ones_at_32(side, seen):
    odd = pictures(1, side)[0]
    boxes = np.asarray(Image.fromarray(odd).resize((seen, seen), Image.Resampling.BOX))
    assert (untrained_features([odd]) == untrained_features([boxes])).all()


def test_of_one_grey_only_the_grey_is_left():
    for side in (32, 64):
        some = [np.full((side, side, 3), one, np.uint8) for one in (51, 255, (0, 51, 255))]
        grey, white, blue = untrained_features(some)
        for one, shade in ((grey, 0.2), (white, 1)):
            assert not one[:512].any() and (one[640:] == np.float16(shade)).all()
            assert np.abs(one[512:640]).max() < 1e-4
        assert blue[:640].any() and (blue[640:].reshape(16, 3) == np.array([0, 0.2, 1], np.float16)).all()
    assert untrained_features([]).shape == (0, 688)


def test_no_picture_leaves_the_range_that_is_promised():
    filters = np.stack(filters_by_definition())
    filters -= filters.mean(axis=1, keepdims=True)
    assert np.linalg.norm(filters, axis=1).max() * math.sqrt(108) < 38, "by Cauchy and Schwarz"
    likest = np.full((64, 32, 32, 3), 127, np.uint8)  # each has the window that its filter answers most
    likest[:, :6, :6] = (127.5 + 127 * filters / np.abs(filters).max(axis=1, keepdims=True)).reshape(
        64, 6, 6, 3
    )
    maxima = untrained_features(list(likest))[:, 512:640]
    assert (maxima.diagonal() > 20).all() and maxima.max() < 38


# ---- in a run


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tars(tmp_path_factory.mktemp("set") / "data", shards=2, per_shard=20)


@pytest.fixture
def run(data, checkpoint, tmp_path):
    return Run(scan_pictures(data, tmp_path / "run", checkpoint).out)


def older(run):
    """What a clipscan left that made no such features."""
    from clipscan.run.file_io import read_json, write_json

    for shard in range(2):
        run.untrained_file(shard).unlink()
        path = run / f"_tasks/embed-{shard:05d}.json"
        marker = read_json(path)
        del marker["files"][run.untrained_file(shard).relative_to(run.path).as_posix()]
        write_json(path, marker)


def pixels(data):
    """What the encoder saw of all good pairs, in order."""
    from clipscan.data import Bad, open_dataset
    from clipscan.embed.decode_pool import DecodePool, decode_all
    from clipscan.embed.pixels import PixelSpec

    dataset = open_dataset(data)
    samples = [sample for shard in dataset.shards for sample in dataset.read(shard)]
    with DecodePool(1) as pool:
        decoded = list(decode_all(samples, PixelSpec(32), pool))
    return [one[1] for one in decoded if not isinstance(one, Bad)]


def test_a_run_keeps_the_features_of_every_embedded_picture_in_the_order_of_its_vectors(run, data):
    image, _, counts = run.vectors
    found = read_untrained(run)
    assert counts == [19, 19] and (found.n, found.d) == (image.n, 688) == (38, 688)
    stored = np.load(run / "embeddings/untrained/untrained_00001.npy")
    assert stored.dtype == np.float16 and stored.shape == (19, 688)
    assert (found.block(0, 38) == untrained_features(pixels(data))).all()


def test_a_run_of_an_older_version_has_none_and_is_scored_as_before(run, data, checkpoint):
    scores = pq.read_table(run.scores_file(0))
    older(run)
    before = contents(run / "embeddings")
    assert read_untrained(run) is None
    scan_pictures(data, run.path, checkpoint)
    assert contents(run / "embeddings") == before, "nothing is embedded again"
    scan_pictures(data, run.path, checkpoint, method="kdist", overwrite=True)
    assert pq.read_table(run.scores_file(0))["kdist"].equals(scores["kdist"])
    assert read_untrained(run) is None


def test_features_of_some_shards_only_are_none(run):
    older(run)
    np.save(run.untrained_file(0), np.zeros((19, 688), np.float16))
    assert read_untrained(run) is None


def test_damaged_features_are_not_read_and_the_next_scan_makes_them_again(run, data, checkpoint):
    whole = run.untrained_file(1).read_bytes()
    run.untrained_file(1).write_bytes(whole[:-2] + b"\x00\x3c")
    with pytest.raises(Damaged, match=r"untrained_00001.npy has changed .* makes it again"):
        read_untrained(run)
    scan_pictures(data, run.path, checkpoint)
    assert run.untrained_file(1).read_bytes() == whole
    run.untrained_file(0).unlink()
    with pytest.raises(Damaged, match=r"untrained_00000.npy is gone"):
        read_untrained(run)


def test_features_of_another_number_of_rows_are_refused(run):
    np.save(run.untrained_file(1), np.zeros((18, 688), np.float16))
    reseal(run.untrained_file(1))
    with pytest.raises(clipscan.RunError, match="shard 1 has 18 rows of untrained features and 19 rows of"):
        read_untrained(run)


def test_a_shard_without_a_good_picture_takes_none_from_the_others(checkpoint, tmp_path):
    good = tars(tmp_path / "data", shards=1, per_shard=20)
    (tars(tmp_path / "bad", shards=1, per_shard=1) / "00000.tar").rename(good / "00001.tar")
    run = Run(scan_pictures(good, tmp_path / "run", checkpoint).out)
    assert np.load(run.untrained_file(1)).shape == (0, 688)
    assert read_untrained(run).n == 19


def test_vectors_of_a_run_scanned_as_a_dataset_are_the_same_and_have_no_features(run, tmp_path):
    again = Run(scan_vectors(run / "embeddings", tmp_path / "again").out)
    for ours, theirs in zip(again.vectors[:2], run.vectors[:2], strict=True):
        assert (ours.block(0, 38) == theirs.block(0, 38)).all()
    assert read_untrained(again) is None and not (again / "embeddings/untrained").exists()
