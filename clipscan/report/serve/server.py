"""Puts the parts of `clipscan serve` together: rows, pictures, decisions, page, and a server on loopback."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from clipscan.report.album import why_none
from clipscan.report.page.pack import pack
from clipscan.report.page.review_data import Review, on_drop_list, read_review
from clipscan.report.page.write import render
from clipscan.report.read import read_facts
from clipscan.report.serve.answers import Answers
from clipscan.report.serve.choosing import Chooser
from clipscan.report.serve.decision_store import DecisionStore
from clipscan.report.serve.http import Server
from clipscan.report.serve.ranked_rows import Pair, RankedRows
from clipscan.report.serve.showing import NeighbourTables, Pictures
from clipscan.run.run import Run


@dataclass
class Serving:
    """A server that listens; nothing is answered before `forever`."""

    server: Server
    rows: RankedRows
    pictures: Pictures

    @property
    def url(self) -> str:
        """The address of the page, with its token."""
        return self.server.url

    def forever(self) -> None:
        """Answer until interrupted, then clean up."""
        try:
            self.server.serve_forever()
        except KeyboardInterrupt:
            pass
        finally:
            self.close()

    def close(self) -> None:
        """Free the port, the workers and the temporary file."""
        self.server.server_close()
        self.pictures.close()
        self.rows.close()


def open_server(run: Run, port: int = 0, *, blur: bool = False) -> Serving:
    """A server of the page of a scored run. port: 0 takes any that is free.

    Errors: RunError for a run that is not scored or a dataset that has changed, DataError for a
    decisions.json that is none.
    """
    facts = read_facts(run.path, run.record)
    review = read_review(run.path, facts)
    names = _names(review)
    rows = RankedRows(run.path, on_drop_list(run.path))
    members: dict[str, set[Pair]] = {}
    for group in review.data["groups"]:
        members.setdefault(group["kind"], set()).update(names[number] for number in group["members"])
    store = DecisionStore(run.path)
    none = why_none(run.dataset)
    choices = {"shards": rows.choices("shard"), "domains": rows.choices("domain")}

    def page() -> str:
        """With the decisions as they are now."""
        revision, decisions = store.latest()
        more = {"served": {"total": len(rows), **choices, "revision": revision, "decisions": decisions}}
        return render(run.path, facts, review.data | more, pack({}, {}, ()), {}, none, blur=blur, served=True)

    pictures = Pictures(run)
    answers = Answers(rows, Chooser(rows, members), pictures, NeighbourTables(run, rows), store, page)
    return Serving(Server(port, secrets.token_urlsafe(24), answers), rows, pictures)


def _names(review: Review) -> list[Pair]:
    samples, shards = review.data["samples"], review.data["shards"]
    return [(shards[shard], key) for shard, key in zip(samples["shard"], samples["key"], strict=True)]
