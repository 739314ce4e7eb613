"""What trials of GPU back-ends have found (trial.py), kept in the user's cache folder.

A verdict holds for one version of clipscan, one build of the kernels, these GPUs and this driver: a file of
its own, named by the digest of these facts. A file that cannot be read is as good as none, and where none can
be written each process has a trial of its own.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
from contextlib import suppress
from pathlib import Path

import clipscan
from clipscan.engine.trial import Verdict

DRIVERS = ("/sys/module/nvidia/version", "/proc/driver/nvidia/version", "/sys/module/amdgpu/version")

log = logging.getLogger("clipscan")


def facts(name: str, parts: list[str]) -> dict[str, str]:
    """What a verdict on the back-end `name` holds for; `parts` are its own: the build, each GPU."""
    return {
        "clipscan": clipscan.__version__,
        "back-end": name,
        "system": platform.release(),  # of which drivers are a part
        "driver": "; ".join(filter(None, map(_text, DRIVERS))),
        **{f"part {number}": part for number, part in enumerate(parts)},
    }


def file_of(facts: dict[str, str]) -> Path | None:
    """Where the verdict on these facts is kept; None where this user has no folder for such things."""
    cache = os.environ.get("XDG_CACHE_HOME", "")
    try:
        folder = Path(cache) if os.path.isabs(cache) else Path.home() / ".cache"
    except RuntimeError:
        return None
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    return folder / "clipscan" / "trials" / f"{digest[:32]}.json"


def read(facts: dict[str, str]) -> Verdict | None:
    """The verdict kept for just these facts, if there is one that can be read."""
    if (file := file_of(facts)) is None:
        return None
    try:
        kept = json.loads(file.read_bytes())
        reason = kept["reason"]
        known = kept["facts"] == facts and (reason is None or isinstance(reason, str))
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None
    return Verdict(reason) if known else None


def keep(facts: dict[str, str], verdict: Verdict) -> None:
    if (file := file_of(facts)) is None:
        return
    # Not data/atomic.py: the engine stands beside data, and a verdict that is lost costs a trial, no error.
    draft = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text(json.dumps({"facts": facts, "reason": verdict.reason}, indent=1))
        os.replace(draft, file)
    except OSError as error:
        log.debug("the trial of a back-end is not kept: %s", error)
        with suppress(OSError):
            draft.unlink(missing_ok=True)


def _text(path: str) -> str:
    try:
        return " ".join(Path(path).read_text(errors="replace").split())
    except OSError:
        return ""
