"""The one table of scores: all that there is to know of each besides its values.

METHODS and its parts, `--help`, messages, the columns' meanings, reasons and docs/tables.md are derived from
SCORES. A new score is an entry here, and its values where its kind is made: `local.py` (of neighbours),
`scorer.py` (of references), `all_scores.py` (of all rows together).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Family = Literal["combined", "density", "cross_modal", "hubness"]
FAMILIES: tuple[Family, ...] = ("combined", "density", "cross_modal", "hubness")


@dataclass(frozen=True, kw_only=True)
class Score:
    """One score. Of each a higher value is more suspicious.

    family: what it is evidence of: that few pictures are near, that picture and caption do not belong
    together, that few rows count this one among their neighbours, or all of it.
    needs: what it is made from; "graph" is the one over the whole set, "model" a second model.
    about: what its column means. label: its name beside its value, "" for that of the column.
    reference: what it compares with: the references that are asked for ("drawn", a column for each), draws
    of its own, the whole set ("all"), or nothing but the row itself ("none").
    by_log: over several draws the logarithm is averaged, not the value.
    published: somebody else's, made of single rows, that clipscan's default is measured against.
    variant: it ranks much as another does; the laboratory's long tables leave it out.
    unasked: a scan computes it whatever ranks, for it costs little.
    notable: what is said of a suspect that is among the first by it.
    elsewhere, missing: of one that embeddings alone do not give, where it comes from, and what a run lacks
    that cannot be ranked by it.
    """

    family: Family
    needs: tuple[Literal["image", "text", "graph", "model"], ...]
    about: str
    label: str = ""
    uses_k: bool = True
    reference: Literal["drawn", "own", "all", "none"] = "drawn"
    by_log: bool = False
    published: bool = False
    variant: bool = False
    unasked: bool = True
    notable: str = ""
    elsewhere: str = ""
    missing: str = ""

    @property
    def drawn(self) -> bool:
        """Whether it has a column for each reference that is asked for."""
        return self.reference == "drawn"


# In the order in which METHODS are computed, shown and named in messages.
SCORES = {
    "consensus": Score(
        family="combined",
        needs=("image",),  # and captions, where there are any
        reference="own",
        about="all evidence together, in nats; from 30 on it may belong to a convicted population, from "
        "40 on it is dropped with it, from 50 on surely",
    ),
    "kdist": Score(
        family="density",
        needs=("image",),
        published=True,
        about="distance to the k-th nearest neighbour among random samples",
    ),
    "lid": Score(
        family="density",
        needs=("image",),
        published=True,
        about="local dimension of the neighbourhood, by maximum likelihood",
    ),
    "lid_mom": Score(
        family="density",
        needs=("image",),
        published=True,
        variant=True,
        about="local dimension of the neighbourhood, by moments",
    ),
    "lof": Score(
        family="density",
        needs=("image",),
        published=True,
        about="local outlier factor: emptier here than around the neighbours",
    ),
    "slof": Score(
        family="density",
        needs=("image",),
        published=True,
        about="distance to the k-th neighbour, relative to the neighbours' own",
    ),
    "dao": Score(
        family="density",
        needs=("image",),
        published=True,
        by_log=True,
        about="distance to the k-th neighbour, relative to the neighbours' own, weighed by local dimension",
    ),
    "logdao": Score(
        family="density",
        needs=("image",),
        published=True,
        variant=True,
        about="logarithm of what dao measures, as the released code of Huang et al. takes it",
    ),
    "iforest": Score(
        family="density",
        needs=("image",),
        uses_k=False,
        published=True,
        unasked=False,
        about="isolation forest: how few cuts set the sample apart",
    ),
    "antihub": Score(
        family="hubness",
        needs=("graph",),
        reference="all",
        about="few other samples count this one among their neighbours: 1 / (1 + how many do)",
        elsewhere="is counted in a graph over the whole set: score(graph=clipscan.knn(x), method='antihub')",
        missing="it has no graph of this k; clipscan knn makes one",
    ),
    "cosine": Score(
        family="cross_modal",
        needs=("image", "text"),
        uses_k=False,
        reference="none",
        published=True,
        about="picture and caption disagree: 1 - their cosine",
        label="1 - cosine",  # the column's name says the opposite of its value
    ),
    "agree": Score(
        family="cross_modal",
        needs=("image", "text"),
        about="similar pictures carry other captions: minus the mean cosine of this caption with theirs",
        notable="Pictures like it carry other captions.",
    ),
    "cross": Score(
        family="cross_modal",
        needs=("image", "text"),
        about="similar captions go with other pictures: minus the mean cosine of this picture with theirs",
        notable="Captions like its own go with other pictures.",
    ),
    "trusted": Score(
        family="cross_modal",
        needs=("image", "text", "model"),
        uses_k=False,
        reference="none",
        about="picture and caption disagree for a model that has not seen this data: 1 - their cosine there",
        notable="A model that has not seen this data finds the caption wrong.",
        elsewhere="comes from a second model: clipscan.scan(..., trusted_model=...)",
        missing="no trusted model has seen it; clipscan scan --trusted-model NAME --trusted-pretrained TAG",
    ),
    "misfit": Score(
        family="cross_modal",
        needs=("image", "text"),
        reference="own",
        about="for a witness that was not shown such pairs the caption does not fit the picture: minus their "
        "pointwise mutual information, in nats",
        notable="A witness that was not shown this pair finds the caption wrong.",
    ),
}

ELSEWHERE = {name: one.elsewhere for name, one in SCORES.items() if one.elsewhere}
METHODS = tuple(name for name in SCORES if name not in ELSEWHERE)  # of embeddings alone
OF_GRAPH = tuple(name for name, one in SCORES.items() if "graph" in one.needs)
SEARCHED = tuple(name for name in METHODS if SCORES[name].drawn and SCORES[name].uses_k)
LOCAL = tuple(name for name in SEARCHED if SCORES[name].family == "density")  # of the neighbour table alone
FROM_GRAPH = (*LOCAL, *OF_GRAPH)  # all that a table given instead of embeddings is enough for
CROSS = tuple(name for name in SEARCHED if "text" in SCORES[name].needs)  # of the neighbours of both towers
JOINT = tuple(name for name in METHODS if SCORES[name].reference == "own")  # of all rows together
NEED_TEXT = tuple(name for name in METHODS if "text" in SCORES[name].needs)
PUBLISHED = tuple(name for name, one in SCORES.items() if one.published)
VARIANTS = tuple(name for name, one in SCORES.items() if one.variant)
OFFERED = (*METHODS, *ELSEWHERE)
