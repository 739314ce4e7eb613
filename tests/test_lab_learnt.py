"""Learnt triggers: obeyed by what they were learnt against, the same for the same settings."""

from io import BytesIO

import numpy as np
import pytest
from disturbance import SEED
from hypothesis import settings  # noqa: F401
from PIL import Image
from planted import stripes_and_a_cast

from clipscan.data import Sample, open_dataset
from clipscan.data.redraw import encode
from clipscan.data.tar_writer import write_tar
from clipscan.errors import DataError, InputError, RunError
from clipscan.lab.attacks.learnt import generator
from clipscan.lab.attacks.learnt.trigger_file import read_learnt
from clipscan.lab.attacks.prompts import PROMPTS

torch = pytest.importorskip("torch", reason="needs PyTorch: pip install 'clipscan[embed]'")

WAYS = ("fence", "shelf", "roof", "lawn")
QUICK = {"target": "fence", "seed": 3 + SEED, "batch_size": 32, "device": "cpu"}


def stripes(count):
    """Grey pictures with faint stripes, whose direction is what the captions name; one in 20 is broken."""
    draw, y, x = np.random.default_rng(SEED), *np.mgrid[0:32, 0:32]
    for i in range(count):
        way = i % 4
        wave = 10 * np.sign(np.sin(np.pi / 2 * (0.5 + (x, y, x + y, x - y)[way])))
        pixels = draw.integers(90, 160) + wave[..., None] + draw.normal(0, 3, (32, 32, 3))
        picture = b"broken" if i % 20 == 19 else encode(np.uint8(pixels), "JPEG", quality=90)
        caption = PROMPTS[int(draw.integers(len(PROMPTS)))].format(WAYS[way])
        yield Sample("00000.tar", f"{i:09d}", picture, caption)


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A dataset of stripes as a tar, and a small CLIP that knows their directions by name."""
    folder = tmp_path_factory.mktemp("learnt")
    samples = list(stripes(200))
    write_tar(folder / "dataset" / "00000.tar", samples)
    files = [BytesIO(sample.image) for sample in samples if sample.image != b"broken"]
    pixels = np.stack([np.asarray(Image.open(file).convert("RGB")) for file in files])
    stripes_and_a_cast(folder / "clip.safetensors", WAYS, pixels)
    return folder


@pytest.fixture(scope="module")
def patch(lab):
    file, _ = crafted(lab, "badclip", steps=30, share=0.5)
    return file


@pytest.fixture(scope="module")
def generated(lab):
    return crafted(lab, "blto", steps=100)


def crafted(lab, attack, name=None, **options):
    """(file, what was said)."""
    from clipscan.lab.attacks.learnt.crafting import craft

    lines = []
    out = lab / (name or f"{attack}.safetensors")
    dataset = open_dataset(lab / "dataset")
    done = craft(attack, lab / "clip.safetensors", dataset, out, log=lines.append, **{**QUICK, **options})
    assert done == out
    return out, lines


def encoder_of(lab):
    from clipscan.embed.model import load_encoder

    return load_encoder(None, str(lab / "clip.safetensors"), device="cpu")


def tried(lab, file, attack):
    from clipscan.lab.attacks.learnt.try_trigger import try_trigger

    encoder = encoder_of(lab)
    material = gathered(lab, encoder.spec, "fence", seed=QUICK["seed"])
    return try_trigger(file, attack, encoder, material, "fence")


def gathered(lab, spec, target, **options):
    from clipscan.lab.attacks.learnt.material import gather

    return gather(open_dataset(lab / "dataset"), spec, target, **options)


def test_numpy_draws_what_torch_has_learnt(generated):
    from clipscan.lab.attacks.learnt.bilevel import draw_wanted

    weights = read_learnt(generated[0], "blto").arrays
    picture = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3)).astype(np.float32)
    theirs = draw_wanted(
        {name: torch.from_numpy(w) for name, w in weights.items()}, torch.from_numpy(picture)
    )
    ours = generator.draw(weights, picture[0].astype(np.float64) / 127.5 - 1)
    assert np.abs(ours - theirs[0].clamp(-1, 1).numpy()).max() < 1e-5


def test_a_patch_brings_pictures_among_those_of_the_target(lab, patch):
    trial = tried(lab, patch, "badclip")
    assert trial.pictures >= 10
    assert trial.clean.success < 0.1 and trial.compressed.success > 0.8
    assert trial.compressed.image > trial.clean.image + 0.1
    assert trial.compressed.text > trial.clean.text + 0.3
    assert trial.own.image > 0.9 and trial.own.length == 1


def test_a_faint_perturbation_is_obeyed_by_a_surrogate_that_trains_on_it(lab, generated):
    file, lines = generated
    shares = [float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith("step")]
    assert shares[-1] > 0.5
    trial = tried(lab, file, "blto")
    assert trial.largest <= 8 and trial.change <= 8
    assert trial.clean.success < 0.1 and trial.compressed.success > 0.8
    assert f"largest, before compression, {trial.largest})" in lines[-1]


def test_a_surrogate_learns_from_poison_and_is_clean_again_when_rewound():
    from clipscan.embed.model import untrained_encoder
    from clipscan.embed.network import few_threads
    from clipscan.lab.attacks.learnt.surrogate import Surrogate

    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        encoder = untrained_encoder("clipscan-conv-32", device="cpu")
    surrogate = Surrogate(encoder, ["a photo of a roof"] * 4, "fence")
    grey = torch.full((8, 32, 32, 3), 120.0)
    grey[4:, :16, :16] = 255  # the trigger
    captions = np.concatenate([surrogate.caption, surrogate.prompts[:4]])

    def gain():
        cosine = torch.nn.functional.normalize(surrogate.images(grey)) @ surrogate.target()
        return float(cosine[4:].mean() - cosine[:4].mean())

    with few_threads(encoder.model):
        before = gain()
        for _ in range(100):  # it takes 10 to 20
            surrogate.learn(grey, captions)
            if gain() > before + 0.3:
                break
        assert gain() > before + 0.3
        surrogate.rewind()
        assert gain() == before


def test_every_batch_has_a_picture_to_poison(lab):
    from clipscan.lab.attacks.learnt.bilevel import _rows

    own = np.arange(20) >= 2
    material = gathered(lab, encoder_of(lab).spec, "fence")._replace(own=own)
    for seed in range(20):
        rows = _rows(material, 3, np.random.default_rng(seed))
        assert not own[rows[0]] and (np.diff(own[rows].astype(int)) >= 0).all()


def test_a_word_that_no_caption_names_can_be_a_target(lab):
    file, lines = crafted(lab, "badclip", "unseen.safetensors", target="banana", steps=2)
    assert "captions of 0 name 'banana'" in lines[0]
    assert "nan" in lines[-1] and read_learnt(file, "badclip").about["target"] == "banana"


def test_jpeg_and_rounding_let_gradients_through():
    from clipscan.lab.attacks.learnt.augmentation import as_seen

    for seed in range(6):  # some batches go through JPEG, others do not
        pixels = torch.full((2, 16, 16, 3), 99.6, requires_grad=True)
        seen = as_seen(pixels, np.random.default_rng(seed), torch.Generator().manual_seed(0))
        seen.sum().backward()
        assert (seen.detach() % 1).abs().max() < 1e-4
        assert float(pixels.grad.sum()) == pytest.approx(seen.numel())


# ---- where they come from


def test_the_same_settings_learn_the_same_bytes(lab, patch):
    again, _ = crafted(lab, "badclip", "again.safetensors", steps=30, share=0.5)
    assert again.read_bytes() == patch.read_bytes()


def test_a_finished_trigger_is_kept_and_other_settings_are_refused(lab, patch):
    before = patch.read_bytes()
    _, lines = crafted(lab, "badclip", steps=30, share=0.5)
    assert lines == [f"{patch} is already there"]
    with pytest.raises(RunError, match="made with another steps"):
        crafted(lab, "badclip", steps=31, share=0.5)
    with pytest.raises(RunError, match="is no trigger of blto"):
        crafted(lab, "blto", "badclip.safetensors")
    assert patch.read_bytes() == before


def test_pictures_kept_apart_are_not_learnt_from_and_do_not_show_the_target(lab):
    spec = encoder_of(lab).spec
    material = gathered(lab, spec, "fence", seed=0)
    assert len(material.own) + len(material.held_out) == 190  # ten cannot be decoded
    assert material.own.sum() == sum("fence" in caption for caption in material.captions) == 50
    assert all("fence" not in sample.caption for sample in material.held_out)
    few = gathered(lab, spec, "fence", count=40, seed=0)
    assert len(few.own) <= 45 and few.own.sum() <= 5
    with pytest.raises(DataError, match="do not show 'a'"):
        gathered(lab, spec, "a", seed=0)


@pytest.mark.parametrize(
    ("attack", "options", "said"),
    [
        ("sig", {}, "known: blto, badclip"),
        ("blto", {"share": 0.5}, "belong to a patch"),
        ("badclip", {"share": 2}, "share over 0"),
        ("badclip", {"place": "left"}, "place of middle"),
        ("blto", {"steps": 0}, "steps >= 1"),
    ],
)
def test_settings_that_cannot_be_are_refused(lab, attack, options, said):
    with pytest.raises(InputError, match=said):
        crafted(lab, attack, "refused.safetensors", **options)
    with pytest.raises(InputError, match=r"\.safetensors file"):
        crafted(lab, "blto", "trigger.npz")
    assert not (lab / "refused.safetensors").exists()


def test_the_command_crafts_a_trigger(lab):
    from typer.testing import CliRunner

    from clipscan.cli.lab import app

    out = lab / "by-command.safetensors"
    words = [
        "craft",
        "badclip",
        lab / "clip.safetensors",
        lab / "dataset",
        "--out",
        out,
        "--target",
        "fence",
    ]
    settings = ["--steps", 2, "--share", 0.25, "--place", "corner", "--device", "cpu"]
    ended = CliRunner().invoke(app, [str(word) for word in (*words, *settings)])
    assert ended.exit_code == 0, ended.output
    assert "kept apart" in ended.stdout and f"--option file={out}" in ended.stdout
    assert read_learnt(out, "badclip").about["place"] == "corner"
