"""Files of a run that are lost, cut or changed: noticed before anything is made of them, and made again."""

import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
from damage_helpers import EMBEDDED, LATER, SHARD, cut, embeddings, flip, lose, run, scanned  # noqa: F401
from run_helpers import checkpoint, contents, scan_pictures, scan_vectors, tars  # noqa: F401

from clipscan import pipeline
from clipscan.run import Compute, Ranking, Run
from clipscan.run.markers import Damaged
from clipscan.run.progress import Silent
from clipscan.run.status import verify

SCORED = Ranking(k=4, reference="30x2", fraction=0.05)


def score(run, **options):
    pipeline.score(Run(run), replace(SCORED, **options), Compute(threads=1), overwrite=True)


@pytest.mark.parametrize("name", [*EMBEDDED, *LATER])
@pytest.mark.parametrize("damage", [lose, cut])
def test_what_is_lost_or_cut_is_made_again_by_the_same_scan(run, embeddings, name, damage):
    whole = contents(run)
    damage(run / name)
    done = scan_vectors(embeddings, run, fraction=0.05)
    assert contents(run) == whole and done.counts["kept"] + done.counts["dropped"] == done.counts["embedded"]


@pytest.mark.parametrize("name", [*EMBEDDED, *LATER])
def test_what_has_changed_is_named_by_verify_and_made_again_by_the_next_scan(run, embeddings, name):
    assert verify(run) == []
    whole = contents(run)
    flip(run / name)
    (damage,) = verify(run)
    assert damage.path == run / name and "has changed since it was written" in damage.words()
    scan_vectors(embeddings, run, fraction=0.05)
    assert contents(run) == whole and verify(run) == []


@pytest.mark.parametrize("name", LATER)
@pytest.mark.parametrize("damage", [lose, cut])
def test_what_comes_after_the_vectors_is_made_again_by_score(run, name, damage):
    whole = contents(run)
    damage(run / name)
    score(run)
    assert contents(run) == whole


@pytest.mark.parametrize("name", EMBEDDED[:3])
@pytest.mark.parametrize("damage", [lose, cut, flip])
def test_nothing_is_scored_from_damaged_vectors_and_the_way_on_is_said(run, embeddings, name, damage):
    damage(run / name)
    with pytest.raises(
        Damaged, match=r"clipscan scan \(or embed\), called as before, makes it again"
    ) as refused:
        score(run, method="kdist")
    assert str(run / name) in str(refused.value)
    scan_vectors(embeddings, run, fraction=0.05, method="kdist", overwrite=True)
    assert verify(run) == []


@pytest.mark.parametrize("name", [*EMBEDDED[:3], LATER[0], LATER[1]])
def test_a_scan_that_meets_changed_files_mends_them_and_finds_what_a_fresh_one_finds(
    run, embeddings, tmp_path, name
):
    fresh = scan_vectors(embeddings, tmp_path / "fresh", fraction=0.05, method="dao")
    flip(run / name)
    notes = []

    class Heard(Silent):
        def note(self, text):
            notes.append(text)

    mended = scan_vectors(embeddings, run, fraction=0.05, method="dao", overwrite=True, progress=Heard())
    assert mended.table().equals(fresh.table())
    assert any(name in note and "made again" in note for note in notes)
    assert verify(run) == []


@pytest.fixture(scope="module")
def pictured(tmp_path_factory, checkpoint):
    """A scan of pictures with a trusted model of other weights."""
    from safetensors.torch import load_file, save_file

    from clipscan.embed.model import MODEL_KEY

    at = tmp_path_factory.mktemp("pictured")
    other = {name: value * 1.5 for name, value in load_file(checkpoint).items()}
    save_file(other, at / "trusted.safetensors", {MODEL_KEY: "clipscan-conv-32"})
    data = tars(at / "tars", shards=2, per_shard=20)

    def scan(run, **options):
        return scan_pictures(data, run, checkpoint, trusted_pretrained=at / "trusted.safetensors", **options)

    scan(at / "run")
    return at / "run", scan


@pytest.mark.parametrize("damage", [lose, cut, flip])
@pytest.mark.parametrize("name", [EMBEDDED[0], EMBEDDED[2], f"trusted/trusted_{SHARD}.npy"])
def test_pictures_whose_vectors_are_damaged_are_embedded_again(pictured, tmp_path, name, damage):
    made, scan = pictured
    run = tmp_path / "run"
    shutil.copytree(made, run)
    whole = contents(run)
    damage(run / name)
    verify(run)
    scan(run)
    assert contents(run) == whole


def test_verify_on_the_command_line_names_the_files_and_exits_with_1(run):
    def command(*words):
        return subprocess.run(
            [sys.executable, "-P", "-m", "clipscan", "status", str(run), *words],
            capture_output=True,
            text=True,
        )

    assert command("--verify").returncode == 0
    flip(run / "keep.txt")
    cut(run / LATER[2])
    assert command().returncode == 0
    found = command("--verify")
    assert found.returncode == 1
    assert str(run / "keep.txt") in found.stdout and str(run / LATER[2]) in found.stdout
