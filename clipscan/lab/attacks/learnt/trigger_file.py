"""A learnt trigger as a file: safetensors, with a line of JSON that says what it is. Read without trust.

blto      the generator's weights (learnt/generator.py:shapes), float32
badclip   "patch", uint8 [p, p, 3]
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from clipscan.data.atomic import write_bytes
from clipscan.errors import InputError
from clipscan.lab.attacks.learnt.generator import shapes

TRIGGER_KEY = "clipscan_trigger"  # in the metadata
SUFFIX = ".safetensors"
KINDS = ("blto", "badclip")
PLACES = ("middle", "corner", "random")

MAX_BYTES = 32 << 20  # a canvas of 1024 px has 13 MB; nothing here is compressed, so this bounds memory too
MAX_SIDE = 1024  # px of a canvas or a patch
MAX_WIDTH = 64  # channels inside a generator: beyond it a picture would take seconds


class Learnt(NamedTuple):
    """A checked trigger. about: attack, target, and for a patch its share and place; what else craft said."""

    arrays: dict[str, NDArray[Any]]
    about: dict[str, Any]


def write_learnt(path: Path, arrays: dict[str, NDArray[Any]], about: dict[str, Any]) -> Path:
    """The file, by rename; the same content gives the same bytes."""
    from safetensors.numpy import save

    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    write_bytes(path, save(contiguous, {TRIGGER_KEY: json.dumps(about, sort_keys=True)}))
    return path


def read_learnt(file: str | Path, attack: str) -> Learnt:
    """The trigger in `file`, which must be of that attack. Kept in memory until the file changes.

    InputError for a file that is missing, is none of ours, belongs to the other attack, or holds sizes,
    types or numbers that no trigger has. ImportError when safetensors is missing.
    """
    path = Path(file)
    try:
        state = path.stat()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise InputError(f"cannot read {file}: {error}; {_remedy(attack)}") from error
    return _read(str(path.absolute()), attack, state.st_size, (state.st_mtime_ns, state.st_ino))


@lru_cache(maxsize=8)
def _read(file: str, attack: str, size: int, _stamp: tuple[int, int]) -> Learnt:
    try:
        from safetensors import SafetensorError, safe_open
    except ModuleNotFoundError as missing:
        raise ImportError("learnt triggers need safetensors: pip install 'clipscan[embed]'") from missing

    if size > MAX_BYTES:
        raise _refused(file, attack, f"it has {size:,} bytes, more than {MAX_BYTES:,}")
    try:
        with safe_open(file, framework="np") as content:
            about = _about((content.metadata() or {}).get(TRIGGER_KEY, ""))
            names = content.keys()  # a list: this is no dict
            found = {name: _header(content, name) for name in names}
            if wrong := _misfit(about, found, attack):
                raise _refused(file, attack, wrong)
            arrays = {name: content.get_tensor(name) for name in found}
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise error if isinstance(error, InputError) else _refused(file, attack, str(error)) from error
    if broken := [name for name, array in arrays.items() if not np.isfinite(array).all()]:
        raise _refused(file, attack, f"{broken[0]} has NaN or infinite numbers")
    return Learnt(arrays, about)


Header = tuple[str, tuple[int, ...]]  # (safetensors' name of the type, shape)


def _header(content: Any, name: str) -> Header:
    part = content.get_slice(name)
    return part.get_dtype(), tuple(part.get_shape())


def _about(text: str) -> dict[str, Any]:
    """The line of JSON; {} for anything but an object. Deep nesting is a RecursionError, refused alike."""
    try:
        about = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return about if isinstance(about, dict) else {}


def _misfit(about: dict[str, Any], found: dict[str, Header], attack: str) -> str:
    """Why this is no trigger of that attack; "" if it is one."""
    if about.get("attack") != attack:
        kind = about.get("attack")
        return f"it is a trigger of {kind}" if kind in KINDS else "it is no trigger of ours"
    if attack == "blto":
        return _misfit_generator(found)
    return _misfit_patch(found, about.get("share"), about.get("place"))


def _misfit_generator(found: dict[str, Header]) -> str:
    width, size = (found.get(name, ("", (0,)))[1][-1:] for name in ("fine.bias", "canvas"))
    if not (width and size and 1 <= width[0] <= MAX_WIDTH and 1 <= size[0] <= MAX_SIDE):
        return f"its generator is missing, wider than {MAX_WIDTH} or for more than {MAX_SIDE} px"
    wanted = {name: ("F32", shape) for name, shape in shapes(width[0], size[0]).items()}
    odd = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
    return f"{odd[0][:40]!r} is {found.get(odd[0])}, wanted {wanted.get(odd[0])}" if odd else ""


def _misfit_patch(found: dict[str, Header], share: object, place: object) -> str:
    kind, shape = found.get("patch", ("", ()))
    square = len(shape) == 3 and shape[0] == shape[1] and shape[2] == 3 and 1 <= shape[0] <= MAX_SIDE
    if found.keys() != {"patch"} or kind != "U8" or not square:
        return f"it must hold one patch, uint8 [p, p, 3] with p up to {MAX_SIDE}; it holds {str(found)[:200]}"
    if not (isinstance(share, float) and 0 < share <= 1 and place in PLACES):
        return f"share {str(share)[:40]!r} must be over 0, at most 1, place one of {', '.join(PLACES)}"
    return ""


def _refused(file: str, attack: str, reason: str) -> InputError:
    return InputError(f"{file} is not used: {reason}; {_remedy(attack)}")


def _remedy(attack: str) -> str:
    return f"make one with `clipscan lab craft {attack} MODEL DATASET --out FILE`"
