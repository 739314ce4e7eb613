"""`clipscan invert`: recover the trigger that leads pictures to a group's captions, and say what it proves.

A mask and a pattern are sought that turn clean pictures into the group's captions (Huang et al. 2025, after
Neural Cleanse), in four forms: a patch anywhere, a mask in place, a faint pattern over all, a tint. They are
tried on pictures that the search has not seen, and the same is done for harmless captions whose like occur
about as often: an adversarial pattern reaches those as well, only at a higher cost.

recovery.py is the whole job, work.py one recovery from end to end; search.py descends, for the captions that
targets.py and caption_families.py choose, and contest.py says what counts as a success; verdict.py compares.
"""

from clipscan.invert.recovery import Recovery, invert
from clipscan.invert.search import SearchBudget, __getattr__  # noqa: F401

__all__ = ["Recovery", "SearchBudget", "invert"]
