"""One CLIP with two towers, ready to encode: pixels and captions in, raw vectors out.

The vectors are not normalised: what a model learnt from poison shows in their length too.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from clipscan.embed import checkpoint
from clipscan.embed.open_clip import import_open_clip
from clipscan.embed.pixels import PixelSpec
from clipscan.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor, nn

MODEL_KEY = "clipscan_model"  # in the metadata of the checkpoints that we write: the architecture's name
CAPTION_LIMIT = 2_000  # characters; 77 tokens end long before, and the tokenizer is quadratic in a word
PRECISIONS = ("auto", "fp32", "bf16", "fp16")

Tokenizer = Callable[[list[str]], "Tensor"]


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

    @property
    def image_size(self) -> int:
        return self.spec.size

    def encode_images(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 [b, S, S, 3] -> float32 [b, width], not normalised."""
        import torch

        with torch.inference_mode(), self._autocast():
            batch = to_input(torch.from_numpy(pixels).to(self.device), self.mean, self.std)
            return self.model.encode_image(batch).float().cpu().numpy()  # type: ignore[operator]

    def encode_texts(self, captions: Sequence[str]) -> NDArray[np.float32]:
        """b captions -> float32 [b, width], not normalised; each distinct caption is encoded once."""
        import torch

        row = {caption: i for i, caption in enumerate(dict.fromkeys(captions))}
        with torch.inference_mode(), self._autocast():
            tokens = tokenize(self.tokenizer, list(row)).to(self.device)
            vectors = encode_tokens(self.model, tokens).float().cpu().numpy()
        return vectors[[row[caption] for caption in captions]]

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
        }

    def _autocast(self) -> AbstractContextManager[Any]:
        return autocast(self.device, self.precision)


def load_encoder(
    model: str | None, pretrained: str | None, *, device: str = "auto", precision: str = "auto"
) -> Encoder:
    """A model by open_clip's name and pretrained tag, or by a checkpoint file, ready to encode.

    `pretrained` is a file (safetensors, or a torch checkpoint of tensors only) or a tag of open_clip's.
    `model` may be left out when the file was written by clipscan, and may be open_clip's
    "hf-hub:org/name" or "local-dir:path", which bring their weights. `device`: "auto" (a GPU if there
    is one), "cpu", "cuda", "cuda:1". `precision`: "auto" is bf16 on a GPU and fp32 on a CPU.

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
    weights_hash = checkpoint.state_hash(network.state_dict())
    spec, mean, std = preprocessing(network)
    tokenizer = get_tokenizer(model)
    network = network.to(device).eval()
    width = encode_tokens(network, tokenize(tokenizer, [""]).to(device)).shape[1]
    return Encoder(model, weights_hash, width, device, precision, spec, mean, std, network, tokenizer)


def create_network(name: str) -> nn.Module:
    """A randomly initialised open_clip model on the CPU, for weights to be put in, or to be trained."""
    _check_name(name)
    open_clip = import_open_clip()
    return _quietly(open_clip.create_model, name, load_weights=False, pretrained_text=False)


def get_tokenizer(name: str) -> Tokenizer:
    """open_clip's tokenizer of a model: captions -> int64 [b, context]."""
    tokenizer: Tokenizer = _quietly(import_open_clip().get_tokenizer, name)
    return tokenizer


def _create_pretrained(model: str | None, pretrained: str | None) -> nn.Module:
    """What open_clip knows under a name and a tag; fetched by open_clip, into its cache."""
    open_clip = import_open_clip()
    if model is None:
        if pretrained is None:
            raise InputError("no encoder: name a checkpoint file, or an open_clip model and its tag")
        raise InputError(f"there is no file {pretrained}; if it is a tag of open_clip's, name the model too")
    _check_name(model)
    tags = [] if _brings_weights(model) else open_clip.list_pretrained_tags_by_model(model.replace("/", "-"))
    if not _brings_weights(model) and pretrained not in tags:
        known = f"its tags are {', '.join(tags)}" if tags else "it has no public weights: train it"
        what = "no weights are named" if pretrained is None else f"{pretrained!r} is no file and no tag"
        raise InputError(f"{what} for {model}; {known}")
    try:
        return _quietly(open_clip.create_model, model, pretrained, weights_only=True, require_pretrained=True)
    except (RuntimeError, OSError, ValueError) as error:
        reason = str(error).split("\n")[0][:300]
        raise InputError(f"open_clip could not load {model} {pretrained or ''}: {reason}") from error


def _check_name(name: str) -> None:
    open_clip = import_open_clip()
    if not _brings_weights(name) and open_clip.get_model_config(name.replace("/", "-")) is None:
        ours = ", ".join(n for n in open_clip.list_models() if n.startswith("clipscan-"))
        raise InputError(
            f"there is no model {name!r}. For small pictures: {ours}; "
            "all others: python -c 'import open_clip; print(open_clip.list_models())'"
        )


def _brings_weights(name: str) -> bool:
    """Is this a name with a schema (hf-hub:, local-dir:), which is where its weights are?"""
    return import_open_clip().factory.parse_model_name(name)[0] is not None


def preprocessing(network: nn.Module) -> tuple[PixelSpec, tuple[float, ...], tuple[float, ...]]:
    """How this model wants its pictures: (pixel spec, mean [3], std [3])."""
    settings: dict[str, Any] = network.visual.preprocess_cfg  # type: ignore[union-attr,assignment]
    size = settings["size"]
    height, across = (size, size) if isinstance(size, int) else size
    if height != across:
        raise InputError(f"this model wants pictures of {height} x {across}; only square ones are supported")
    spec = PixelSpec(
        height, settings["resize_mode"], settings["interpolation"], int(settings.get("fill_color") or 0)
    )
    return spec, tuple(settings["mean"]), tuple(settings["std"])


def to_input(pixels: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """uint8 [b, S, S, 3] -> float32 [b, 3, S, S] normalised; in memory the channels stay last: faster."""
    import torch

    scale = torch.tensor(std, device=pixels.device)
    return ((pixels.float() / 255 - torch.tensor(mean, device=pixels.device)) / scale).permute(0, 3, 1, 2)


def tokenize(tokenizer: Tokenizer, captions: list[str]) -> Tensor:
    """b captions -> int64 [b, context]. Long captions are cut, half characters (lone surrogates) replaced."""
    return tokenizer([c[:CAPTION_LIMIT].encode("utf-8", "replace").decode() for c in captions])


def encode_tokens(network: nn.Module, tokens: Tensor) -> Tensor:
    """int64 [b, context] -> [b, width], raw.

    A causal tower's vector never depends on what stands behind the end mark, so where the tower lets us
    (TextTransformer with a plain mask) the batch is cut at its longest caption: three times less work
    for captions of ten words.
    """
    text = getattr(network, "text", None)
    mask = getattr(text, "attn_mask", None)
    if text is None or mask is None or text.pool_type != "argmax" or text.cls_emb is not None:
        return network.encode_text(tokens)  # type: ignore[operator]
    length = int(tokens.argmax(dim=1).max()) + 1
    try:
        text.attn_mask = mask[:length, :length]
        return text(tokens[:, :length])
    finally:
        text.attn_mask = mask


def resolve_device(device: str) -> str:
    """ "auto" -> "cuda" or "cpu"; others are checked and returned."""
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    kind = device.partition(":")[0]
    if kind not in ("cpu", "cuda"):
        raise InputError(f"device must be auto, cpu, cuda or cuda:N, got {device!r}")
    if kind == "cuda" and not torch.cuda.is_available():
        raise InputError(f"device {device!r} was asked for, but this PyTorch finds no GPU; use --devices cpu")
    return device


def resolve_precision(precision: str, device: str) -> str:
    if precision not in PRECISIONS:
        raise InputError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
    if precision == "auto":
        return "bf16" if device.startswith("cuda") else "fp32"
    return precision


def autocast(device: str, precision: str) -> AbstractContextManager[Any]:
    import torch

    if precision == "fp32":
        return nullcontext()
    kind = {"bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    return torch.autocast(device.partition(":")[0], kind)


@contextmanager
def _hushed() -> Iterator[None]:
    """open_clip tells the root logger that a model is random; here it is meant to be, or already refused.

    The handler keeps `logging.warning` from configuring the root logger behind the user's back.
    """
    root, handler = logging.getLogger(), logging.NullHandler()

    def other(record: logging.LogRecord) -> bool:
        return "initialized randomly" not in record.getMessage()

    root.addHandler(handler)
    root.addFilter(other)
    try:
        yield
    finally:
        root.removeFilter(other)
        root.removeHandler(handler)


def _quietly(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    with _hushed():
        return function(*arguments, **options)
