"""Triggers that were learnt against a surrogate encoder, the attacker's own.

    crafting.craft(...)                       learns one and writes a file (torch; `clipscan lab craft`)
    blto(picture, random, file=...)           a faint picture-dependent perturbation, +-8 of 255 (BLTO)
    badclip(picture, random, file=...)        a patch whose pictures lie among the target's own (BadCLIP)

The two triggers need NumPy and no torch, so that poisoning is quick wherever it happens.
"""

from clipscan.lab.attacks.learnt.learnt_triggers import badclip, blto

__all__ = ["badclip", "blto"]
