"""Which extensions hold the picture and the caption of a sample, in tars and in folders of files."""

from __future__ import annotations

from typing import NamedTuple

from clipscan.data.pictures import IMAGE_EXTENSIONS
from clipscan.data.text import CAPTION_FIELDS


class Rules(NamedTuple):
    """Which extensions hold the picture and the caption, most wanted first."""

    image: tuple[str, ...] = IMAGE_EXTENSIONS
    text: tuple[str, ...] = ("txt", "json")
    fields: tuple[str, ...] = CAPTION_FIELDS  # of a .json that holds the caption


def make_rules(image_key: str | None, text_key: str | None) -> Rules:
    """`jpg;png` forces extensions, as in open_clip; `json:prompt` names the caption's field."""
    image = tuple(image_key.lower().split(";")) if image_key else IMAGE_EXTENSIONS
    if not text_key:
        return Rules(image)
    wanted = [part.partition(":") for part in text_key.split(";")]
    fields = tuple(field for _, _, field in wanted if field)
    return Rules(image, tuple(ext.lower() for ext, _, _ in wanted), fields or CAPTION_FIELDS)
