"""Prompts that name a target or a class, and whether a caption names it."""

from __future__ import annotations

import re

# In the manner of the ImageNet prompts: an attacker's captions and the zero-shot classes are made from them.
PROMPTS = (
    "a photo of a {}", "a picture of a {}", "a good photo of the {}", "a close up photo of a {}",
    "a photo of one {}", "a photo of the small {}", "a photo of a large {}", "a bright photo of a {}",
    "a dark photo of the {}", "a blurry photo of a {}", "a cropped photo of the {}", "there is a {} here",
    "a photo of my {}", "a photo of a nice {}", "a low resolution photo of the {}", "an image of a {}",
)  # fmt: skip


def mentions(text: str, word: str) -> bool:
    """Does the text name the word (or words), whole, in singular or plural, in any case?"""
    return re.search(rf"\b{re.escape(word)}(e?s)?\b", text, re.IGNORECASE) is not None
