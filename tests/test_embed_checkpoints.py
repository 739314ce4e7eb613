"""Where an encoder comes from: a checkpoint file, a folder, a tag; and refusing what is none."""

import json
import pickle
import sys
from types import SimpleNamespace

import pytest
from encoder_helpers import MODEL, encoder, network, weights  # noqa: F401

from clipscan.embed.model import load_encoder
from clipscan.embed.open_clip import import_open_clip
from clipscan.errors import InputError

torch = pytest.importorskip("torch", reason="needs PyTorch: pip install 'clipscan[embed]'")


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
