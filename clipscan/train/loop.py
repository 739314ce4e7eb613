"""One training from its dataset to its file: survey the data, build, train, write."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

import clipscan
from clipscan.data.dataset import Dataset
from clipscan.embed.checkpoint import Weights, load_into
from clipscan.embed.decode_pool import DecodePool
from clipscan.embed.model import MODEL_KEY
from clipscan.embed.network import create_network, few_threads, preprocessing
from clipscan.embed.pixels import PixelSpec
from clipscan.embed.tokenizing import get_tokenizer, tokenize
from clipscan.errors import InputError
from clipscan.train.batches import Tokenize, open_batches
from clipscan.train.folder import folder_of, remove_folder
from clipscan.train.options import Monitoring, Resources
from clipscan.train.processes import Processes
from clipscan.train.recipe import RECIPE_KEY, Recipe
from clipscan.train.safeclip import SafeTrainer
from clipscan.train.state import STATE, save_tensors
from clipscan.train.survey import Log, Survey, survey
from clipscan.train.trainer import Trainer
from clipscan.train.vocabulary import narrow, widen


def run(
    dataset: Dataset,
    out: Path,
    recipe: Recipe,
    mine: Processes,
    resources: Resources,
    monitoring: Monitoring,
    init: Weights | None,
) -> Path:
    """Train, or go on training, in the folder of `out`; write `out`, snapshots beside it; remove the folder.

    init: what to go out from, None for random weights; emptied, since the network holds it from then on.
    """
    folder, budget, log = folder_of(out), resources.cache_bytes, monitoring.say
    # Seeds are set for the network's weights and its dropout; the caller's random state is left alone.
    with torch.random.fork_rng(), DecodePool(resources.workers) as pool:
        torch.manual_seed(recipe.seed)
        network = _network(recipe.model, init)
        spec, mean, std = preprocessing(network)
        tokens_of = _tokens_of(recipe.model)
        fingerprint = f"{recipe.dataset} {spec} with identities"
        found = mine.first_does(
            lambda: survey(dataset, folder, spec, pool, budget=budget, fingerprint=fingerprint, log=log)
        )
        recipe = _sized(recipe, found, dataset.source, log)
        source = open_batches(found, dataset, folder, spec, recipe.seed, tokens_of, mine, pool)
        if (used := source.used_tokens()) is not None:
            narrow(network, torch.from_numpy(used))
        common = (network, recipe, mine, source, mean, std, log)
        if recipe.safeclip is None:
            trainer = Trainer(*common)
        else:
            _check_cached(found, spec, budget)
            records = out.with_suffix(".partition.jsonl")
            trainer = SafeTrainer(*common, settings=recipe.safeclip, records=records, watch=monitoring.watch)

        def finish_epoch(done: int) -> None:
            if done in monitoring.snapshots:
                _write(snapshot_path(out, done), deepcopy(network), recipe)

        with few_threads(network):
            trainer.train(folder / STATE, finish_epoch)
    if mine.first:
        _write(out, network, recipe)
        remove_folder(out)
    mine.wait()
    return out


def _network(model: str, init: Weights | None) -> nn.Module:
    """The architecture with random weights, or with those of `init`, which is emptied."""
    network = create_network(model)
    if init is not None:
        load_into(network, init.state, init.source)
        init.state.clear()
    return network


def _tokens_of(model: str) -> Tokenize:
    """The tokenizer of an architecture, for any number of captions."""
    tokenizer = get_tokenizer(model)

    def tokens_of(captions: list[str]) -> NDArray[np.int32]:
        parts = [captions[at : at + 1024] for at in range(0, len(captions), 1024)]
        return np.concatenate([tokenize(tokenizer, part).numpy().astype(np.int32) for part in parts])

    return tokens_of


def _sized(recipe: Recipe, found: Survey, source: str, log: Log) -> Recipe:
    """The recipe for the pairs that were found; InputError where they do not fill a batch."""
    log(f"{found.pairs} pairs to train on, {found.bad} left out as unreadable")
    if recipe.batch_size > found.pairs:
        raise InputError(
            f"batch_size={recipe.batch_size} is more than the {found.pairs} readable pairs of "
            f"{source}; choose a smaller one"
        )
    recipe = recipe.sized(found.pairs)
    if recipe.by_steps:
        steps = found.pairs // recipe.batch_size
        log(f"{recipe.epochs} epochs, {recipe.epochs * steps:,} steps; --epochs takes another number")
    return recipe


def _check_cached(found: Survey, spec: PixelSpec, budget: int) -> None:
    """InputError unless the decoded pixels fitted the budget of bytes."""
    if not found.cached:
        raise InputError(
            "safeclip comes back to single pairs, so their decoded pixels must be kept: "
            f"{found.pairs * spec.nbytes / 1e9:,.1f} GB, where the cache may take {budget / 1e9:,.1f}; "
            "allow it more"
        )


def snapshot_path(out: Path, epochs: int) -> Path:
    """Where the encoder as it was after that many epochs lies, beside the finished one."""
    return out.with_name(f"{out.stem}-epoch{epochs:02d}{out.suffix}")


def _write(out: Path, network: nn.Module, recipe: Recipe) -> None:
    """The encoder as a file that load_encoder reads; the network itself is done with afterwards."""
    widen(network)
    version = getattr(clipscan, "__version__", "unknown")
    metadata = {MODEL_KEY: recipe.model, "clipscan_version": version, RECIPE_KEY: recipe.to_json()}
    save_tensors(out, network.state_dict(), metadata)
