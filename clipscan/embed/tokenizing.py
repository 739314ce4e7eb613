"""Captions -> tokens, whatever stands in them.

An encoder reads CAPTION_LIMIT characters of a caption and of these the first 77 or so tokens, in a time that
grows with their number alone. The limit is there for what comes before the tokens: undoing HTML escapes is
quadratic in "&amp;amp;amp; ...", and takes seconds for 60,000 characters of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from clipscan.embed.bpe import remembering
from clipscan.embed.open_clip import import_open_clip, quietly

if TYPE_CHECKING:
    from torch import Tensor

CAPTION_LIMIT = 2_000  # characters; about 300 fill the 77 tokens of an ordinary caption
MARGIN = 100  # characters before the limit that must not matter: a word or an escape may be cut there

Tokenizer = Callable[[list[str]], "Tensor"]


def get_tokenizer(name: str) -> Tokenizer:
    """open_clip's tokenizer of a model: captions -> int64 [b, context]."""
    open_clip = import_open_clip()
    tokenizer = quietly(open_clip.get_tokenizer, name)
    if type(tokenizer) is open_clip.SimpleTokenizer:
        special = {word: word for word in tokenizer.cache}  # it has met no other word yet
        tokenizer.bpe = remembering(tokenizer.bpe_ranks, special)
    return tokenizer  # type: ignore[no-any-return]


def tokenize(tokenizer: Tokenizer, captions: list[str]) -> Tensor:
    """b captions -> int64 [b, context]. Long captions are cut, half characters (lone surrogates) replaced."""
    return tokenizer([c[:CAPTION_LIMIT].encode("utf-8", "replace").decode() for c in captions])


def unread(tokenizer: Tokenizer, caption: str) -> str:
    """Why the tokens of a caption beyond the limit are not those of the whole caption; "" where they are.

    They are where what is read fills all tokens before its last MARGIN characters. Otherwise what a model
    has learnt from this caption may stand behind the cut, out of sight: 2,000 blanks and then a target.
    """
    if len(caption) <= CAPTION_LIMIT:
        return ""
    whole, shorter, nothing = tokenize(tokenizer, [caption, caption[: CAPTION_LIMIT - MARGIN], ""])
    if bool((whole == shorter).all()) and whole[-2] != nothing[-2]:  # the last may be an end mark in both
        return ""
    return (
        f"caption has {len(caption):,} characters, of which {CAPTION_LIMIT:,} are read, and these leave some "
        f"of the encoder's {len(whole)} tokens open: blanks, markup, or a word without end"
    )
