"""Trusted pairs convict poison, and clean pairs no more often than was agreed."""

import shutil
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import false_discovery_control

import clipscan
from clipscan import pipeline
from clipscan.errors import InputError, RunError
from clipscan.run import Compute, Ranking, Run
from clipscan.run.calibrating import calibrate
from clipscan.run.file_io import write_table
from clipscan.run.markers import reseal
from clipscan.run.overlap import scanned_too
from clipscan.scores.conformal import discoveries, fewest, p_values

ONE = Compute(threads=1)
NUMBERS = st.lists(st.floats(-9, 9), min_size=1, max_size=40)


@given(NUMBERS, NUMBERS)
def test_a_p_value_is_the_share_of_trusted_scores_at_least_as_high_counting_itself(scores, trusted):
    expected = [(1 + sum(t >= s for t in trusted)) / (1 + len(trusted)) for s in scores]
    np.testing.assert_allclose(p_values(scores, trusted), expected)


def test_nan_convicts_nobody():
    assert p_values([np.nan, 2.0], [1.0, 1.0, 1.0]).tolist() == [1.0, 0.25]
    assert p_values([2.0], [1.0, np.nan, 1.0]).tolist() == [0.5]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60), st.floats(0.01, 0.5))
def test_discoveries_are_those_of_benjamini_and_hochberg(p, rate):
    adjusted = false_discovery_control(p, method="bh")
    clear = np.abs(adjusted - rate) > 1e-9  # the last bit decides on the border itself
    np.testing.assert_array_equal(discoveries(p, rate)[clear], (adjusted <= rate)[clear])


@pytest.mark.parametrize("rate", [0, 1, -0.1])
def test_a_rate_that_is_none_is_refused(rate):
    with pytest.raises(InputError, match="between 0 and 1"):
        discoveries([0.5], rate)


def test_trusted_scores_are_needed():
    with pytest.raises(InputError, match="m >= 1"):
        p_values([1.0], [])


def run_of(folder, image, text):
    """An embedded run of precomputed vectors."""
    for side, rows in (("img", image), ("text", text)):
        (folder / f"data/{side}_emb").mkdir(parents=True)
        np.save(folder / f"data/{side}_emb/{side}_emb_0.npy", rows)
    return pipeline.embed(folder / "data", out=folder / "run")


def pairs(rng, n, poisoned=0):
    """n pairs whose captions stand near their pictures; the first `poisoned` are one far knot."""
    image = rng.standard_normal((n, 12)).astype(np.float32)
    text = image + 0.3 * rng.standard_normal((n, 12)).astype(np.float32)
    image[:poisoned] = 6 + 0.3 * rng.standard_normal((poisoned, 12))
    text[:poisoned] = -2
    return image, text


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory):
    """(folder, run, clean run): 40 of 2,000 poisoned, 1,500 held-out clean pairs."""
    folder, rng = tmp_path_factory.mktemp("calibrated"), np.random.default_rng(3)
    run = run_of(folder / "suspect", *pairs(rng, 2000, poisoned=40))
    clean_run = run_of(folder / "clean", *pairs(rng, 1500))
    pipeline.score(run, Ranking(), ONE)
    return folder, run, clean_run


def test_the_agreed_rate_of_mistakes_is_kept_on_average():
    wrong = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        image = np.vstack([pairs(rng, 2000, poisoned=40)[0], pairs(rng, 1500)[0]])
        scored = clipscan.score(image, ids=np.arange(3500), method="kdist", threads=1).scores
        called = discoveries(p_values(scored[:2000], scored[2000:]), 0.1)
        assert called[:40].all()
        wrong.append(called[40:].sum() / called.sum())
    assert 0 < np.mean(wrong) < 0.15  # 0.1, and what eight draws leave to chance


def test_poison_of_a_run_is_convicted_and_its_clean_pairs_are_like_the_trusted_ones(calibrated):
    _, run, clean_run = calibrated
    done = calibrate(run, clean_run, 0.1, ONE)
    table = pq.read_table(run / "calibration.parquet")
    drop, p = np.array(table["decision"].to_pylist()) == "drop", table["p"].to_numpy()
    assert done.called == drop.sum() and (done.rows, done.clean) == (2000, 1500)
    assert done.fewest == fewest(2000, 1500, 0.1) == 14
    assert drop[:40].all()
    assert 0.07 < (p[40:] <= 0.1).mean() < 0.13


def test_the_decisions_become_lists(calibrated):
    _, run, clean_run = calibrated
    done = calibrate(run, clean_run, 0.1, ONE)
    written = pipeline.export(run, decisions=run / "calibration.parquet")
    assert written.dropped == done.called


def test_a_clean_run_convicts_nobody(tmp_path):
    rng = np.random.default_rng(5)
    run = run_of(tmp_path / "suspect", *pairs(rng, 600))
    clean_run = run_of(tmp_path / "clean", *pairs(rng, 600))
    pipeline.score(run, Ranking(), ONE)
    assert calibrate(run, clean_run, 0.05, ONE).called == 0


def test_what_cannot_be_compared_is_refused(calibrated, tmp_path):
    _, run, clean_run = calibrated
    image, _ = pairs(np.random.default_rng(1), 50)
    (tmp_path / "data/img_emb").mkdir(parents=True)
    np.save(tmp_path / "data/img_emb/img_emb_0.npy", image)
    bare = pipeline.embed(tmp_path / "data", out=tmp_path / "run")
    with pytest.raises(RunError, match="has captions and the other has none"):
        calibrate(run, bare, 0.1)
    with pytest.raises(RunError, match="is not scored"):
        calibrate(clean_run, run, 0.1)
    other = Run(tmp_path / "run")
    other.update(embed={"weights_sha256": "0" * 64})
    with pytest.raises(RunError, match="same --model and --pretrained"):
        calibrate(run, other, 0.1)


def test_scanned_pictures_do_not_vouch_for_themselves(calibrated, tmp_path):
    _, run, clean_run = calibrated
    alone = calibrate(run, clean_run, 0.1, ONE)
    decided = pq.read_table(run / "calibration.parquet")
    assert alone.left_out == []
    scanned, clean = ([np.load(p) for p in sorted(f.glob("data/*_emb/*.npy"))] for f in (
        run.path.parent, clean_run.path.parent
    ))  # fmt: skip
    rng = np.random.default_rng(0)
    near = scanned[0][:40] * (1 + 2e-4 * rng.standard_normal((40, 12)).astype(np.float32))  # stored once more
    mixed = run_of(tmp_path, *(np.vstack(both) for both in zip(clean, (near, scanned[1][:40]), strict=True)))
    done = calibrate(run, mixed, 0.1, ONE)
    assert (done.rows, done.clean, done.called) == (2000, 1500, alone.called)
    assert [key for _, key in done.left_out] == [f"{row:09d}" for row in range(1500, 1540)]
    assert pq.read_table(run / "calibration.parquet")["decision"].equals(decided["decision"])
    with pytest.raises(RunError, match="all 2,000 pictures of .* needs other pairs"):
        calibrate(run, run, 0.1)


def test_a_scanned_picture_is_known_by_its_digest_under_another_caption_and_vector(calibrated, tmp_path):
    _, run, clean_run = calibrated
    copied = []
    for name, source in (("run", run), ("clean", clean_run)):
        shutil.copytree(source.path, tmp_path / name)
        copy = Run(tmp_path / name)
        table = pq.read_table(copy.metadata(0))
        digests = ["AB" * 32 if i == 7 else "" for i in range(table.num_rows)]
        at = table.column_names.index("sha256")
        write_table(copy.metadata(0), table.set_column(at, "sha256", pa.array(digests)))
        reseal(copy.metadata(0))
        copied.append(copy)
    first, second = (copy.vectors.image for copy in copied)
    assert np.flatnonzero(scanned_too(copied[0], first, copied[1], second, threads=1)).tolist() == [7]


def test_the_command_names_who_is_left_out_and_what_comes_next(calibrated, tmp_path):
    _, run, clean_run = calibrated
    clean = [np.load(path) for path in sorted(clean_run.path.parent.glob("data/*_emb/*.npy"))]
    scanned = [np.load(path)[-2:] for path in sorted(run.path.parent.glob("data/*_emb/*.npy"))]
    few = run_of(tmp_path, *(np.vstack((a[:30], b)) for a, b in zip(clean, scanned, strict=True)))
    said = [
        subprocess.run(
            [sys.executable, "-P", "-m", "clipscan", "calibrate", run.path, other, "--threads", "1"],
            capture_output=True, text=True, check=True,
        ).stdout
        for other in (clean_run.path, few.path)
    ]  # fmt: skip
    assert "next: clipscan export" in said[0] and "left out" not in said[0]
    assert "2 clean pairs were left out" in said[1] and "/000000030, " in said[1]
    assert "no sample is convicted" in said[1] and "clipscan export" not in said[1]
