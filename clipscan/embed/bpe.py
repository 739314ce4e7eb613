"""CLIP's byte-pair encoding, in time that a long word cannot square.

open_clip's tokenizer goes through a whole word for every merge: a word of 5,000 bytes takes a third of a
second to a second, and a dataset may hold such a word in every caption. Here a merge touches its neighbours
only. Which merges are made, and in which order, is the same, and so are the tokens.

Source of the encoding: Sennrich et al. 2016; of its details: open_clip's SimpleTokenizer.bpe.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping
from functools import lru_cache

END = "</w>"  # marks the last symbol of a word
REMEMBERED = 1 << 17  # words whose symbols are kept; open_clip keeps all that it ever met
LONGEST = 64  # characters of a word that is kept


def remembering(ranks: Mapping[tuple[str, str], int], special: Mapping[str, str]) -> Callable[[str], str]:
    """A function word -> its symbols, joined by blanks, as SimpleTokenizer.bpe returns them.

    ranks: the order in which pairs of symbols are merged; special: words that are symbols as they are.
    """

    def symbols(word: str) -> str:
        return special[word] if word in special else " ".join(merged(word, ranks))

    kept = lru_cache(REMEMBERED)(symbols)
    return lambda word: (kept if len(word) <= LONGEST else symbols)(word)


def merged(word: str, ranks: Mapping[tuple[str, str], int]) -> list[str]:
    """The symbols of a word [at least one character], O(n log n): the pair of lowest rank is merged wherever
    it stands, from left to right, until no pair has a rank."""
    symbols = [*word[:-1], word[-1] + END]
    before, after = list(range(-1, len(symbols) - 1)), list(range(1, len(symbols) + 1))  # linked, by place
    after[-1] = -1
    waiting: list[tuple[int, int, str, str]] = []  # rank, place, and the two symbols that stood there

    def consider(left: int) -> None:
        if left >= 0 and (right := after[left]) >= 0:
            pair = symbols[left], symbols[right]
            if pair in ranks:
                heapq.heappush(waiting, (ranks[pair], left, *pair))

    for place in range(len(symbols)):
        consider(place)
    while waiting:
        # All places of one rank before what they give rise to: a merge may make a pair of lower rank.
        rank, places = waiting[0][0], []
        while waiting and waiting[0][0] == rank:
            places.append(heapq.heappop(waiting)[1:])
        for left, first, second in places:
            right = after[left]
            if right < 0 or symbols[left] != first or symbols[right] != second:
                continue  # one of the two was merged with another
            symbols[left], symbols[right] = first + second, ""
            after[left] = after[right]
            if after[left] >= 0:
                before[after[left]] = left
            consider(before[left])
            consider(left)
    return [symbol for symbol in symbols if symbol]
