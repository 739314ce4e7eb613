"""Which back-end serves a search: the one that is asked for, or the first that can and is right."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

from clipscan.engine import trial, verdicts
from clipscan.engine.arrays import Rows
from clipscan.engine.devices import Devices
from clipscan.engine.libraries import device_of
from clipscan.engine.protocol import Backend
from clipscan.errors import BackendError, DeviceLost, InputError

MODULES = {  # "auto" takes the first that can serve
    "cuda": "clipscan.engine.cuda",
    "triton": "clipscan.engine.triton",
    "cpu": "clipscan.engine.cpu",
    "reference": "clipscan.engine.reference",
}
ON_GPU = ("cuda", "triton")

log = logging.getLogger("clipscan")
T = TypeVar("T")


def reasons() -> dict[str, str | None]:
    """Back-end -> why it cannot serve here, None where it can."""
    return {name: _unavailable(name) if name in ON_GPU else None for name in MODULES}


def trials() -> dict[str, str]:
    """GPU back-end that can serve -> what a trial of it on all devices has found, as far as it is known."""
    found = {}
    for name in ON_GPU:
        if _unavailable(name) is None and not (name == "triton" and _module(name).interpreted()):
            verdict = verdicts.read(facts := _facts(name, None))
            if verdict is None:
                found[name] = "not tried yet"
            else:
                found[name] = (
                    f"{verdict.reason}. {_remedy(name, facts, verdict)}" if verdict.reason else "right"
                )
    return found


def choose(backend: str, k: int, d: int, devices: str = "auto", near: str = "auto") -> tuple[str, Backend]:
    """(name, back-end) for k neighbours of rows of width d. A named one that cannot serve raises BackendError
    with the reason; InputError for `devices` that name none.

    devices: "auto" takes all there are, "cpu" none, "0" or "0,2" those GPUs. near: where the rows lie, as
    near() has it: of all GPUs that one is taken, which is a preference and no demand.
    """
    if backend != "auto" and backend not in MODULES:
        raise BackendError(f"no back-end '{backend}' in this build; it has: {', '.join(MODULES)}")
    names = device_names(near if devices == "auto" else devices)
    if backend == "auto":
        backend = _first(k, d, names, demanded=devices != "auto")
    elif reason := _module(backend).LIMITS.refusal(k, d):
        raise BackendError(f"back-end '{backend}' {reason}")
    if backend in ON_GPU:
        return backend, gpus(backend, names)
    return backend, _module(backend)


def device_names(devices: str) -> tuple[str, ...] | None:
    """ "auto" -> None, "cpu" -> (), "0,2" -> ("cuda:0", "cuda:2")."""
    if devices in ("auto", "cpu"):
        return None if devices == "auto" else ()
    try:
        return tuple(f"cuda:{int(number)}" for number in devices.split(","))
    except ValueError:
        raise InputError(
            f"devices takes auto, cpu, or numbers of GPUs such as 0,1; got {devices!r}"
        ) from None


@cache
def gpus(name: str, devices: tuple[str, ...] | None) -> Devices:
    """A back-end on GPUs: streams and what was learnt of lost devices are kept from search to search."""
    module = _module(name)
    return Devices(module.engines(devices), module.LIMITS)


def with_fallback(backend: str, search: Callable[[], T], again: Callable[[], T]) -> T:
    """search(); where nobody asked for this back-end by name and its devices fail, again() on the CPU."""
    try:
        return search()
    except DeviceLost as reason:
        if backend != "auto":
            raise
        log.warning("the CPU takes over: %s", reason)
        return again()


def near(*sets: Rows | None) -> str:
    """Where the rows lie, as `devices` has it: their GPU, or "auto" for rows on the host."""
    found = {device_of(part) for rows in sets if rows is not None for part in rows.parts}
    return found.pop().partition(":")[2] if len(found) == 1 and "cpu" not in found else "auto"


def _first(k: int, d: int, names: tuple[str, ...] | None, demanded: bool) -> str:
    if names == ():
        return "cpu"
    refused = []
    for name in ON_GPU:
        reason = _module(name).LIMITS.refusal(k, d) or _unavailable(name) or _unfit(name, names)
        if not reason:
            return name
        refused.append(f"{name} {reason}")
    if names and demanded:
        raise BackendError(f"no back-end serves {', '.join(names)}: {'; '.join(refused)}")
    return "cpu"


@cache
def _unavailable(name: str) -> str | None:
    """Asked once: the answer stays, and a driver takes its time."""
    return _module(name).available()  # type: ignore[no-any-return]


@cache
def _unfit(name: str, devices: tuple[str, ...] | None) -> str | None:
    """Why a GPU back-end is not taken unasked. Said once a process."""
    if name == "triton" and _module(name).interpreted():  # for tests, on request
        return "is interpreted here"
    try:
        facts = _facts(name, devices)
    except BackendError as error:
        log.warning("back-end '%s' is left out: %s", name, error)
        return str(error)
    verdict = verdicts.read(facts) or _tried(name, devices, facts)
    if verdict.reason:
        log.warning("back-end '%s' is left out: %s. %s", name, verdict.reason, _remedy(name, facts, verdict))
    return verdict.reason


def _facts(name: str, devices: tuple[str, ...] | None) -> dict[str, str]:
    return verdicts.facts(name, _module(name).identity(devices))


def _tried(name: str, devices: tuple[str, ...] | None, facts: dict[str, str]) -> trial.Verdict:
    log.info("back-end '%s' is tried on these devices, once for this driver and build", name)
    verdict = trial.run(MODULES[name], devices)
    if verdict.lasting:
        verdicts.keep(facts, verdict)
    return verdict


def _remedy(name: str, facts: dict[str, str], verdict: trial.Verdict) -> str:
    anyway = f"backend='{name}' takes it all the same"
    if verdict.lasting and (file := verdicts.file_of(facts)):
        return f"To have it tried again, remove {file}; {anyway}"
    return f"The next process tries it again; {anyway}"


def _module(name: str) -> Any:
    return importlib.import_module(MODULES[name])
