"""SafeCLIP in two processes trains what it does in one, or says what cannot be shared out."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from disturbance import SEED
from train_helpers import Squares, Two, weights

from clipscan.errors import InputError, RunError
from clipscan.train import SafeClip, train_clip

torch = pytest.importorskip("torch", reason="needs PyTorch: pip install 'clipscan[embed]'")

TWO = """
import sys
sys.path[:0] = [{here!r}]
from pathlib import Path
from test_safeclip_processes import without_drawing
if __name__ == "__main__":
    without_drawing(Path(sys.argv[1]), setattr)
"""
PLAIN = {
    "model": "clipscan-vit-32",
    "batch_size": 16,
    "workers": 1,
    "device": "cpu",
    "lr": 1e-3,
    "seed": SEED,
    "log": print,
}


def without_drawing(out, replace):
    """Three trainings in which nothing is drawn that depends on how many processes there are."""
    import clipscan.train.precision
    import clipscan.train.safeclip
    import clipscan.train.trainer

    replace(clipscan.train.trainer, "shift_and_flip", lambda pixels, *_, **__: pixels)
    replace(clipscan.train.safeclip, "picture_views", lambda pixels, *_, **__: pixels)
    replace(clipscan.train.safeclip, "caption_view", lambda caption, **_: caption)
    replace(clipscan.train.precision, "training_precision", lambda _: "fp32")
    train_clip(Squares(), out / "plain.safetensors", epochs=2, snapshots=(1,), **PLAIN)
    alone = SafeClip(warmup_epochs=1, slow_rate=1e-4, pool=0)  # a pool is filled in another order
    train_clip(Squares(), out / "safe.safetensors", epochs=4, safeclip=alone, **PLAIN)
    train_clip(Squares(), out / "streamed.safetensors", epochs=1, cache_bytes=10_000, **PLAIN)


def test_two_processes_train_what_one_does(tmp_path, monkeypatch, capsys):
    from clipscan.embed.network import create_network

    script = tmp_path / "train.py"
    script.write_text(TWO.format(here=str(Path(__file__).parent)))
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    (tmp_path / "two").mkdir()
    command = [sys.executable, *torchrun, str(script), str(tmp_path / "two")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    without_drawing(tmp_path / "one", monkeypatch.setattr)
    heads = [
        [re.split("  loss|: the own caption", line)[0] for line in said.splitlines()]
        for said in (done.stdout, capsys.readouterr().out)
    ]
    assert heads[0] == heads[1], "the first process alone speaks"

    torch.manual_seed(SEED)
    start = create_network(PLAIN["model"]).state_dict()
    for name in ("plain-epoch01", "plain", "safe"):
        one, two = (weights(tmp_path / where / f"{name}.safetensors") for where in ("one", "two"))
        moved = sum(float((one[key] - start[key]).square().sum()) for key in one) ** 0.5
        apart = sum(float((one[key] - two[key]).square().sum()) for key in one) ** 0.5
        assert apart < 1e-3 * moved, name
    assert (tmp_path / "two/streamed.safetensors").exists()
    with pytest.raises(RunError, match="processes was 2, now 1"):
        train_clip(Squares(), tmp_path / "two/plain.safetensors", epochs=2, **PLAIN)


def test_what_several_processes_cannot_share_out_is_refused():
    from clipscan.train.batches import Streamed
    from clipscan.train.processes import Processes
    from clipscan.train.recipe import Recipe

    with pytest.raises(InputError, match="2 shards, too few for 3 processes"):
        Streamed(Two(), 6, None, 0, None, Processes("cpu", 0, 3), None)
    with pytest.raises(InputError, match="batch_size=32 cannot be shared out evenly among 3 processes"):
        Recipe("m", 1, 32, 0.1, 0.0, 0.1, 0, True, "cpu", "fp32", "", processes=3).check()
