"""Options that go together: a command names a group, `reading: Reading`, and has an option for each field.

Wording is that of cli/options.py and cli/training_options.py. Defaults are those of the group (in
run/options.py and train/options.py) or of the value that the command gives as its own default.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import fields
from functools import wraps
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from clipscan.cli import options, training_options
from clipscan.run.options import Compute, Encoding, Models, Ranking, Reading
from clipscan.train.options import Resources, Training
from clipscan.train.recipe import SafeClip

BY_NAME = inspect.Parameter.KEYWORD_ONLY

# Fields in the order of --help; a field without an option keeps its default.
OPTIONS: dict[type, dict[str, Any]] = {
    Models: {
        "model": options.Model, "pretrained": options.Pretrained,
        "trusted_model": options.TrustedModel, "trusted_pretrained": options.TrustedPretrained,
    },
    Ranking: {
        "method": options.Method, "k": options.K, "reference": options.Reference,
        "against": options.Against, "fraction": options.Fraction, "graph": options.Graph,
        "seed": options.Seed,
    },
    Reading: {
        "format": options.Format, "image_key": options.ImageKey, "text_key": options.TextKey,
        "roots": options.Root, "quoting": options.Quoting,
    },
    Encoding: {
        "device": options.Device, "precision": options.Precision, "compile": options.Compile,
        "batch_size": options.BatchSize, "workers": options.Workers,
    },
    Compute: {"backend": options.Backend, "devices": options.Devices, "threads": options.Threads},
    Training: {
        "model": training_options.Architecture, "init": training_options.Init,
        "epochs": training_options.Epochs, "batch_size": training_options.PairsAtOnce,
        "lr": training_options.LearningRate, "flip": training_options.Flip,
        "seed": training_options.TrainingSeed,
    },
    SafeClip: {
        "warmup_epochs": training_options.WarmupEpochs, "slow_rate": training_options.SlowRate,
        "growth": training_options.Growth, "pool": training_options.Pool,
    },
    Resources: {"device": options.Device, "workers": options.Workers},
}  # fmt: skip


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """The command as typer takes it: each parameter that is a group, written out as its options.

    Annotated[Encoding, "device", "workers"] has only these of its options.
    """
    hints = get_type_hints(command, include_extras=True)
    parameters, groups = [], {}
    for parameter in inspect.signature(command).parameters.values():
        group, chosen = _group(hints[parameter.name])
        if group is None:
            parameters.append(parameter.replace(kind=BY_NAME, annotation=hints[parameter.name]))
            continue
        default = group() if parameter.default is inspect.Parameter.empty else parameter.default
        groups[parameter.name] = default, chosen
        parameters += _written_out(group, chosen, default)

    @wraps(command)
    def flat(**given: Any) -> None:
        for name, (default, chosen) in groups.items():
            asked = {one: given.pop(one) for one in chosen}
            given[name] = type(default)(**vars(default) | asked)
        command(**given)

    flat.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    flat.__annotations__ = {one.name: one.annotation for one in parameters}
    return flat


def _group(hint: Any) -> tuple[type | None, list[str]]:
    """The group that an annotation names, None for none, and which of its fields have an option."""
    kind, chosen = (get_args(hint)[0], get_args(hint)[1:]) if get_origin(hint) is Annotated else (hint, ())
    if kind not in OPTIONS:
        return None, []
    return kind, list(chosen or OPTIONS[kind])


def _written_out(group: type, chosen: list[str], default: Any) -> Iterator[inspect.Parameter]:
    known = {field.name for field in fields(group)}
    for name in chosen:
        assert name in known, f"{group.__name__} has no {name}"
        yield inspect.Parameter(
            name, BY_NAME,
            default=getattr(default, name), annotation=OPTIONS[group][name],
        )  # fmt: skip
