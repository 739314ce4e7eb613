"""Reasons: what stands out about a suspect is said, and nothing else."""

from clipscan.run.why_suspected import why, why_else

ASKED = {"method": "consensus", "k": 16}
TYPICAL = {"kdist": 2.0, "slof": 1.0, "cosine": 0.5}
PLAIN = {
    "kdist": 2.0, "kdist_rank": 500, "slof": 1.0, "slof_rank": 500, "cosine_rank": 500, "agree_rank": 500,
    "cross_rank": 500, "trusted_rank": 500, "misfit_rank": 500,
}  # fmt: skip


def reasons(**other):
    return why(PLAIN | other, TYPICAL, 1000, ASKED)


def test_nothing_is_said_of_what_is_usual():
    assert reasons() == ""
    assert reasons(kdist=2.04, kdist_rank=3) == "", "1.0 times as far is no reason, whatever the rank"
    assert reasons(kdist=9.0, kdist_rank=21, slof=4.0, slof_rank=21) == "", "nor is what many others are"


def test_each_distance_is_told_where_it_stands_out():
    lead = "Sparse: its 16 nearest references reach"
    assert reasons(kdist=5.0, kdist_rank=3) == f"{lead} 2.5 times as far as is usual."
    assert reasons(slof=1.8, slof_rank=20) == f"{lead} 1.8 times as far as theirs do."
    both = reasons(kdist=5.0, kdist_rank=3, slof=1.8, slof_rank=20)
    assert both == f"{lead} 2.5 times as far as is usual, 1.8 times as far as theirs do."


def test_each_disagreement_is_told_where_it_stands_out():
    for score, said in {
        "agree": "Pictures like it carry other captions.",
        "cross": "Captions like its own go with other pictures.",
        "trusted": "A model that has not seen this data finds the caption wrong.",
        "misfit": "A witness that was not shown this pair finds the caption wrong.",
    }.items():
        assert reasons(**{f"{score}_rank": 20}) == said


def test_suspects_that_say_the_same_are_named_as_such():
    assert why(PLAIN, TYPICAL, 1000, ASKED, alike=12) == "One of 12 suspects whose captions say the same."


def test_pairs_that_were_convicted_together_are_named_as_such():
    said = why(PLAIN, TYPICAL, 1000, ASKED, alike=90, convicted=True)
    assert said == "One of 90 pairs convicted together."


def test_a_suspect_of_which_nothing_stands_out_is_told_why_all_the_same():
    assert "other suspects" in why_else("consensus") and "dao@64x8" in why_else("dao@64x8")
