"""Encoders: from a file or from open_clip, refusing what is not one; and whole shards through them."""

import io
import json
import pickle
import subprocess
import sys
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from clipscan.data.sample import Bad, Sample
from clipscan.embed.decode import DecodePool
from clipscan.embed.embed_shard import embed_samples
from clipscan.embed.model import load_encoder
from clipscan.embed.network import create_network, encode_tokens
from clipscan.embed.open_clip import import_open_clip
from clipscan.embed.pixels import PixelSpec
from clipscan.embed.tokenizing import tokenize
from clipscan.embed.untrained import untrained_features
from clipscan.errors import InputError

torch = pytest.importorskip("torch", reason="needs PyTorch: pip install 'clipscan[embed]'")
MODEL = "clipscan-vit-32"


@pytest.fixture(scope="module")
def network():
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return create_network(MODEL).eval()


@pytest.fixture(scope="module")
def weights(network, tmp_path_factory):
    """A checkpoint that knows its architecture."""
    from safetensors.torch import save_file

    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_file(network.state_dict(), path, {"clipscan_model": MODEL})
    return path


@pytest.fixture(scope="module")
def encoder(weights):
    return load_encoder(None, str(weights), device="cpu")


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


@pytest.mark.parametrize("wrapping", ["plain", "state_dict", "module", "compiled in state_dict"])
def test_a_torch_checkpoint_gives_the_same_encoder_as_safetensors(wrapping, network, encoder, tmp_path):
    prefix = {"module": "module.", "compiled in state_dict": "_orig_mod."}.get(wrapping, "")
    state = {prefix + name: tensor for name, tensor in network.state_dict().items()}
    if "state_dict" in wrapping:
        state = {"epoch": 3, "state_dict": state, "optimizer": {"lr": 0.1}}
    torch.save(state, tmp_path / "w.pt")
    assert load_encoder(MODEL, str(tmp_path / "w.pt")).weights_hash == encoder.weights_hash


class Trap:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def test_a_pickle_that_would_run_code_is_refused_and_does_not(tmp_path):
    trap = Trap(str(tmp_path / "pwned"))
    torch.save({"state_dict": trap}, tmp_path / "w.pt")
    (tmp_path / "old.pt").write_bytes(pickle.dumps(trap))
    for name in ("w.pt", "old.pt"):
        with pytest.raises(InputError, match="run code"):
            load_encoder(MODEL, str(tmp_path / name))
    assert not (tmp_path / "pwned").exists()


def test_files_that_are_no_checkpoints_are_refused_in_words(network, weights, tmp_path):
    from safetensors.torch import save_file

    def refused(name, message, model=MODEL):
        with pytest.raises(InputError, match=message):
            load_encoder(model, str(tmp_path / name))

    state = dict(network.state_dict())
    save_file(state, tmp_path / "anonymous.safetensors")
    refused("anonymous.safetensors", "--model", model=None)
    refused("anonymous.safetensors", "missing.*unknown", model="clipscan-conv-32")
    save_file({**state, "text.positional_embedding": torch.zeros(99, 64)}, tmp_path / "size.safetensors")
    refused("size.safetensors", r"text.positional_embedding is \(99, 64\), the model has \(32, 64\)")
    save_file({**state, "logit_scale": torch.tensor(float("nan"))}, tmp_path / "nan.safetensors")
    refused("nan.safetensors", r"NaN.*logit_scale")
    (tmp_path / "cut.safetensors").write_bytes(weights.read_bytes()[:1000])
    refused("cut.safetensors", "not a safetensors file")
    (tmp_path / "page.pt").write_text("<html>404</html>")
    refused("page.pt", "not a checkpoint|run code")
    (tmp_path / "empty.pt").write_bytes(b"")
    refused("empty.pt", "not a checkpoint")
    torch.save([1, 2], tmp_path / "list.pt")
    refused("list.pt", "no state dict")
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "jit.pt")
    refused("jit.pt", "TorchScript")


def test_missing_weights_and_wrong_names_say_what_there_is():
    for model, pretrained, message in [
        (None, None, "no encoder"),
        (None, "nowhere.safetensors", "no file nowhere.safetensors"),
        ("clipscan-conv-32", None, "train it"),
        ("ViT-B-32", None, "its tags are openai"),
        ("ViT-B-32", "nonsense", "'nonsense' is no file and no tag"),
        ("ViT-Z-99", "openai", "clipscan-conv-32"),
    ]:
        with pytest.raises(InputError, match=message):
            load_encoder(model, pretrained)


def test_bad_devices_and_precisions_are_refused(weights):
    for options, message in [
        ({"device": "tpu"}, "device must be"),
        ({"precision": "int4"}, "precision must be"),
    ]:
        with pytest.raises(InputError, match=message):
            load_encoder(None, str(weights), **options)


@pytest.fixture
def tag(weights, monkeypatch):
    """A pretrained tag in open_clip's own list, whose download finds our file."""
    import huggingface_hub

    pretrained = sys.modules["open_clip.pretrained"]
    assert import_open_clip() and huggingface_hub
    monkeypatch.setitem(pretrained._PRETRAINED, MODEL, {"here": {"hf_hub": "nobody/tiny/tiny.safetensors"}})
    asked = []

    def download(repo_id, filename, **_):
        asked.append((repo_id, filename))
        return str(weights)

    monkeypatch.setattr(pretrained, "hf_hub_download", download)
    return SimpleNamespace(name="here", asked=asked)


def test_a_pretrained_tag_is_fetched_through_open_clip(tag, encoder):
    fetched = load_encoder(MODEL, tag.name)
    assert tag.asked == [("nobody/tiny", "tiny.safetensors")]
    assert fetched.weights_hash == encoder.weights_hash


def test_a_download_that_fails_is_one_sentence(tag, monkeypatch):
    def offline(**_):
        raise OSError("network is unreachable")

    monkeypatch.setattr(sys.modules["open_clip.pretrained"], "hf_hub_download", offline)
    with pytest.raises(InputError, match=r"could not load clipscan-vit-32 here: .*unreachable"):
        load_encoder(MODEL, tag.name)


def test_a_local_folder_in_open_clips_form_is_read(weights, encoder, tmp_path):
    config = import_open_clip().get_model_config(MODEL)
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
    (tmp_path / "open_clip_model.safetensors").write_bytes(weights.read_bytes())
    assert load_encoder(f"local-dir:{tmp_path}", None).weights_hash == encoder.weights_hash


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
