"""Train a CLIP on the dataset at hand."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path

from clipscan.data.dataset import Dataset
from clipscan.embed.checkpoint import SAFE_KIND, Weights, read_metadata, read_state, state_hash
from clipscan.embed.open_clip import import_open_clip
from clipscan.errors import InputError, RunError
from clipscan.train.options import Monitoring, Resources, Training
from clipscan.train.recipe import EPOCHS, RECIPE_KEY, Recipe, SafeClip, Watch, dataset_hash

DEFAULT_MODEL = "clipscan-conv-32"


def train_clip(
    dataset: Dataset,
    out: Path,
    *,
    model: str | None = Training.model,
    init: Path | None = Training.init,
    epochs: int | None = Training.epochs,
    batch_size: int = Training.batch_size,
    lr: float = Training.lr,
    weight_decay: float = Training.weight_decay,
    warmup: float = Training.warmup,
    seed: int = Training.seed,
    flip: bool = Training.flip,
    device: str = Resources.device,
    workers: int | None = Resources.workers,
    cache_bytes: int = Resources.cache_bytes,
    snapshots: Collection[int] = Monitoring.snapshots,
    safeclip: SafeClip | None = Training.safeclip,
    watch: Watch | None = Monitoring.watch,
    log: Callable[[str], None] | None = Monitoring.log,
    resume: bool = True,
) -> Path:
    """Train `model` on every readable pair of `dataset`; write `out`, a safetensors file.

    model: clipscan-conv-32, or any open_clip name; init: a checkpoint file that the training goes out from,
    whose architecture need not be named if `clipscan train` wrote it; without one, random weights. `out` is
    for `load_encoder(None, out)`: the architecture's name is in its metadata. CLIP's loss; AdamW
    with weight decay on matrices only, `warmup` (share of the steps) and a cosine; random shifts and,
    unless `flip` is off (for captions that tell left from right), mirroring. Pairs that cannot be read
    are left out and counted in the log. epochs: None for as many as the number of pairs needs
    (recipe.py:epochs_for). At the end the log says how many of up to 1,000 of the pairs find their own
    caption and picture among the others, against chance, and whether more epochs would help (train/probe.py).

    Beside `out` the folder `out`.training holds decoded pixels (up to `cache_bytes`; beyond that every
    epoch decodes again) and, after each epoch, the state from which a killed run goes on to the same
    weights. It is removed at the end. An `out` that is already there with the same settings and data is
    returned as it is. After each number of epochs in `snapshots` the encoder is also written beside it, to
    OUT-epochNN.safetensors; epochs that were done before the snapshot was asked for do not come back.

    safeclip: train by SafeCLIP with these settings (clipscan/train/safeclip.py); decoded pixels must then fit
    `cache_bytes`. What each epoch took for safe is written to the log and kept in OUT.partition.jsonl, with
    what `watch` remarks: called once with the (shard, key) of all n pairs, it gives a function of which are
    safe, bool [n], that returns fields for the file and words for the log.

    To train without some pairs, hand in clipscan.data.Without(dataset, drop). Under torchrun each process
    takes its share of every batch. Up to rounding that is the training of one process, but for what is
    drawn for each picture, the order in which a pool is filled and, on CPUs, batch norms, which are those of
    each process's share.

    Raises InputError (settings), DataError (nothing to train on), RunError (other settings or data are
    under way or finished at `out`: `resume=False` starts again), ImportError (no open_clip).
    """
    training = Training(model, init, epochs, batch_size, lr, weight_decay, warmup, seed, flip, safeclip)
    resources = Resources(device, workers, cache_bytes)
    return train_with(dataset, Path(out), training, resources, Monitoring(snapshots, watch, log), resume)


def train_with(
    dataset: Dataset,
    out: Path,
    training: Training = Training(),
    resources: Resources = Resources(),
    monitoring: Monitoring = Monitoring(),
    resume: bool = True,
) -> Path:
    """`train_clip`, its options as values."""
    import_open_clip()
    from clipscan.embed.network import resolve_device
    from clipscan.train.folder import open_folder
    from clipscan.train.loop import run
    from clipscan.train.processes import join

    where = resolve_device(resources.device)
    if out.suffix != SAFE_KIND:
        raise InputError(f"a trained encoder is a {SAFE_KIND} file, got {out}")
    model, start = _start(training.model, training.init)
    mine = join(where)
    if not mine.first:
        monitoring = replace(monitoring, log=None)
    recipe = _recipe(dataset, training, model, start, where, mine.count)
    recipe.check()
    if resume and out.exists():
        _check_finished(out, recipe)
        monitoring.say(f"{out} is already trained")
        return out
    open_folder(out, mine, resume=resume)
    return run(dataset, out, recipe, mine, resources, monitoring, start)


def _start(model: str | None, init: Path | None) -> tuple[str, Weights | None]:
    """(the architecture, the weights to go out from; None for random ones)."""
    from clipscan.embed.model import MODEL_KEY

    if init is None:
        return model or DEFAULT_MODEL, None
    model = model or read_metadata(init).get(MODEL_KEY)
    if model is None:
        raise InputError(f"{init} does not say which architecture it is for: name it with --model")
    return model, Weights(str(init), read_state(init))


def _recipe(
    dataset: Dataset, training: Training, model: str, start: Weights | None, where: str, processes: int
) -> Recipe:
    """The training of this architecture, from this start, on the device `where`, with nothing left open but
    the number of epochs."""
    from clipscan.train.precision import training_precision

    return Recipe(
        model=model,
        epochs=EPOCHS[1] if training.epochs is None else training.epochs,
        batch_size=training.batch_size,
        lr=training.lr,
        weight_decay=training.weight_decay,
        warmup=training.warmup,
        seed=training.seed,
        flip=training.flip,
        device=where.partition(":")[0],
        precision=training_precision(where),
        dataset=dataset_hash(dataset.shards),
        processes=processes,
        safeclip=training.safeclip,
        init=state_hash(start.state) if start else None,
        by_steps=training.epochs is None,
    )


def _check_finished(out: Path, recipe: Recipe) -> None:
    """RunError unless `out` came of this very recipe."""
    try:
        made_by = read_metadata(out).get(RECIPE_KEY)
    except InputError:
        made_by = None
    why = recipe.differences(made_by) if made_by is not None else "it was not made by clipscan train"
    if why:
        raise RunError(
            f"{out} exists, and is not what was asked for: {why}. "
            "Choose another name, or remove it to train again."
        )
