"""One cell of the laboratory's grid: a dataset poisoned in one way, and a model that learnt from it.

    CELL/cell.json                 settings, counts, seconds; written last: with it the cell is finished
    CELL/truth.parquet             which pairs are poisoned
    CELL/model.safetensors         and model-epochNN.safetensors, the same training on its way
    CELL/epochNN/behaviour.json    what the model does after NN epochs
    CELL/epochNN/run               its vectors, as a run folder

The poisoned dataset itself is removed at the end: it can be made again from the settings (`plant`).
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

from clipscan.data import Dataset, Sample, open_dataset
from clipscan.errors import RunError
from clipscan.lab.attacks.campaigns import Campaign, parse_campaign
from clipscan.lab.attacks.poisoning import Poisoned, poison, read_targets
from clipscan.lab.grid.evaluate import Behaviour, behave
from clipscan.run.file_io import write_json
from clipscan.run.options import Encoding, Models

Say = Callable[[str], None]

FILE = "file"  # the option of a trigger that is read from one


@dataclass(frozen=True)
class Cell:
    """What decides a cell. `dataset` is a name, wherever it lies; `epochs`: after how many of them the model
    is looked at, ascending; the last one is the length of the training."""

    dataset: str
    attack: str
    target: str
    rate: float
    seed: int
    model: str
    epochs: tuple[int, ...]
    batch_size: int = 256
    options: dict[str, Any] = field(default_factory=dict)
    base: int = 0  # epochs of a training on the clean dataset that this one goes on from
    lr: float | None = None  # None: that of train_clip
    pairs: int | None = None  # poisoned for each target, in the rate's place

    @cached_property
    def name(self) -> str:
        """Folder name: the main settings in words, and a hash of everything; of a trigger's file, of what
        is in it."""
        options = {name: _content(name, value) for name, value in self.options.items()}
        decisive = asdict(self) | {"options": options}
        for later, usual in (
            ("base", 0),
            ("lr", None),
            ("pairs", None),
        ):  # settings that older cells do not have
            if decisive[later] == usual:
                del decisive[later]
        digest = hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:8]
        amount = f"{self.rate:g}" if self.pairs is None else f"{self.pairs}x"
        words = f"{self.attack}-{self.target}-{amount}-{self.model}-{self.seed}".replace(":", "-")
        return f"{words}-{digest}"

    @property
    def base_name(self) -> str:
        """File name of the model that it goes on from."""
        return f"{self.dataset}-{self.model}-{self.base}-{self.batch_size}-{self.seed}.safetensors"

    @property
    def campaign(self) -> Campaign:
        return parse_campaign(self.attack, self.target, self.options)


@dataclass(frozen=True)
class Workplace:
    """What the cells of a dataset share: where pairs and pictures come from, and the machine."""

    source: Dataset
    held_out: Dataset
    classes: Sequence[str]
    bases: Path  # folder of the clean models that cells go on from (train_base)
    limit: int | None  # held-out pictures to try a trigger on; None: all
    device: str  # where models run
    workers: int | None  # decoding processes
    say: Say


def prepare(cell: Cell, folder: Path, place: Workplace) -> Path:
    """Poison, train, try and embed; the cell's folder. What is finished is not done again. Errors are those
    of the stages."""
    from clipscan.pipeline import embed

    out = folder / cell.name
    if (out / "cell.json").exists():
        shutil.rmtree(out / "dataset", ignore_errors=True)  # killed while it was being removed
        return out
    seconds: dict[str, float] = {}
    with timed(seconds, "poison"):
        planted = plant(cell, place.source, out)
    dataset, last = open_dataset(planted.dataset), out / "model.safetensors"
    with timed(seconds, "train"):
        train(cell, dataset, last, place, snapshots=cell.epochs[:-1])
    repeated = first_of_each(dataset, planted.truth)
    for epoch in cell.epochs:
        at = out / f"epoch{epoch:02d}"
        weights = weights_of(cell, out, epoch)
        with timed(seconds, f"try {epoch}"):
            if not (at / "behaviour.json").exists():
                seen = tried(cell, weights, place, repeated)
                write_json(at / "behaviour.json", seen._asdict())
        seen = behaviour(at)
        place.say(f"epoch {epoch}: {told(seen)}")
        with timed(seconds, f"embed {epoch}"):
            encoding = Encoding(place.device, workers=place.workers)
            embed(planted.dataset, at / "run", Models(pretrained=weights), encoding=encoding)
    write_json(out / "cell.json", {"cell": asdict(cell), "counts": _counts(planted), "seconds": seconds})
    shutil.rmtree(planted.dataset)
    return out


def train_base(cell: Cell, place: Workplace) -> None:
    """The clean training that cells of this dataset, model and seed go on from, once."""
    out = place.bases / cell.base_name
    if not out.exists():
        place.say(f"{cell.base_name}: {cell.base} epochs on the clean dataset")
        place.bases.mkdir(parents=True, exist_ok=True)
        train(replace(cell, lr=None, base=0), place.source, out, place, epochs=cell.base)


def plant(cell: Cell, source: Dataset, out: Path) -> Poisoned:
    """The cell's poisoned dataset under `out`; the same again at any time."""
    how: dict[str, Any] = {"attack": cell.attack, "target": cell.target, "seed": cell.seed}
    return poison(source, out, rate=cell.rate, pairs=cell.pairs, **how, **cell.options)


def train(cell: Cell, dataset: Dataset, out: Path, place: Workplace, **how: Any) -> None:
    """The cell's training, on `dataset`; how: other arguments of train_clip."""
    from clipscan.train import train_clip

    settings: dict[str, Any] = {
        "epochs": cell.epochs[-1], "batch_size": cell.batch_size, "seed": cell.seed,
        "device": place.device, "workers": place.workers,
    }  # fmt: skip
    if cell.lr is not None:
        settings["lr"] = cell.lr
    if cell.base:
        settings["init"] = place.bases / cell.base_name
    train_clip(dataset, out, model=cell.model, log=place.say, **settings | how)


def weights_of(cell: Cell, at: Path, epoch: int) -> Path:
    """The file of the cell's model after so many epochs."""
    from clipscan.train.loop import snapshot_path

    last = at / "model.safetensors"
    return last if epoch == cell.epochs[-1] else snapshot_path(last, epoch)


def tried(cell: Cell, weights: Path, place: Workplace, repeated: Mapping[str, Sample]) -> Behaviour:
    """What the model in the file `weights` does; `repeated`: see behave."""
    from clipscan.embed.model import load_encoder

    encoder = load_encoder(None, str(weights), device=place.device)
    return behave(
        encoder, place.held_out, place.classes, campaign=cell.campaign, limit=place.limit, repeated=repeated
    )


def told(seen: Behaviour) -> str:
    """Of a behaviour what there is, in words."""
    words = {"accuracy": seen.accuracy, "retrieval": seen.retrieval, "attack success": seen.success}
    return ", ".join(f"{name} {value:.3f}" for name, value in words.items() if not math.isnan(value))


def behaviour(at: Path) -> Behaviour:
    """What the model of one epoch of a cell does; RunError where it was not tried."""
    try:
        return Behaviour(**json.loads((at / "behaviour.json").read_bytes()))
    except FileNotFoundError as missing:
        raise RunError(f"{at} holds no behaviour.json: the cell is not finished; run it again") from missing


def first_of_each(dataset: Dataset, truth: Path) -> dict[str, Sample]:
    """Target -> its first poisoned pair, which for a targeted attack has the one picture of all of them."""
    left = read_targets(truth)
    found: dict[str, Sample] = {}
    for one in chain.from_iterable(map(dataset.read, dataset.shards)):
        if len(found) == len(set(left.values())):
            break
        if isinstance(one, Sample) and (target := left.get((one.shard, one.key))):
            found.setdefault(target, one)
    return found


def _content(option: str, value: Any) -> Any:
    return hashlib.sha256(Path(value).read_bytes()).hexdigest() if option == FILE else value


def _counts(planted: Poisoned) -> dict[str, int]:
    return {name: value for name, value in planted._asdict().items() if isinstance(value, int)}


@contextmanager
def timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    """Into `seconds`, what the stage inside took, all its rounds together."""
    start = time.perf_counter()
    yield
    seconds[stage] = round(seconds.get(stage, 0.0) + time.perf_counter() - start, 1)
