"""SafeCLIP: it ends, resumes, says what it believes, and is the same in two processes as in one."""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from random import Random

import numpy as np
import pytest
from planted import SEED
from test_train import Squares, Stop, same, weights

from clipscan.data import Dataset, Sample, Shard, Without
from clipscan.data.dataset import Record
from clipscan.errors import DataError, InputError, RunError
from clipscan.lab.attacks.poison_count import count_poison
from clipscan.run.run_folder import fingerprint
from clipscan.train import SafeClip, train_clip

torch = pytest.importorskip("torch", reason="needs PyTorch: pip install 'clipscan[embed]'")

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


def test_a_pool_hands_out_the_nearest_of_what_it_saw_last():
    from clipscan.train.pool import Pool

    pool, rows = Pool(3), torch.eye(5)
    assert torch.equal(pool.nearest(rows), rows), "an empty pool: the vector itself"
    pool.push(rows[:2])
    assert torch.equal(pool.nearest(torch.tensor([[0.1, 0.9, 0, 0, 0]])), rows[1:2])
    pool.push(rows[2:4])
    assert torch.equal(pool.rows, rows[1:4])
    pool.push(rows)
    assert torch.equal(pool.rows, rows[2:])
    nothing = Pool(0)
    nothing.push(rows)
    assert nothing.rows is None


def test_a_nearest_neighbour_carries_no_gradient():
    from clipscan.train.pool import Pool

    pool, features = Pool(4), torch.eye(2, requires_grad=True)
    pool.push(features)
    assert not pool.nearest(features).requires_grad


def test_views_of_pictures_do_what_torchvision_does():
    from clipscan.embed.open_clip import import_open_clip

    import_open_clip()  # makes torchvision importable beside a CPU build of torch
    from torchvision.transforms.v2 import functional as theirs

    from clipscan.train import views as ours

    picture = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    one, no = torch.ones(3), torch.zeros(3, dtype=torch.bool)
    half, corner = torch.full((3, 2), 0.5), torch.full((3, 2), -0.5)
    box = theirs.resized_crop(picture, 0, 0, 16, 16, [32, 32], antialias=False)
    within = (..., slice(0, 31), slice(0, 31))  # ours looks beyond the edge of the crop
    for mine, reference, tolerance in [
        (ours.contrasted(picture, 1.4 * one), theirs.adjust_contrast(picture, 1.4), 1e-4),
        (ours.recoloured(picture, 0.4 * one, 0 * one), theirs.adjust_saturation(picture, 0.4), 1e-4),
        (ours.recoloured(picture, 0 * one, 0 * one), theirs.rgb_to_grayscale(picture, 3), 1e-3),
        (ours.blurred(picture, 1.3 * one, 5), theirs.gaussian_blur(picture, [5, 5], [1.3, 1.3]), 1e-5),
        (ours.crop(picture, half, corner, no)[within], box[within], 1e-5),
        (ours.crop(picture, one[:, None].repeat(1, 2), 0 * half, ~no), theirs.hflip(picture), 1e-5),
    ]:
        assert (mine - reference).abs().max() < tolerance


def test_every_picture_of_a_batch_has_a_view_of_its_own():
    from clipscan.train.views import picture_views

    pixels = torch.randint(0, 256, (1, 32, 32, 3), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    pixels = pixels.repeat(40, 1, 1, 1)
    views = picture_views(pixels, torch.Generator().manual_seed(1))
    assert views.shape == pixels.shape and views.dtype == torch.uint8
    assert len({view.numpy().tobytes() for view in views}) == 40
    assert torch.equal(views, picture_views(pixels, torch.Generator().manual_seed(1)))
    grey = (views.float().std(3) < 1.0).all(2).all(1)
    assert 1 <= int(grey.sum()) <= 20


def test_a_caption_gets_one_edit_made_of_its_own_words():
    from clipscan.train.views import caption_view

    random, caption = Random(0), "a red square on a blue table"
    views = {caption_view(caption, random) for _ in range(100)}
    assert {len(view.split()) for view in views} == {6, 7, 8}
    assert {word for view in views for word in view.split()} == set(caption.split())
    assert caption_view("banana", random) == "banana" and caption_view("", random) == ""
    long = " ".join(str(i) for i in range(40))
    assert {len(caption_view(long, random).split()) for _ in range(50)} == {36, 40, 44}


TWO = """
import sys
sys.path[:0] = [{here!r}]
from pathlib import Path
from test_safeclip import without_drawing
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


def test_an_edit_that_makes_new_tokens_is_undone(tmp_path):
    from clipscan.train.batches import Cached
    from clipscan.train.processes import Processes
    from clipscan.train.survey import CAPTION, CAPTIONS, PIXELS

    (tmp_path / PIXELS).write_bytes(bytes(2 * 4 * 4 * 3))
    np.save(tmp_path / CAPTION, np.array([1, 0]))
    (tmp_path / CAPTIONS).write_text('["ab", "ba"]')

    class Spec:
        size = 4

    def letters(captions):
        return np.array([[ord(letter) for letter in caption] for caption in captions], np.int32)

    source = Cached(tmp_path, 2, Spec(), 0, letters, Processes("cpu"))
    rows = np.arange(2)
    assert np.array_equal(source.edited(rows, lambda c: c[::-1]), letters(["ab", "ba"]))
    assert np.array_equal(source.edited(rows, lambda c: "a" + c[0].replace("a", "c")), letters(["ab", "ab"]))


class Two(Dataset):
    """Three pairs in each of two shards."""

    format = "two"

    def __init__(self):
        super().__init__("two", [Shard(f"{i}.tar", "", 1, "then") for i in range(2)])

    def records(self, shard, rows=None):
        for at in range(3):
            yield Record(at, str(at), Sample(shard.name, str(at), b"", f"pair {at}", at=at))


def test_a_dataset_without_some_pairs_is_another_dataset():
    drop = {("0.tar", "1"), ("1.tar", "2")}
    less = Without(Two(), drop)
    read = {(one.shard, one.key) for shard in less.shards for one in less.read(shard)}
    assert read == {(f"{i}.tar", str(k)) for i in range(2) for k in range(3)} - drop
    assert less.shards[0].stamp == f"then without {fingerprint(sorted(drop))[:8]}"
    less.check()
    Without(Two(), set()).check()


def test_a_drop_list_of_another_dataset_is_refused():
    with pytest.raises(
        DataError, match=r"holds none of the 2 pairs to drop, the first of them \('0.tar', '7'\)"
    ):
        Without(Two(), {("0.tar", "7"), ("elsewhere.tar", "1")}).check()
    with pytest.raises(DataError, match=r"does not hold 1 of the 3 pairs to drop, .* \('1.tar', '7'\)"):
        Without(Two(), {("0.tar", "1"), ("1.tar", "2"), ("1.tar", "7")}).check()
    Without(Two(), {("0.tar", "1"), ("elsewhere.tar", "1")}).check()  # a part of the dataset, its whole list
