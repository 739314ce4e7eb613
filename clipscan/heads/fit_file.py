"""A Fit as a safetensors file: arrays, and settings as JSON in its metadata; read as a stranger's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from clipscan.data.atomic import replacing
from clipscan.embed.open_clip import INSTALL
from clipscan.errors import InputError, RunError
from clipscan.heads.statistics import Fit

KIND = "clipscan heads 1"  # the one entry of the metadata; two would change places from file to file
TYPES = {"prototype": np.float32} | dict.fromkeys(("mean", "scale", "floor", "unit", "threshold"), np.float64)
AGAIN = "make it with: clipscan heads fit CLEAN_DATASET --out FILE"


def save_fit(path: Path, fit: Fit) -> None:
    """Write `path`; what was there before is replaced by a rename."""
    _safetensors()
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    arrays = {name: np.array(getattr(fit, name), kind, order="C") for name, kind in TYPES.items()}
    with replacing(path) as (draft,):
        try:
            save_file(arrays, draft, {KIND: json.dumps(fit.settings)})
        except SafetensorError as error:  # of a full disk, too: it is no OSError
            raise RunError(f"{path} cannot be written: {error}") from error


def load_fit(path: Path) -> Fit:
    """InputError for what is no file of save_fit's: another kind, misfitting shapes, numbers not finite."""
    _safetensors()
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise InputError(f"there is no file {path}; {AGAIN}")
    try:
        with safe_open(path, framework="numpy") as file:
            told = file.metadata() or {}
            if KIND not in told or set(file.keys()) != set(TYPES):
                raise InputError(f"{path} holds no fit of clipscan heads; {AGAIN}")
            arrays = {name: file.get_tensor(name) for name in TYPES}
    except InputError:
        raise
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise InputError(f"{path} is not a safetensors file ({error}); {AGAIN}") from error
    _check(path, arrays)
    threshold = float(arrays.pop("threshold"))
    return Fit(**arrays, threshold=threshold, settings=_settings(path, told[KIND]))


def _check(path: Path, arrays: dict[str, Any]) -> None:
    """Types, shapes that belong together, finite numbers, nothing to be divided by that is not above zero."""
    for name, kind in TYPES.items():
        if arrays[name].dtype != kind:
            raise InputError(f"{path}: {name} is {arrays[name].dtype}, not {np.dtype(kind)}; {AGAIN}")
        if not np.isfinite(arrays[name]).all():
            raise InputError(f"{path}: {name} holds NaN or infinite numbers; {AGAIN}")
    grid = arrays["mean"].shape  # (L, H + 1)
    whole = len(grid) == 2 and grid[0] >= 1 and grid[1] >= 2
    shapes = {
        "prototype": (*grid, *arrays["prototype"].shape[-1:]),
        "scale": grid,
        "unit": (2,),
        "threshold": (),
    }
    shapes |= {"floor": (grid[1] - 1,)} if whole else {}
    for name, shape in shapes.items():
        if not whole or arrays[name].shape != shape:
            raise InputError(f"{path}: {name} is {arrays[name].shape} beside a mean of {grid}; {AGAIN}")
    if min(arrays["scale"].min(), arrays["unit"].min()) <= 0:
        raise InputError(f"{path}: a deviation is not above zero; {AGAIN}")


def _settings(path: Path, text: str) -> dict[str, Any]:
    """The settings, if they name an encoder by strings and say how often clean pictures pass."""
    try:
        settings = json.loads(text)
        named = [settings["encoder"]["model"], settings["encoder"]["precision"]]
        place = settings["place"]["pretrained"]
        if all(isinstance(one, str) for one in [*named, place or ""]) and 0 < settings["rate"] < 1:
            return dict(settings)
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    raise InputError(f"{path} does not say which encoder it belongs to; {AGAIN}")


def _safetensors() -> None:
    try:
        import safetensors  # noqa: F401
    except ModuleNotFoundError as missing:
        raise ImportError(f"{INSTALL} (no module named 'safetensors')") from missing
