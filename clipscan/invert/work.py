"""One recovery from end to end: read, search in every form for the group and its controls, compare, draw."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from clipscan.embed.model import Encoder
from clipscan.invert.caption_families import SAME, DistinctCaptions, Floats
from clipscan.invert.contest import Target, contest
from clipscan.invert.search import Clean, SearchBudget, recover, success
from clipscan.invert.source import ScannedRun, SuspectGroup, clean_pictures, read_captions
from clipscan.invert.targets import caption_target, control_targets, group_target
from clipscan.invert.trigger import FORMS, Trigger
from clipscan.invert.verdict import Comparison, Outcome, as_json, most_telling, verdict
from clipscan.invert.write import drawn

Say = Callable[[str], None]
NAMED = 8  # captions of the target that the record lists


class Job(NamedTuple):
    """What is sought, with what, and where it is tried."""

    encoder: Encoder
    words: DistinctCaptions
    target: Target
    agreeing: float  # share of the group's members behind the target's captions
    controls: list[Target]
    clean: Clean
    plan: SearchBudget
    seed: int


def prepare(
    run: Path,
    source: ScannedRun,
    encoder: Encoder,
    sought: SuspectGroup | str,
    controls: int,
    plan: SearchBudget,
    seed: int,
) -> Job:
    """Captions, controls and clean pictures for a group, or for a caption that the user names."""
    words = read_captions(source, seed)
    if isinstance(sought, str):
        target, agreeing, members = caption_target(encoder, words, sought), 1.0, frozenset[tuple[str, str]]()
    else:
        (target, agreeing), members = group_target(encoder, words, sought), sought.members
    others = control_targets(run, words, target, controls)
    taken = words.centred(np.concatenate([one.vectors for one in [target, *others]]))

    def usual(captions: Floats) -> Any:
        return (words.centred(captions) @ taken.T).max(axis=1) < SAME

    clean = clean_pictures(source, encoder, members, usual, seed)
    return Job(encoder, words, target, agreeing, others, clean, plan, seed)


def perform(job: Job, forms: Sequence[str], say: Say) -> tuple[dict[str, Any], dict[str, bytes]]:
    """(what result.json tells, the PNGs by name): of each form, for the group and every control."""
    began = time.monotonic()
    comparisons: list[Comparison] = []
    triggers: dict[str, list[Trigger]] = {}
    for form in forms:
        found = [_recovered(job, form, one, say) for one in [job.target, *job.controls]]
        triggers[form] = [trigger for trigger, _ in found]
        comparisons.append(Comparison(form, found[0][1], [outcome for _, outcome in found[1:]]))
    best = most_telling(comparisons)
    record = {
        "captions": job.target.captions[:NAMED],
        "captions_in_all": len(job.target.captions),
        "members_agreeing": round(job.agreeing, 4),
        "image_size": job.clean.size,
        "pictures": {name: len(part) for name, part in job.clean._asdict().items()},
        "verdict": verdict(comparisons),
        "form": best.form,
        "forms": [as_json(one) for one in comparisons],
        "seconds": round(time.monotonic() - began, 1),
    }
    return record, _pictures(job, triggers[best.form], best.cheapest)


def _recovered(job: Job, form: str, target: Target, say: Say) -> tuple[Trigger, Outcome]:
    match, size = contest(target, job.words), job.clean.size
    trigger, reached = recover(job.encoder, job.clean, match, FORMS[form], job.plan, job.seed)
    outcome = Outcome(
        target.captions[0],
        target.pairs,
        success(job.encoder, job.clean.held_out, match, None, job.seed),
        success(job.encoder, job.clean.held_out, match, trigger, job.seed),
        trigger.cost(size),
        trigger.area(size),
        trigger.strength(),
        reached,
    )
    say(f"{form:<9}{describe(outcome)}")
    return trigger, outcome


def _pictures(job: Job, triggers: list[Trigger], cheapest: int | None) -> dict[str, bytes]:
    pictures = drawn("", triggers[0], job.clean.held_out, job.seed)
    if cheapest is not None:
        pictures |= drawn("control_", triggers[1 + cheapest], job.clean.held_out, job.seed)
    return pictures


def describe(one: Outcome) -> str:
    """A recovery in one line."""
    reached = "" if one.reached else "(not reached) "
    return (
        f"success {one.success:.3f} {reached}before {one.before:.3f}  cost {one.cost:.4f} = "
        f"area {one.area:.4f} x strength {one.strength:.2f}  {one.caption[:60]!r} ({one.pairs:,} pairs)"
    )
