"""One CLIP with two towers, ready to encode: pixels and captions in, raw vectors out.

The vectors are not normalised: what a model learnt from poison shows in their length too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from clipscan.embed import checkpoint
from clipscan.embed.network import (
    autocast,
    brings_weights,
    check_name,
    compiling,
    create_network,
    encode_tokens,
    few_threads,
    longest,
    preprocessing,
    resolve_device,
    resolve_precision,
    to_device,
    to_input,
)
from clipscan.embed.open_clip import import_open_clip, quietly
from clipscan.embed.pixels import PixelSpec
from clipscan.embed.tokenizing import Tokenizer, get_tokenizer, tokenize
from clipscan.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor, nn

MODEL_KEY = "clipscan_model"  # in the metadata of the checkpoints that we write: the architecture's name


@dataclass(frozen=True)
class Encoder:
    """A loaded model and everything that decides what it computes.

    `name`: open_clip's, or ours. `weights_hash`: sha256 of the state dict, so that equal weights are
    equal in whatever file they came. `width`: of both vectors. `precision`: fp32 | bf16 | fp16, by
    autocast. `spec`: how pictures become pixels.
    """

    name: str
    weights_hash: str
    width: int
    device: str
    precision: str
    spec: PixelSpec
    mean: tuple[float, ...]  # [3], of pixels scaled to 0..1
    std: tuple[float, ...]  # [3]
    model: nn.Module
    tokenizer: Tokenizer
    compiled: bool = False  # the picture tower, by torch.compile

    @property
    def image_size(self) -> int:
        return self.spec.size

    def encode_images(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 [b, S, S, 3] -> float32 [b, width], not normalised."""
        import torch

        with self.computing():
            return self.image_vectors(torch.from_numpy(pixels).to(self.device)).cpu().numpy()

    def encode_texts(self, captions: Sequence[str]) -> NDArray[np.float32]:
        """b captions -> float32 [b, width], not normalised; each distinct caption is encoded once."""
        with self.computing():
            tokens, length, row = self.tokens(captions)
            return self.text_vectors(tokens.to(self.device), length).cpu().numpy()[row]

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Inside, torch computes as this encoder does: no gradients, its precision, its threads."""
        import torch

        with torch.inference_mode(), autocast(self.device, self.precision), few_threads(self.model):
            yield

    def image_vectors(self, pixels: Tensor) -> Tensor:
        """uint8 [b, S, S, 3] -> float32 [b, width], both on the device; inside computing()."""
        batch = to_input(pixels, self.mean, self.std)
        with compiling(self.compiled):
            return self.model.encode_image(batch).float()  # type: ignore[operator]

    def tokens(self, captions: Sequence[str]) -> tuple[Tensor, int, list[int]]:
        """(tokens of the distinct captions, columns that mean something, the row of each caption)."""
        row = {caption: i for i, caption in enumerate(dict.fromkeys(captions))}
        tokens = tokenize(self.tokenizer, list(row))
        return tokens, longest(tokens), [row[caption] for caption in captions]

    def text_vectors(self, tokens: Tensor, length: int) -> Tensor:
        """Tokens on the device -> float32 [b, width] there; inside computing()."""
        return encode_tokens(self.model, tokens, length).float()

    def describe(self) -> dict[str, Any]:
        """What was used, in plain JSON: for run.json, and for the fingerprint of what it computed."""
        spec = self.spec
        return {
            "model": self.name,
            "weights_sha256": self.weights_hash,
            "width": self.width,
            "precision": self.precision,
            "device": self.device.partition(":")[0],
            "image_size": spec.size,
            "resize_mode": spec.resize_mode,
            "interpolation": spec.interpolation,
            "fill": spec.fill,
            "mean": list(self.mean),
            "std": list(self.std),
            **({"compiled": True} if self.compiled else {}),
        }


def load_encoder(
    model: str | None,
    pretrained: str | None,
    *,
    device: str = "auto",
    precision: str = "auto",
    compile: bool = False,
) -> Encoder:
    """A model by open_clip's name and pretrained tag, or by a checkpoint file, ready to encode.

    `pretrained` is a file (safetensors, or a torch checkpoint of tensors only) or a tag of open_clip's.
    `model` may be left out when the file was written by clipscan, and may be open_clip's
    "hf-hub:org/name" or "local-dir:path", which bring their weights. `device`: "auto" (a GPU if there
    is one), "cpu", "cuda", "cuda:1". `precision`: "auto" is bf16 on a GPU and fp32 on a CPU. `compile`:
    the picture tower goes through torch.compile, in the first batch; not tried on a GPU yet.

    Raises InputError for a model that does not exist, weights that do not fit, or none at all: a random
    model finds nothing. ImportError names the extra when open_clip is missing.
    """
    import_open_clip()
    device, precision = resolve_device(device), resolve_precision(precision, resolve_device(device))
    file = Path(pretrained) if pretrained is not None and Path(pretrained).is_file() else None
    if file is not None:
        model = model or checkpoint.read_metadata(file).get(MODEL_KEY)
        if model is None:
            raise InputError(f"{file} does not say which architecture it is for: name it with --model")
        network = create_network(model)
        checkpoint.load_into(network, checkpoint.read_state(file), str(file))
    else:
        network = _create_pretrained(model, pretrained)
        checkpoint.check_finite(network.state_dict(), f"{model} {pretrained or ''}".strip())
    assert model is not None
    return _ready(model, network, device, precision, compile)


def untrained_encoder(
    model: str, *, device: str = "auto", precision: str = "auto", compile: bool = False
) -> Encoder:
    """Random weights, for measuring: what it computes costs the same, and finds nothing."""
    import_open_clip()
    device, precision = resolve_device(device), resolve_precision(precision, resolve_device(device))
    return _ready(model, create_network(model), device, precision, compile)


def _ready(model: str, network: nn.Module, device: str, precision: str, compile: bool) -> Encoder:
    """A network with its weights, on the CPU -> an encoder on the device."""
    weights_hash = checkpoint.state_hash(network.state_dict())
    spec, mean, std = preprocessing(network)
    tokenizer = get_tokenizer(model)
    network = to_device(network.eval(), device)
    width = encode_tokens(network, tokenize(tokenizer, [""]).to(device)).shape[1]
    if compile:
        network.visual.compile(dynamic=False)  # type: ignore[operator,union-attr]
    return Encoder(
        model, weights_hash, width, device, precision, spec, mean, std, network, tokenizer, compile
    )


def _create_pretrained(model: str | None, pretrained: str | None) -> nn.Module:
    """The model that open_clip has under a name and a tag; fetched by open_clip, into its cache."""
    open_clip = import_open_clip()
    if model is None:
        if pretrained is None:
            raise InputError("no encoder: name a checkpoint file, or an open_clip model and its tag")
        raise InputError(f"there is no file {pretrained}; if it is a tag of open_clip's, name the model too")
    check_name(model)
    tags = [] if brings_weights(model) else open_clip.list_pretrained_tags_by_model(model.replace("/", "-"))
    if not brings_weights(model) and pretrained not in tags:
        known = f"its tags are {', '.join(tags)}" if tags else "it has no public weights: train it"
        what = "no weights are named" if pretrained is None else f"{pretrained!r} is no file and no tag"
        raise InputError(f"{what} for {model}; {known}")
    try:
        return quietly(open_clip.create_model, model, pretrained, weights_only=True, require_pretrained=True)
    except (RuntimeError, OSError, ValueError) as error:
        reason = str(error).split("\n")[0][:300]
        raise InputError(f"open_clip could not load {model} {pretrained or ''}: {reason}") from error
