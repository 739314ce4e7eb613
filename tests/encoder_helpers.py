"""A small random ViT, its checkpoint, and the encoder that reads it."""

import pytest

from clipscan.embed.model import load_encoder
from clipscan.embed.network import create_network

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
