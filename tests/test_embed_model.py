"""Encoders: the vectors of open_clip's networks, and whole shards through them."""

import io
import json
import subprocess
import sys
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from encoder_helpers import MODEL, encoder, network, weights  # noqa: F401
from PIL import Image

from clipscan.data.sample import Bad, Sample
from clipscan.embed.decode_pool import DecodePool
from clipscan.embed.embed_shard import embed_samples
from clipscan.embed.network import create_network, encode_tokens
from clipscan.embed.open_clip import import_open_clip
from clipscan.embed.pixels import PixelSpec
from clipscan.embed.tokenizing import tokenize
from clipscan.embed.untrained import untrained_features

torch = pytest.importorskip("torch", reason="needs PyTorch: pip install 'clipscan[embed]'")


def picture(seed: int) -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def samples(count: int) -> list[Sample]:
    return [Sample("0.tar", f"{i:04d}", picture(i), f"caption {i % 3}") for i in range(count)]


def test_vectors_are_those_of_open_clip(encoder, network):
    open_clip = import_open_clip()
    cfg = open_clip.transform.PreprocessCfg(**network.visual.preprocess_cfg)
    transform = open_clip.transform.image_transform_v2(cfg, is_train=False)
    pictures = [Image.open(io.BytesIO(picture(i))) for i in range(3)]
    captions = ["a red fox", "", "a much longer caption about two dogs, three cats and a very small boat"]
    with torch.no_grad():
        image = network.encode_image(torch.stack([transform(p) for p in pictures])).numpy()
        text = network.encode_text(open_clip.get_tokenizer(MODEL)(captions)).numpy()
    ours = encoder.encode_images(np.stack([np.asarray(p) for p in pictures]))
    assert ours.dtype == np.float32 and np.abs(ours - image).max() < 1e-5
    assert np.abs(encoder.encode_texts(captions) - text).max() < 1e-5
    assert not np.allclose(np.linalg.norm(ours, axis=1), 1)  # raw


@pytest.mark.parametrize(
    "name, size",
    [("clipscan-conv-32", 32), ("clipscan-conv-64", 64), ("clipscan-resnet-32", 32), (MODEL, 32)],
)
def test_our_small_models_are_small_and_open_clips_own(name, size):
    made = create_network(name)
    assert name in import_open_clip().list_models() and made.visual.image_size in (size, (size, size))
    assert sum(p.numel() for p in made.visual.parameters()) < 2.1e6
    assert made.eval().encode_image(torch.zeros(2, 3, size, size)).shape == (2, 128)


def test_a_distinct_caption_is_encoded_once(encoder):
    rows = []

    def spying(captions):
        rows.append(len(captions))
        return encoder.tokenizer(captions)

    text = replace(encoder, tokenizer=spying).encode_texts(["b", "a", "b", "b"])
    assert rows == [2]
    assert (text[0] == text[2]).all() and (text[0] == text[3]).all() and (text[0] != text[1]).any()


def test_hostile_captions_are_encoded_quickly(encoder):
    started = time.monotonic()
    text = encoder.encode_texts(
        ["\ud800 half a character", "x" * 5_000_000, "\x00\x1b[2J <script>", "\u202e"]
    )
    assert np.isfinite(text).all() and time.monotonic() - started < 5


def test_a_network_whose_captions_cannot_be_cut_gives_the_same_vectors(network, encoder):
    tokens = tokenize(encoder.tokenizer, ["a fox", "two dogs and a cat"])
    with torch.no_grad():
        plain = SimpleNamespace(
            encode_text=network.encode_text
        )  # like open_clip's CLIP class: no `text` inside
        assert (encode_tokens(plain, tokens) - encode_tokens(network, tokens)).abs().max() < 1e-5


def test_an_encoder_describes_itself_in_json(encoder):
    said = json.loads(json.dumps(encoder.describe()))
    assert said["model"] == MODEL and said["precision"] == "fp32" and said["image_size"] == 32


def test_a_shard_has_the_same_bytes_whoever_decodes_it(encoder):
    shard = [*samples(70), Bad("0.tar", "x", "no caption"), replace(samples(1)[0], key="y", image=b"text")]
    told = []
    with DecodePool(1) as one, DecodePool(3) as three:
        first = embed_samples(shard, encoder, one, batch_size=32, progress=told.append)
        second = embed_samples(iter(shard), encoder, three, batch_size=32)
    assert sum(told) == len(shard)
    for ours, theirs in zip(first[:4], second[:4], strict=True):
        assert ours.tobytes() == theirs.tobytes()
    assert first.image.shape == first.text.shape == (70, 128) and first.image.dtype == np.float16
    assert [s.key for s in first.samples] == [f"{i:04d}" for i in range(70)]
    assert all(s.image is None for s in first.samples)
    assert [b.key for b in first.bad] == ["x", "y"]
    exact = encoder.encode_images(np.stack([np.asarray(Image.open(io.BytesIO(picture(0))))]))
    assert abs(first.image_norm[0] - np.linalg.norm(exact)) < 1e-4


def test_vectors_that_are_not_numbers_are_bad_samples():
    def images(pixels):
        out = np.ones((len(pixels), 4), np.float32)
        out[1], out[2] = np.nan, 1e6
        return out

    fake = SimpleNamespace(
        spec=PixelSpec(32),
        width=4,
        device="cpu",
        compiled=False,
        tokenizer=None,
        encode_images=images,
        encode_texts=lambda c: np.ones((len(c), 4), np.float32),
    )
    with DecodePool(1) as pool:
        found = embed_samples(samples(4), fake, pool, untrained=True)
        nothing = embed_samples([Bad("0.tar", "", "truncated tar")], fake, pool)
    assert [s.key for s in found.samples] == ["0000", "0003"]
    assert ["not finite" in b.reason or "beyond float16" in b.reason for b in found.bad] == [True, True]
    pixels = [np.asarray(Image.open(io.BytesIO(picture(i)))) for i in (0, 3)]
    assert (found.untrained == untrained_features(pixels)).all()
    assert nothing.image.shape == (0, 4) and len(nothing.bad) == 1


def test_without_torch_the_error_names_the_extra():
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from clipscan.embed.model import load_encoder\n"
        "try: load_encoder('ViT-B-32', 'openai')\n"
        "except ImportError as error: assert 'clipscan[embed]' in str(error), error\n"
        "else: raise SystemExit('no error')"
    )
    subprocess.run([sys.executable, "-P", "-c", code], check=True)
