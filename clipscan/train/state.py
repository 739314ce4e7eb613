"""A training run on disk: where it was, so that it can be killed at any moment; and what comes out of it.

Both are safetensors with text beside the tensors. Random numbers need no saving: every epoch draws from
its own seed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from clipscan.data.atomic import replacing
from clipscan.embed.checkpoint import read_metadata
from clipscan.errors import RunError
from clipscan.train.recipe import Recipe

STATE = "state.safetensors"


class Extra(NamedTuple):
    """What a method of training keeps from epoch to epoch beside the network and its optimizer."""

    tensors: dict[str, Tensor]
    record: Any  # of JSON


NOTHING = Extra({}, None)


def save_state(
    path: Path,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    recipe: Recipe,
    epochs_done: int,
    extra: Extra = NOTHING,
) -> None:
    """Weights, buffers, the optimizer's moments, and what is extra; by rename."""
    tensors = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
    for name, parameter in network.named_parameters():
        for moment, value in optimizer.state[parameter].items():
            tensors[f"optimizer.{moment}.{name}"] = value
    tensors |= {f"extra.{name}": tensor for name, tensor in extra.tensors.items()}
    said = {"recipe": recipe.to_json(), "epochs_done": str(epochs_done), "record": json.dumps(extra.record)}
    save_tensors(path, tensors, said)


def load_state(
    path: Path, network: nn.Module, optimizer: torch.optim.Optimizer, recipe: Recipe
) -> tuple[int, Extra]:
    """Put a saved state back; returns the epochs that are done, and what was extra. RunError when it belongs
    to another run."""
    said = read_metadata(path)
    if differences := recipe.differences(said["recipe"]):
        raise RunError(
            f"{path.parent} holds a training of other settings or data: {differences}. "
            "Finish it as it was begun, or start again without resuming."
        )
    device = next(network.parameters()).device
    tensors = load_file(path, device=str(device))
    network.load_state_dict(
        {name.removeprefix("network."): t for name, t in tensors.items() if name.startswith("network.")}
    )
    for name, parameter in network.named_parameters():
        if f"optimizer.step.{name}" not in tensors:
            continue  # a parameter that takes no part in the loss
        # The fused step walks raw memory, so moments need the parameter's own strides (channels last).
        moments = {
            moment: torch.empty_like(parameter).copy_(tensors[f"optimizer.{moment}.{name}"])
            for moment in ("exp_avg", "exp_avg_sq")
        }
        optimizer.state[parameter] = {"step": tensors[f"optimizer.step.{name}"], **moments}
    extra = {name.removeprefix("extra."): t for name, t in tensors.items() if name.startswith("extra.")}
    return int(said["epochs_done"]), Extra(extra, json.loads(said.get("record", "null")))


def save_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """A safetensors file, by rename: a file that exists is finished."""
    plain = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    with replacing(path) as (draft,):
        try:
            save_file(plain, draft, metadata)
        except SafetensorError as error:  # of a full disk, too: it is no OSError
            raise RunError(f"{path} cannot be written: {error}. What is finished stays") from error
