"""The training loop: survey the data, build, resume, step, save."""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import clipscan
from clipscan.data.dataset import Dataset
from clipscan.embed.decode import DecodePool
from clipscan.embed.model import MODEL_KEY
from clipscan.embed.network import (
    autocast,
    create_network,
    encode_tokens,
    few_threads,
    get_tokenizer,
    preprocessing,
    to_input,
    tokenize,
)
from clipscan.errors import InputError
from clipscan.train.augment import shift_and_flip
from clipscan.train.batches import Batch, Source, open_source
from clipscan.train.clock import Clock
from clipscan.train.recipe import RECIPE_KEY, Recipe
from clipscan.train.state import STATE, load_state, save_state, save_tensors
from clipscan.train.survey import CAPTION, CAPTIONS, PIXELS, SURVEY, Log, survey
from clipscan.train.vocabulary import narrow, widen

MAX_LOGIT_SCALE = float(np.log(100))  # CLIP's: beyond it, training becomes unstable
GRADIENT_NORM = 1.0
BETAS, EPSILON = (0.9, 0.98), 1e-6


def run(
    dataset: Dataset,
    out: Path,
    folder: Path,
    recipe: Recipe,
    device: str,
    *,
    workers: int | None,
    budget: int,
    snapshots: Collection[int],
    log: Log,
) -> Path:
    """Train, or go on training, in `folder`; write `out`, snapshots beside it, and remove the folder."""
    # Seeds are set for the network's weights and its dropout; the caller's random state is left alone.
    with torch.random.fork_rng(), DecodePool(workers) as pool:
        torch.manual_seed(recipe.seed)
        network = create_network(recipe.model)
        spec, mean, std = preprocessing(network)
        tokenizer = get_tokenizer(recipe.model)

        def tokens_of(captions: list[str]) -> NDArray[np.int32]:
            parts = [captions[at : at + 1024] for at in range(0, len(captions), 1024)]
            return np.concatenate([tokenize(tokenizer, part).numpy().astype(np.int32) for part in parts])

        fingerprint = f"{recipe.dataset} {spec}"
        found = survey(dataset, folder, spec, pool, budget=budget, fingerprint=fingerprint, log=log)
        log(f"{found.pairs} pairs to train on, {found.bad} left out as unreadable")
        if recipe.batch_size > found.pairs:
            raise InputError(
                f"batch_size={recipe.batch_size} is more than the {found.pairs} readable pairs of "
                f"{dataset.source}; choose a smaller one"
            )
        source = open_source(found, dataset, folder, spec, recipe.seed, tokens_of, pool)
        if (used := source.used_tokens()) is not None:
            narrow(network, torch.from_numpy(used))
        trainer = Trainer(network, recipe, device, mean, std)

        def finish_epoch(done: int) -> None:
            if done in snapshots:
                _write(snapshot_path(out, done), deepcopy(network), recipe)

        with few_threads(network):
            trainer.train(source, folder / STATE, log, finish_epoch)
    _write(out, network, recipe)
    for name in (PIXELS, CAPTION, CAPTIONS, SURVEY, STATE):
        (folder / name).unlink(missing_ok=True)
    with suppress(OSError):  # someone keeps a file of their own there
        folder.rmdir()
    return out


def snapshot_path(out: Path, epochs: int) -> Path:
    """Where the encoder as it was after that many epochs lies, beside the finished one."""
    return out.with_name(f"{out.stem}-epoch{epochs:02d}{out.suffix}")


def _write(out: Path, network: nn.Module, recipe: Recipe) -> None:
    """The encoder as a file that load_encoder reads; the network itself is done with afterwards."""
    widen(network)
    version = getattr(clipscan, "__version__", "unknown")
    metadata = {MODEL_KEY: recipe.model, "clipscan_version": version, RECIPE_KEY: recipe.to_json()}
    save_tensors(out, network.state_dict(), metadata)


class Trainer:
    """A network, its optimizer, and where they are."""

    def __init__(
        self, network: nn.Module, recipe: Recipe, device: str, mean: tuple[float, ...], std: tuple[float, ...]
    ) -> None:
        from open_clip.loss import ClipLoss

        self.recipe, self.device, self.mean, self.std = recipe, device, mean, std
        self.network = network.to(device).to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        self.loss = ClipLoss()
        self.optimizer = torch.optim.AdamW(
            _groups(network, recipe.weight_decay), lr=recipe.lr, betas=BETAS, eps=EPSILON, fused=True
        )

    def train(self, source: Source, state: Path, log: Log, finish_epoch: Callable[[int], None]) -> None:
        """All epochs that are not yet done; after each `finish_epoch` is told how many there were, and
        `state` is renewed."""
        recipe = self.recipe
        steps = source.count // recipe.batch_size
        done = load_state(state, self.network, self.optimizer, recipe) if state.exists() else 0
        if done:
            log(f"going on after epoch {done} of {recipe.epochs}")
        clock = Clock(steps, recipe, done * steps, log)
        for epoch in range(done, recipe.epochs):
            torch.manual_seed(_seed(recipe.seed, epoch))  # dropout, in networks that have it
            shifts = torch.Generator().manual_seed(_seed(recipe.seed, epoch) + 1)
            for step, batch in enumerate(source.batches(epoch, recipe.batch_size), epoch * steps):
                clock.tick(step, self.step(batch, shifts, recipe.rate(step, steps * recipe.epochs)))
            clock.close(epoch)
            finish_epoch(epoch + 1)
            save_state(state, self.network, self.optimizer, recipe, epoch + 1)

    def step(self, batch: Batch, shifts: torch.Generator, rate: float) -> Tensor:
        """One update; returns the loss, still on the device."""
        pixels = shift_and_flip(torch.from_numpy(batch.pixels).to(self.device), shifts, flip=self.recipe.flip)
        tokens = torch.from_numpy(batch.tokens).long().to(self.device)
        caption = torch.from_numpy(batch.caption).to(self.device)
        with autocast(self.device, self.recipe.precision):
            image = self.network.encode_image(to_input(pixels, self.mean, self.std))  # type: ignore[operator]
        # On CPUs the text tower's many small products are faster in fp32, even where bf16 has instructions.
        with autocast(self.device, self.recipe.precision if self.device != "cpu" else "fp32"):
            text = encode_tokens(self.network, tokens)
        image, text = nn.functional.normalize(image.float()), nn.functional.normalize(text.float())
        loss: Tensor = self.loss(image, text[caption], self.network.logit_scale.exp())  # type: ignore[operator]
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), GRADIENT_NORM)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        with torch.no_grad():
            self.network.logit_scale.clamp_(0, MAX_LOGIT_SCALE)  # type: ignore[operator]
        return loss.detach()


def _groups(network: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Matrices shrink; gains, biases and tables, most of whose rows rest in any one step, do not."""
    decayed: dict[bool, list[nn.Parameter]] = {True: [], False: []}
    for name, parameter in network.named_parameters():
        decayed[parameter.ndim >= 2 and "embedding" not in name].append(parameter)
    return [
        {"params": decayed[True], "weight_decay": weight_decay},
        {"params": decayed[False], "weight_decay": 0.0},
    ]


def _seed(seed: int, epoch: int) -> int:
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint32)[0])
