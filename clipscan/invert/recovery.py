"""invert(): from a run and a group, or a caption, to RUN/invert/NAME; refused where settings differ."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from clipscan.errors import InputError, RunError
from clipscan.invert.search import SearchBudget
from clipscan.invert.source import SuspectGroup, open_encoder, open_scanned_run, read_group
from clipscan.invert.trigger import FORMS
from clipscan.invert.work import Say, perform, prepare
from clipscan.invert.write import write
from clipscan.run import Run
from clipscan.run.file_io import read_json
from clipscan.run.run_folder import fingerprint, run_record

CONTROLS = 3
AGREED = 0.9  # share of a group's captions below which the user is told what of them is sought


class Recovery(NamedTuple):
    """A finished recovery: its folder, and result.json as it stands there."""

    folder: Path
    record: dict[str, Any]

    def summary(self) -> str:
        """The verdict with the figures behind it, in one line."""
        best = next(one for one in self.record["forms"] if one["form"] == self.record["form"])
        group, at = best["group"], best["cheapest"]
        line = f"{self.record['verdict']}: {best['form']}, success {group['success']:.3f}, "
        line += f"cost {group['cost']:.4f}"
        if at is None:
            return line
        control = best["controls"][at]
        least = "" if control["reached"] else " (not reached)"
        return f"{line}; control {control['success']:.3f}, {control['cost']:.4f}{least}"


def invert(
    run: Run,
    group: int | None = None,
    *,
    caption: str | None = None,
    model: str | None = None,
    pretrained: str | None = None,
    device: str = "auto",
    forms: Sequence[str] = tuple(FORMS),
    controls: int = CONTROLS,
    plan: SearchBudget = SearchBudget(),
    seed: int = 0,
    overwrite: bool = False,
    say: Say = lambda _: None,
) -> Recovery:
    """Recover the trigger of a group of `run`, or of a caption that the user names, into RUN/invert/.

    model, pretrained: the run's encoder, where run.json does not record
    where it lies. forms: of FORMS; the one in which the group stands out most is shown. controls: harmless
    captions to compare with. A finished recovery with the same settings is returned as it is; one with
    others is refused unless `overwrite`. Deterministic for a seed, on one device.

    InputError for arguments; RunError for a run without such a group, without captions or pictures, or made
    with other weights; DataError where too few pictures are left to try it on.
    """
    _check(group, caption, forms, controls, plan)
    sought = read_group(run.path, group) if group is not None else caption
    assert sought is not None
    asked = _asked(run, sought, forms, controls, plan, seed)
    folder = run / "invert" / _name(sought)
    if (done := _finished(folder, asked, overwrite)) is not None:
        return Recovery(folder, done)
    source = open_scanned_run(run)
    encoder = open_encoder(run, model, pretrained, device)
    job = prepare(run.path, source, encoder, sought, controls, plan, seed)
    say(
        f"{len(job.clean.search) + len(job.clean.choose):,} pictures to search with, "
        f"{len(job.clean.held_out):,} held out; {encoder.image_size} px on {encoder.device}"
    )
    if job.agreeing < AGREED:
        say(f"only {job.agreeing:.0%} of the group's captions agree; sought: {job.target.captions[0][:80]!r}")
    record, pictures = perform(job, forms, say)
    record = {"asked": asked, "size": sought.size if isinstance(sought, SuspectGroup) else None} | record
    shutil.rmtree(folder, ignore_errors=True)  # of other settings
    write(folder, record, pictures)
    return Recovery(folder, record)


def _check(
    group: int | None, caption: str | None, forms: Sequence[str], controls: int, plan: SearchBudget
) -> None:
    if (group is None) == (caption is None):
        raise InputError("name either the number of a group or a --caption, not both and not neither")
    if caption is not None and not caption.strip():
        raise InputError("--caption is empty")
    if not forms or not set(forms) <= set(FORMS):
        raise InputError(f"forms must be some of {', '.join(FORMS)}; got {', '.join(forms) or 'none'}")
    least = {"controls": (controls, 1), "steps": (plan.steps, 20), "batch": (plan.batch, 1)}
    for name, (value, limit) in least.items():
        if value < limit:
            raise InputError(f"{name}={value} must be at least {limit}")


def _asked(
    run: Run,
    sought: SuspectGroup | str,
    forms: Sequence[str],
    controls: int,
    plan: SearchBudget,
    seed: int,
) -> dict[str, Any]:
    """All that decides the result, as result.json keeps it."""
    embed = run_record(run.path).get("embed", {})
    if isinstance(sought, SuspectGroup):
        members = fingerprint(sorted(sought.members), sorted(sought.captions.items()))
        what = {"group": sought.number, "members": members, "caption": None}
    else:
        what = {"group": None, "members": None, "caption": sought}
    return {
        **what,
        "weights_sha256": embed.get("weights_sha256"),
        "listing": embed.get("listing"),
        "forms": list(forms),
        "controls": controls,
        **plan._asdict(),
        "seed": seed,
    }


def _name(sought: SuspectGroup | str) -> str:
    """The folder's name: the group's number, or a digest of the caption, which may hold anything."""
    if isinstance(sought, SuspectGroup):
        return str(sought.number)
    return f"caption-{hashlib.sha256(sought.encode('utf-8', 'surrogatepass')).hexdigest()[:10]}"


def _finished(folder: Path, asked: dict[str, Any], overwrite: bool) -> dict[str, Any] | None:
    """result.json of an earlier recovery with these settings; RunError for other settings."""
    earlier = {} if overwrite else read_json(folder / "result.json")
    there = earlier.get("asked")
    if earlier and there != asked:
        changed = [name for name in asked if not isinstance(there, dict) or there.get(name) != asked[name]]
        raise RunError(
            f"{folder} holds a recovery with other settings (differing: {', '.join(changed)}); "
            "--overwrite does it anew"
        )
    return earlier or None
