"""SafeCLIP: it ends, resumes, and says what it believes."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from disturbance import SEED
from train_helpers import Squares, Stop, same

from clipscan.errors import InputError, RunError
from clipscan.lab.attacks.poison_count import count_poison
from clipscan.train import SafeClip, train_clip

pytest.importorskip("torch", reason="needs PyTorch: pip install 'clipscan[embed]'")

SHORT = SafeClip(warmup_epochs=1, slow_rate=1e-4, pool=0.1)
FEW = {"epochs": 5, "batch_size": 32, "workers": 1, "device": "cpu", "safeclip": SHORT, "seed": SEED}
PAIRS, POISON = 324, 16  # of Squares(340), and which of them are called poison
TRUTH = frozenset((f"{i}.tar", str(key)) for i in range(2) for key in range(8))


def records(out):
    return [json.loads(line) for line in out.with_suffix(".partition.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    lines = []
    out = tmp_path_factory.mktemp("safeclip") / "clip.safetensors"
    train_clip(Squares(340), out, watch=count_poison(TRUTH), snapshots=(2, 4), log=lines.append, **FEW)
    return out, lines


def test_it_says_and_keeps_what_it_took_for_safe(undisturbed):
    out, lines = undisturbed
    kept = records(out)
    assert [one["epoch"] for one in kept] == [3, 4, 5]
    for one, line in zip(kept, [line for line in lines if "pairs are safe" in line], strict=True):
        assert line.startswith(f"epoch {one['epoch']}: {one['safe']:,} of {PAIRS} pairs are safe")
        assert f"{one['poison_safe']:,} of {POISON} poisoned ones among them" in line and "component" in line
        assert one["pairs"] == PAIRS and one["poison"] == POISON
        assert one["poison_rate"] == one["poison_safe"] / one["safe"]
        assert {"low", "high", "gain", "apart", "separates"} == one["cosines"].keys()
    shares = [one["share"] for one in kept]  # of which the first is what the cosines say
    assert shares[1:] == pytest.approx([max(min(0.85, share + 0.01), 32 / PAIRS) for share in shares[:-1]])
    assert [line.split()[1] for line in lines if "loss" in line] == ["1/5", "2/5", "3/5", "4/5", "5/5"]


def test_snapshots_are_kept_as_in_plain_training(undisturbed):
    out, _ = undisturbed
    names = {
        "clip.safetensors",
        "clip.partition.jsonl",
        "clip-epoch02.safetensors",
        "clip-epoch04.safetensors",
    }
    assert {path.name for path in out.parent.iterdir()} == names
    from clipscan.embed.model import load_encoder

    encoder = load_encoder(None, str(out.with_name("clip-epoch04.safetensors")))
    assert encoder.encode_texts(["a red square"]).shape == (1, 128)
    assert not same(out, out.with_name("clip-epoch04.safetensors"))


KILLED = """
import os, signal, sys
sys.path[:0] = [{here!r}]
from pathlib import Path
from test_safeclip import FEW, TRUTH, Squares, count_poison, train_clip
def log(line):
    if line.startswith("epoch 4/"): os.kill(os.getpid(), signal.SIGKILL)
train_clip(Squares(340), Path(sys.argv[1]), watch=count_poison(TRUTH), log=log, **FEW)
"""


def test_a_killed_training_goes_on_to_the_same_weights_and_records(undisturbed, tmp_path):
    out = tmp_path / "clip.safetensors"
    code = KILLED.format(here=str(Path(__file__).parent))
    ended = subprocess.run([sys.executable, "-P", "-c", code, str(out)], capture_output=True, text=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    lines = []
    train_clip(Squares(340), out, watch=count_poison(TRUTH), log=lines.append, **FEW)
    assert "going on after epoch 3 of 5" in lines
    assert same(out, undisturbed[0]) and records(out) == records(undisturbed[0])


def test_the_slow_epoch_goes_the_same_way_whatever_its_steps(tmp_path, monkeypatch):
    from clipscan.train.safeclip import SafeTrainer

    rates, believe = [], SafeTrainer.train_pairs

    def watched(self, batches, clock, rate=None):
        rates.append(rate)
        believe(self, batches, clock, rate)

    monkeypatch.setattr(SafeTrainer, "train_pairs", watched)
    for number, count in enumerate((340, 680)):  # 10 and 20 batches of 32, as some pairs are unreadable
        settings = FEW | {"safeclip": SafeClip(warmup_epochs=0), "epochs": 2, "batch_size": 32}
        train_clip(Squares(count), tmp_path / f"{number}.safetensors", **settings)
    assert rates[::2] == [0.04 / 10, 0.04 / 20]


def test_it_is_not_mixed_with_other_settings(undisturbed, tmp_path):
    out, _ = undisturbed
    with pytest.raises(RunError, match="slow_rate was 0.0001, now 0.001"):
        train_clip(Squares(340), out, **{**FEW, "safeclip": SafeClip(1, 1e-3, pool=0.1)})
    with pytest.raises(RunError, match="method was safeclip, now clip"):
        train_clip(Squares(340), out, **{**FEW, "safeclip": None})
    assert train_clip(Squares(340), out, **FEW) == out

    def stop(line):
        if line.startswith("epoch 2/"):
            raise Stop

    other = tmp_path / "other.safetensors"
    with pytest.raises(Stop):
        train_clip(Squares(340), other, log=stop, **FEW)
    with pytest.raises(RunError, match="method was safeclip, now clip"):
        train_clip(Squares(340), other, **{**FEW, "safeclip": None})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 6, "safeclip": SafeClip()}, "epochs must be at least 7, got 6"),
        ({"safeclip": SafeClip(1, 0.0)}, "slow_rate > 0"),
        ({"safeclip": SafeClip(1, most=1.5)}, "most=1.5 must lie in 0..1"),
        ({"cache_bytes": 10_000}, "decoded pixels must be kept: 0.0 GB"),
    ],
)
def test_impossible_requests_are_refused_in_words(tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        train_clip(Squares(), tmp_path / "clip.safetensors", **{**FEW, **options})
