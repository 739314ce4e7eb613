"""An open_clip network, and what goes into it: how it is made, how pictures become its input.

Shared by encoding and training.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from typing import TYPE_CHECKING, Any

from clipscan.embed.open_clip import import_open_clip, quietly
from clipscan.embed.pixels import PixelSpec
from clipscan.errors import ClipscanError, InputError

if TYPE_CHECKING:
    from torch import Tensor, nn

SMALL = 10_000_000  # weights, of both towers; ours have 0.5 to 2 million
TABLE = 10_000  # rows from which a matrix is a table of tokens, of which a step touches a few
PRECISIONS = ("auto", "fp32", "bf16", "fp16")


def create_network(name: str) -> nn.Module:
    """A randomly initialised open_clip model on the CPU, for weights to be put in, or to be trained."""
    check_name(name)
    open_clip = import_open_clip()
    return quietly(open_clip.create_model, name, load_weights=False, pretrained_text=False)


def check_name(name: str) -> None:
    """Raises InputError unless open_clip has, or can look for, a model of this name."""
    open_clip = import_open_clip()
    if not brings_weights(name) and open_clip.get_model_config(name.replace("/", "-")) is None:
        ours = ", ".join(n for n in open_clip.list_models() if n.startswith("clipscan-"))
        raise InputError(
            f"there is no model {name!r}. For small pictures: {ours}; "
            "all others: python -c 'import open_clip; print(open_clip.list_models())'"
        )


def brings_weights(name: str) -> bool:
    """Is this a name with a schema (hf-hub:, local-dir:), which is where its weights are?"""
    return import_open_clip().factory.parse_model_name(name)[0] is not None


def preprocessing(network: nn.Module) -> tuple[PixelSpec, tuple[float, ...], tuple[float, ...]]:
    """The input of this model: (pixel spec, mean [3], std [3])."""
    settings: dict[str, Any] = network.visual.preprocess_cfg  # type: ignore[union-attr,assignment]
    size = settings["size"]
    height, across = (size, size) if isinstance(size, int) else size
    if height != across:
        raise InputError(f"this model takes pictures of {height} x {across}; only square ones are supported")
    spec = PixelSpec(
        height, settings["resize_mode"], settings["interpolation"], int(settings.get("fill_color") or 0)
    )
    return spec, tuple(settings["mean"]), tuple(settings["std"])


def to_input(pixels: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """uint8 [b, S, S, 3] -> float32 [b, 3, S, S] normalised; in memory the channels stay last: faster."""
    centre, scale = _constant(mean, str(pixels.device)), _constant(std, str(pixels.device))
    return ((pixels.float() / 255 - centre) / scale).permute(0, 3, 1, 2)


@cache
def _constant(values: tuple[float, ...], device: str) -> Tensor:
    """Made once: bringing three numbers to a GPU waits for everything that it has been given to do."""
    import torch

    with torch.inference_mode(False):  # training uses it too
        return torch.tensor(values, device=device)


def longest(tokens: Tensor) -> int:
    """Columns of int64 [b, context] up to the last end mark, which has the highest number."""
    return int(tokens.argmax(dim=1).max()) + 1


def encode_tokens(network: nn.Module, tokens: Tensor, length: int | None = None) -> Tensor:
    """int64 [b, context] -> [b, width], raw. `length`: longest(tokens), where it is known; asked of tokens
    on a GPU it waits for all that the GPU has to do.

    A causal tower's vector never depends on what stands behind the end mark, so where the tower lets us
    (TextTransformer with a plain mask) the batch is cut at its longest caption: three times less work
    for captions of ten words. Not for several threads on one network: its mask is exchanged meanwhile.
    """
    text = getattr(network, "text", None)
    mask = getattr(text, "attn_mask", None)
    if text is None or mask is None or text.pool_type != "argmax" or text.cls_emb is not None:
        return network.encode_text(tokens)  # type: ignore[operator]
    length = longest(tokens) if length is None else length
    try:
        text.attn_mask = mask[:length, :length]
        return text(tokens[:, :length])
    finally:
        text.attn_mask = mask


def resolve_device(device: str) -> str:
    """What to run on: a GPU, if there is one, for "auto"; anything else is checked and returned."""
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    kind = device.partition(":")[0]
    if kind not in ("cpu", "cuda"):
        raise InputError(f"device must be auto, cpu, cuda or cuda:N, got {device!r}")
    if kind == "cuda" and not torch.cuda.is_available():
        raise InputError(f"device {device!r} was asked for, but this PyTorch finds no GPU; use --device cpu")
    return device


def device_name(device: str) -> str:
    """The GPU as its maker calls it; "cpu" for what is none."""
    import torch

    return torch.cuda.get_device_name(device) if device.startswith("cuda") else device


def to_device(network: nn.Module, device: str) -> nn.Module:
    """On a GPU the weights of convolutions lie as the pictures do, channels last, as tensor cores need it."""
    import torch

    network = network.to(device)
    return network.to(memory_format=torch.channels_last) if device.startswith("cuda") else network  # type: ignore[call-overload,no-any-return]


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
def compiling(asked: bool) -> Iterator[None]:
    """Inside, torch.compile's own errors become one sentence, where it was asked for."""
    if not asked:
        yield
        return
    from torch._dynamo.exc import TorchDynamoException

    try:
        yield
    except TorchDynamoException as error:
        reason = " ".join(str(error).partition("\n\n")[0].split())[:300]  # torch's hints come after
        raise ClipscanError(
            f"--compile: torch cannot compile this model here; leave it out ({reason})"
        ) from error


@contextmanager
def few_threads(network: nn.Module) -> Iterator[None]:
    """Inside, a small network on the CPU computes in one thread; torch's setting comes back afterwards.

    A step of such a network is hundreds of parallel regions of 0.1 ms. Two threads on two cores that
    something else uses as well (our own decoders, for a start) wait for the scheduler at the end of each:
    8 ms a region, measured, which makes training 50 times slower, where two idle cores could at best
    halve its time. And so the result does not depend on the number of cores.
    """
    import torch

    weights = sum(p.numel() for p in network.parameters() if p.ndim > 1 and p.shape[0] < TABLE)
    before = torch.get_num_threads()
    if weights < SMALL and not next(network.parameters()).is_cuda:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
