"""Checkpoint files -> named tensors, trusting nothing.

safetensors, or what torch.load opens with weights_only=True: tensors and plain containers. A file
that needs more than that could run code while it loads, and is refused.
"""

from __future__ import annotations

import hashlib
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from clipscan.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor, nn

NAMED = 4  # how many wrong names an error lists
PREFIXES = ("module.", "model.", "_orig_mod.")  # left by DataParallel, Lightning, torch.compile
SAFE_KIND = ".safetensors"


class Weights(NamedTuple):
    """The named tensors of a checkpoint, and the file that errors name."""

    source: str
    state: dict[str, Tensor]


def state_hash(state: Mapping[str, Tensor]) -> str:
    """sha256 over names, types, shapes and bytes: equal weights, equal hash, whatever the file."""
    import torch

    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def read_metadata(path: Path) -> dict[str, str]:
    """The text that a safetensors file carries beside its weights; {} for other files."""
    if path.suffix != SAFE_KIND:
        return {}
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, ValueError) as error:
        raise InputError(f"{path} is not a safetensors file: {error}") from error


def read_state(path: Path) -> dict[str, Tensor]:
    """Name -> tensor of a checkpoint, out of whatever wrapping: state_dict, module. and the like.

    Raises InputError for what is not a checkpoint, or would need unpickling of more than tensors.
    """
    import torch

    content = _read_safetensors(path) if path.suffix == SAFE_KIND else _read_torch(path)
    for wrapping in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(wrapping), Mapping):
            content = content[wrapping]
    state = dict(content) if isinstance(content, Mapping) else {}
    if not state or not all(isinstance(tensor, torch.Tensor) for tensor in state.values()):
        raise InputError(f"{path} holds no state dict: expected names and tensors, got {_describe(content)}")
    for prefix in PREFIXES:
        if all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return state


def _read_safetensors(path: Path) -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, ValueError) as error:
        raise InputError(f"{path} is not a safetensors file: {error}") from error


def _read_torch(path: Path) -> Any:
    import torch

    try:
        with warnings.catch_warnings():  # what torch would hint at is refused below, in words
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        why = str(error).split("\n")[0][:200]
        raise InputError(
            f"{path} holds more than tensors and could run code while loading, so it is not opened: {why} "
            "Convert it to safetensors where you trust it."
        ) from error
    except RuntimeError as error:
        if "TorchScript" in str(error):
            raise InputError(
                f"{path} is a TorchScript archive, which is a program; "
                "save its state_dict as safetensors instead"
            ) from error
        raise InputError(f"{path} is not a checkpoint: {str(error)[:200]}") from error
    except (EOFError, ValueError, KeyError, IndexError, AttributeError, TypeError) as error:
        raise InputError(f"{path} is not a checkpoint: {error or type(error).__name__}") from error


def load_into(model: nn.Module, state: dict[str, Tensor], source: str) -> None:
    """Put weights into an open_clip model; every name and shape must fit, every value be finite.

    Raises InputError that names a few of the misfits.
    """
    check_finite(state, source)
    state = _as_open_clip(model, state)
    own = model.state_dict()
    missing, foreign = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    if missing or foreign:
        raise InputError(
            f"{source} is not for this model: {_few(missing, 'missing')}; {_few(foreign, 'unknown')}. "
            "Name the architecture that it was trained with: --model."
        )
    shapes = [
        f"{name} is {tuple(state[name].shape)}, the model has {tuple(own[name].shape)}"
        for name in own
        if own[name].shape != state[name].shape
    ]
    if shapes:
        raise InputError(f"{source} is of another size than this model: {_few(shapes, 'wrong shapes')}")
    model.load_state_dict(state)


def check_finite(state: Mapping[str, Tensor], source: str) -> None:
    broken = [name for name, t in state.items() if t.is_floating_point() and not bool(t.isfinite().all())]
    if broken:
        raise InputError(
            f"{source} has NaN or infinite weights ({_few(broken, 'tensors')}): its training diverged; "
            "use an earlier checkpoint."
        )


def _as_open_clip(model: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The conversions that open_clip's own load_checkpoint makes, except that nothing is resized."""
    from open_clip.convert import convert_state_dict
    from open_clip.model import convert_to_custom_text_state_dict

    state = dict(convert_state_dict(model, state))
    if "positional_embedding" in state and not hasattr(model, "positional_embedding"):
        state = convert_to_custom_text_state_dict(state)
    state.pop("text.transformer.embeddings.position_ids", None)  # a buffer of older transformers
    own = model.state_dict()
    for name in ("logit_scale", "logit_bias"):  # a number in some versions, a vector of one in others
        if name in state and name in own and state[name].numel() == own[name].numel():
            state[name] = state[name].reshape(own[name].shape)
    return state


def _few(names: list[str], what: str) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"{len(names)} {what}" + (f" ({', '.join(names[:NAMED])}{more})" if names else "")


def _describe(content: object) -> str:
    if isinstance(content, Mapping):
        return f"a mapping with {', '.join(map(repr, list(content)[:NAMED])) or 'nothing in it'}"
    return type(content).__name__
