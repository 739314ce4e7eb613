"""What an attacker does to a dataset: triggers, planted captions, and the truth about both.

triggers.py and structured_triggers.py change a picture; learnt/ holds triggers learnt against a model.
campaigns.py is the list of attacks; planted_captions.py and prompts.py hold the wording of planted captions.
census.py draws the pairs, poisoning.py writes the poisoned dataset, poison_count.py counts the poison that a
training takes for safe, and sheet.py draws every trigger.
"""

from clipscan.lab.attacks.poisoning import Poisoned, poison, read_truth
from clipscan.lab.attacks.triggers import ATTACKS, find_attack, options_of

__all__ = ["ATTACKS", "Poisoned", "find_attack", "options_of", "poison", "read_truth"]
