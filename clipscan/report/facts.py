"""The data of the page: one run, in the shape of the template. Plain records, no files."""

from __future__ import annotations

from typing import Any, NamedTuple

from clipscan.report.album import Want
from clipscan.report.convicted import Convicted
from clipscan.scores.estimate import Estimate


class SampleCounts(NamedTuple):
    """Head counts; None where a stage did not run."""

    listed: int
    embedded: int
    bad: int
    suspects: int
    groups: int | None
    dropped: int | None

    @property
    def kept(self) -> int:
        """Embedded and not dropped."""
        return self.embedded - (self.dropped or 0)

    @property
    def missing(self) -> int:
        """Listed, but neither embedded nor bad: 0, or the run is not whole."""
        return self.listed - self.embedded - self.bad


class OtherScore(NamedTuple):
    """A suspect by another score."""

    name: str
    value: float
    rank: int
    share: float  # 1 the most suspicious of all samples, 0 the least; logarithmic in the rank between


class Neighbour(NamedTuple):
    want: Want
    caption: str
    distance: float


class Suspect(NamedTuple):
    want: Want
    rank: int
    dropped: bool  # it is on the drop list
    caption: str
    score: float
    why: str
    others: list[OtherScore]  # most suspicious first
    neighbours: list[Neighbour]  # nearest first


class PageGroup(NamedTuple):
    """Near-identical pictures, or suspects: a convicted population, or captions that say the same."""

    number: int  # in groups.parquet
    verdict: str
    size: int
    distance_bound: float  # between pictures, or between captions
    agreement: float  # mean cosine between the members' captions; NaN without captions
    distinct_captions: int
    captions: list[tuple[str, int]]  # the commonest among the members listed, and how often
    members: list[Want]


class Channel(NamedTuple):
    """Suspects that the scores of one kind find too: among the top share of one of `names`."""

    names: list[str]
    suspects: int


class BadKind(NamedTuple):
    """Samples that could not be read for one reason (numbers in it aside)."""

    reason: str
    samples: int
    examples: list[tuple[str, str]]  # shard, key


class Facts(NamedTuple):
    """A run, as the page shows it."""

    record: dict[str, Any]  # run.json
    counts: SampleCounts
    suspects: list[Suspect]
    populations: list[Convicted] | None  # all that were convicted; None where conviction was not tried
    convicted: list[tuple[Convicted, PageGroup]]  # the first of them
    alike: list[PageGroup]  # of other suspects
    alone: Channel | None  # found by density scores, None where there are none
    mismatched: Channel | None  # found by scores that compare pictures with captions
    estimate: Estimate | None  # of how many to drop, as run.json has it
    dropping: str  # what is dropped, and by which rule
    learnt: str  # how many pairs the model finds, in words
    doubt: str  # why finding nothing may mean nothing, "" where the model has learnt the pairs
    groups: list[PageGroup]
    bad: list[BadKind]
    cut: float  # the lowest score among the suspects, NaN for none

    def shortened(self) -> Facts:
        """With a third of the cards and pictures."""
        suspects = [one._replace(neighbours=one.neighbours[:4]) for one in self.suspects[:8]]
        alike, groups = (
            [_shortened(group) for group in several[:4]] for several in (self.alike, self.groups)
        )
        convicted = [(one, _shortened(group)) for one, group in self.convicted]
        return self._replace(suspects=suspects, alike=alike, groups=groups, convicted=convicted)

    def wants(self) -> list[Want]:
        """Every picture the page has a place for, most important first."""
        shown = [suspect.want for suspect in self.suspects]
        shown += [neighbour.want for suspect in self.suspects for neighbour in suspect.neighbours]
        convicted = [group for _, group in self.convicted]
        groups = (*convicted, *self.alike, *self.groups)
        return shown + [want for group in groups for want in group.members]


def _shortened(group: PageGroup) -> PageGroup:
    return group._replace(members=group.members[:8])
