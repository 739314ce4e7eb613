"""A run in a notebook: its counts, what is dropped, the first groups with pictures, as one piece of HTML."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from clipscan.errors import ClipscanError
from clipscan.report.album import Want, make_album
from clipscan.report.facts import Facts, PageGroup
from clipscan.report.page.write import template, title_of
from clipscan.report.read import read_facts
from clipscan.report.thumbnails import Thumbnail
from clipscan.run.run import Run
from clipscan.run.run_folder import run_record

GROUPS, PICTURES = 4, 8  # shown
SIDE, QUALITY = 96, 80  # of a picture


class Shown(NamedTuple):
    """What a notebook shows of a run. page: the file to decide on; html: the summary, which loads nothing and
    runs nothing."""

    page: Path
    html: str

    def _repr_html_(self) -> str:
        return self.html


class Glimpse(NamedTuple):
    """A group, why it is one, and its first pictures."""

    group: PageGroup
    told: str
    pictures: list[Thumbnail]


def show(run: Any, inline: bool = True) -> Shown:
    """A finished run for a notebook: counts, what is dropped and the first groups; its page is the rest.

    run: its folder, or what `clipscan.scan` returned. inline: with pictures, where the dataset is at hand.
    RunError for a folder that is no scored run.
    """
    folder = Path(getattr(run, "out", run))
    facts = read_facts(folder, run_record(folder))
    groups = _first(facts)
    wants = {
        group.number: [Want(*want[:3], SIDE, QUALITY) for want in group.members[:PICTURES]]
        for group, _ in groups
    }
    album = (
        make_album(_dataset(folder), [want for several in wants.values() for want in several])
        if inline
        else {}
    )
    glimpses = [
        Glimpse(
            group, told, [album[want] for want in wants[group.number] if want in album and album[want].uri]
        )
        for group, told in groups
    ]
    page = folder / "report" / "index.html"
    html = template("notebook.html.j2").render(
        title=title_of(facts.record), facts=facts, counts=facts.counts, glimpses=glimpses, page=str(page)
    )
    return Shown(page, html)


def _first(facts: Facts) -> list[tuple[PageGroup, str]]:
    """Convicted populations, other groups of suspects, near-copies."""
    convicted = [
        (group, f"{one.says}; {one.figures}" if one.says else one.figures) for one, group in facts.convicted
    ]
    return [*convicted, *((group, "") for group in (*facts.alike, *facts.groups))][:GROUPS]


def _dataset(folder: Path) -> Any:
    """The dataset of the run, None where it is gone or no longer what was scanned."""
    try:
        return Run(folder).dataset
    except (ClipscanError, OSError):
        return None
