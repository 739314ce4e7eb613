"""report/index.html: one file, nothing loaded from anywhere; safe to open and to send on.

Captions, names and pictures come from strangers. Jinja escapes every value, `visible` shows hidden
characters, the scripts make text nodes only, pictures are decoded in a worker and encoded anew, and a
Content-Security-Policy allows data: pictures, and our style sheet and script by their hashes, nothing else.
Without scripts the page shows its summary, the first suspects and the groups.
"""

from __future__ import annotations

import re
import shlex
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from clipscan.data.atomic import replacing
from clipscan.report import glossary, histogram, visible_text
from clipscan.report.album import Album, Want, make_album, why_none
from clipscan.report.choose import method_of
from clipscan.report.facts import Facts
from clipscan.report.page import bundle
from clipscan.report.page.border_data import bins_of
from clipscan.report.page.pack import Pack, pack
from clipscan.report.page.picture_sizes import sized
from clipscan.report.page.review_data import read_review
from clipscan.report.partition import read_split
from clipscan.report.read import read_facts
from clipscan.report.recovered_triggers import read_triggers
from clipscan.report.thumbnails import Thumbnail
from clipscan.run.run_folder import run_record

if TYPE_CHECKING:
    from clipscan.data.dataset import Dataset

HERE = Path(__file__).parent
MANY = 1200  # pictures of the review, from which on the sections without scripts are shorter
ROOM = {True: 13 << 20, False: 9 << 20}  # bytes of the review's pictures; the others take the rest
DETAILS = {
    "fill",
    "mean",
    "std",
    "resize_mode",
    "interpolation",
    "batch_size",
    "format",
    "listing",
    "metric",
    "options",
    "populations",
}


def write_page(folder: Path, dataset: Dataset | None, *, blur: bool = False) -> Path:
    """Write RUN/report/index.html from the run's files and return its path. The same run gives the same page.

    `dataset` provides the pictures; without it the page has none and says so. A picture that cannot be
    shown is a placeholder with the reason. blur: pictures are blurred until they are asked for.
    RunError where the run has no run.json or suspects.parquet.
    """
    facts = read_facts(folder, run_record(folder))
    review = read_review(folder, facts)
    many = len(review.pictures) > MANY
    facts = facts.shortened() if many else facts
    wants = sized(dataset, review.pictures, ROOM[many])
    album = make_album(dataset, [*facts.wants(), *wants.values()])
    page = folder / "report" / "index.html"
    page.parent.mkdir(exist_ok=True)
    with replacing(page) as [draft]:
        packed = pack(album, wants, facts.wants())
        text = render(folder, facts, review.data, packed, album, why_none(dataset), blur=blur)
        draft.write_text(text, encoding="utf-8", errors="replace")
    return page


def render(
    folder: Path, facts: Facts, review: dict[str, Any], packed: Pack, album: Album, no_pictures: str, *,
    blur: bool = False, served: bool = False,
) -> str:  # fmt: skip
    """The page as HTML. served: by `clipscan serve`, whose pictures and rows it may ask for."""
    triggers = read_triggers(folder)
    style = bundle.style(triggers=bool(triggers))
    script = bundle.script()
    data = review | {"title": title_of(facts.record), "blur": blur, "noPictures": no_pictures}
    reference = glossary.reference_of(facts.record.get("score", {}).get("reference", ""))
    k = facts.record.get("score", {}).get("k")
    return template("page.html.j2").render(
        style=Markup(style),  # our own file, not a stranger's text
        script=Markup(script),
        herald=Markup(bundle.HERALD),
        policy=bundle.policy(style, script, served=served),
        data=Markup(bundle.json_block(data | packed.places())),
        pack=Markup(packed.text),  # base64
        blur=blur,
        number=packed.number,
        title=title_of(facts.record),
        run=shlex.quote(str(folder)),
        drop_file=repr(str(folder / "drop.parquet")),
        facts=facts,
        triggers=triggers,
        counts=facts.counts,
        version=str(facts.record.get("clipscan", "")),
        source=str(facts.record.get("dataset", {}).get("source", "")),
        format=str(facts.record.get("dataset", {}).get("format", "dataset")),
        shards=_shard_count(facts.record.get("dataset", {}).get("shards")),
        method=method_of(facts.record),
        k=k,
        reference=reference,
        rate_limit=glossary.rate_limit(k, reference),
        settings=settings(facts.record),
        picture=lambda want: _picture(album, want),
        no_pictures=no_pictures,
        histogram=_histogram(folder, facts),
        split=read_split(folder),
        size=histogram,
        graph_skipped=_graph_skipped(facts.record),
    )


def title_of(run_json: dict[str, Any]) -> str:
    """The dataset's name: the last part of its source that is no brace list, without extension."""
    source = str(run_json.get("dataset", {}).get("source", ""))
    named = [part for part in re.split(r"/|::", source) if part and not re.search(r"\{.*\}", part)]
    return re.sub(r"\.(tar|csv|tsv|parquet|npy|npz)$", "", named[-1]) if named else source or "a dataset"


def settings(run_json: dict[str, Any]) -> list[tuple[str, str]]:
    """The settings, as (label, value), both as text, in the order of run.json, less what few readers need."""
    listed = [("clipscan", str(run_json.get("clipscan", "")))]
    for section in ("embed", "score"):
        for name, value in (run_json.get(section) or {}).items():
            if name not in DETAILS and value not in (None, "", [], {}):
                listed.append((str(name).replace("_", " "), _in_words(value)))
    return [(label, value) for label, value in listed if value]


def brief(value: str) -> str:
    """A hash by its first twelve digits; anything else as it is."""
    return f"{value[:12]}…" if re.fullmatch(r"[0-9a-f]{32,}", value) else value


def _in_words(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_in_words(one)}" for name, one in value.items())
    if isinstance(value, list):
        return ", ".join(map(_in_words, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


@cache
def template(name: str) -> Any:
    """A template of this folder, every value in it escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "visible": visible_text.visible,
        "plain": visible_text.plain,
        "count": visible_text.count,
        "number": visible_text.number,
        "percent": visible_text.percent,
        "about": glossary.about,
        "label": glossary.label,
        "brief": brief,
    }
    return environment.get_template(name)


def _picture(album: Album, want: Want) -> Thumbnail:
    return album.get(want) or Thumbnail()


def _shard_count(shards: Any) -> int | None:
    """run.json may list the shards or count them."""
    return len(shards) if isinstance(shards, list) else shards if isinstance(shards, int) else None


def _histogram(folder: Path, facts: Facts) -> histogram.Drawing | None:
    bins = bins_of(folder, facts)
    return histogram.draw(bins) if bins else None


def _graph_skipped(run_json: dict[str, Any]) -> str:
    """Why there are no groups, as far as run.json says."""
    for graph in (run_json.get("graph"), run_json.get("score", {}).get("graph")):
        if isinstance(graph, dict):
            graph = graph.get("skipped") or graph.get("reason")
        if isinstance(graph, str):
            return graph
    return ""
