"""A scan that is killed, fails or is called again: it goes on to the same bytes, or refuses to mix."""

import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from run_helpers import checkpoint  # noqa: F401
from scan_helpers import pairs, scan, tars, write_tar

import clipscan
import clipscan.pipeline
from clipscan.run import RunFolder

pytest.importorskip("torch", reason="needs clipscan[embed]")


def scores_of(run):
    return {path.name: path.read_bytes() for path in sorted((run / "scores").glob("*.parquet"))}


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
    from clipscan.run import markers

    write, writes = markers.write_json, 0

    def failing(path, value, **how):
        nonlocal writes
        if path.parent.name == "_tasks" and value["fingerprint"]:
            writes += 1
            if writes % 2:  # every second done marker is lost, as if killed just before it
                raise KeyboardInterrupt
        write(path, value, **how)

    monkeypatch.setattr(markers, "write_json", failing)
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
