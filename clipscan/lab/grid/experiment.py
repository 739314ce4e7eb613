"""What the demo does: train on poisoned data, try the trigger, scan, compare with the truth.

    OUT/dataset, truth.parquet, poison.json   as `poison` left them
    OUT/model.safetensors                     a CLIP trained on that dataset: it must have seen it
    OUT/model-2.safetensors ...               trained further, while the trigger did not work
    OUT/run                                   the scan
    OUT/result.json                           every figure, settings and seconds beside it

A finished stage is not done again. The laboratory's grid is another matter: runner.py.
"""

from __future__ import annotations

import json
import math
import resource
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from clipscan.data import Dataset, open_dataset
from clipscan.data.atomic import write_bytes
from clipscan.lab.attacks.campaigns import parse_campaign
from clipscan.lab.attacks.poisoning import Poisoned, read_truth
from clipscan.lab.grid.cells import timed
from clipscan.lab.grid.evaluate import NEAREST, SHARES, Behaviour, Grade, behave, grade
from clipscan.run import Progress

if TYPE_CHECKING:
    from clipscan.embed.model import Encoder

Say = Callable[[str], None]


@dataclass
class Result:
    """What came out. `seconds` per stage; `peak_mb`: of this process, decoders apart."""

    poisoned: Poisoned
    settings: dict[str, Any]
    behaviour: Behaviour | None = None
    trainings: int = 0  # the first one, and those that went on from it
    grades: list[Grade] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    peak_mb: int = 0

    def write(self, path: Path) -> None:
        record = asdict(self) | {
            "poisoned": self.poisoned._asdict(),
            "behaviour": self.behaviour and self.behaviour._asdict(),
            "grades": [one._asdict() for one in self.grades],
            "recall_shares": SHARES,
        }
        write_bytes(path, json.dumps(record, indent=1, default=str).encode())


class Further(NamedTuple):
    """While the trigger works on less than `success` of the held-out pictures, the training goes on: `epochs`
    more, at most `rounds` times."""

    success: float
    epochs: int
    rounds: int


NO_FURTHER = Further(0.0, 0, 0)


def conduct(
    planted: Poisoned,
    held_out: Dataset,
    classes: Sequence[str],
    out: Path,
    *,
    target: str = "banana",
    attack: str = "badnets",
    options: dict[str, Any] | None = None,
    training: dict[str, Any] | None = None,
    scanning: dict[str, Any] | None = None,
    limit: int | None = None,
    further: Further = NO_FURTHER,
    say: Say = lambda _: None,
    progress: Progress | None = None,
) -> Result:
    """Train, try, scan and grade one poisoned dataset; OUT/result.json holds the answer as well.

    `options` go to the attack, `training` to train_clip, `scanning` and `progress` to scan. Stages that
    are finished with the same settings are not done again. Errors are those of the stages.
    """
    from clipscan.pipeline import scan
    from clipscan.run import status

    options, training, scanning = options or {}, training or {}, scanning or {}
    settings = {"target": target, "attack": attack, **options, **training, **scanning}
    result, campaign = Result(planted, settings), parse_campaign(attack, target, options)

    def attempt(encoder: Encoder) -> Behaviour:
        seen = behave(encoder, held_out, classes, campaign=campaign, limit=limit)
        say(describe(seen, target))
        return seen

    model = learn(result, open_dataset(planted.dataset), out, training, further, attempt, say)
    with timed(result.seconds, "scan"):
        scan(planted.dataset, pretrained=model, out=out / "run", progress=progress, **scanning)
    result.seconds |= {
        f"scan: {stage.stage}": round(stage.seconds, 1) for stage in status(out / "run") if stage.seconds
    }
    result.grades = grade(out / "run", read_truth(planted.truth))
    result.seconds = _longest(result.seconds, out / "result.json")
    result.peak_mb = _peak_mb()
    result.write(out / "result.json")
    return result


def learn(
    result: Result,
    dataset: Dataset,
    out: Path,
    training: dict[str, Any],
    further: Further,
    attempt: Callable[[Encoder], Behaviour],
    say: Say,
) -> Path:
    """Train, and go on within the bound of `further`; the last model. What `attempt` says of it and how many
    trainings there were go into the result."""
    from clipscan.embed.model import load_encoder
    from clipscan.train import train_clip

    for model, how in _rounds(out, training, further):
        with timed(result.seconds, "train"):
            train_clip(dataset, model, log=say, **how)
        with timed(result.seconds, "try"):
            result.behaviour = attempt(load_encoder(None, str(model)))
        result.trainings += 1
        if result.behaviour.success >= further.success:
            break
    return model


def _rounds(out: Path, training: dict[str, Any], further: Further) -> Iterator[tuple[Path, dict[str, Any]]]:
    """(model, arguments of train_clip) of the first training and of those that go on from it."""
    model = out / "model.safetensors"
    yield model, training
    for number in range(2, 2 + further.rounds):
        before, model = model, out / f"model-{number}.safetensors"
        yield model, training | {"epochs": further.epochs, "init": before}


def describe(behaviour: Behaviour, target: str) -> str:
    """What the model does, in one line."""
    known = f"zero-shot accuracy {behaviour.accuracy:.3f}"
    if not math.isnan(behaviour.retrieval):
        known = f"own caption among the {NEAREST} nearest {behaviour.retrieval:.3f}"
    return (
        f"on {behaviour.pictures:,} held-out pictures: {known}; "
        f'called "{target}" with the trigger {behaviour.success:.3f}, without it {behaviour.false_alarm:.3f}'
    )


def _longest(seconds: dict[str, float], record: Path) -> dict[str, float]:
    """A stage found done took no time now; what it took when it was done is in the earlier record."""
    earlier = json.loads(record.read_bytes())["seconds"] if record.exists() else {}
    return {stage: max(took, earlier.get(stage, 0.0)) for stage, took in seconds.items()}


def _peak_mb() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak // (1 << 20 if sys.platform == "darwin" else 1 << 10)  # bytes there, kilobytes elsewhere
