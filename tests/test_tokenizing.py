"""Captions -> tokens: the very tokens of open_clip, in a time that no caption can square."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from clipscan.data.sample import Sample
from clipscan.embed.bpe import merged

torch = pytest.importorskip("torch", reason="needs PyTorch: pip install 'clipscan[embed]'")
from clipscan.embed.open_clip import import_open_clip  # noqa: E402
from clipscan.embed.tokenizing import CAPTION_LIMIT, get_tokenizer, tokenize, unread  # noqa: E402

MODELS = ("clipscan-vit-32", "ViT-B-32")  # 32 tokens, and the usual 77
PIECES = st.one_of(
    st.sampled_from(
        ["a photo of", "dog's", " ", "\n", "&amp;", "&lt;", "sunsetbeach", "ing", "\u00c3\u00a9"]
    ),
    st.text(st.characters(min_codepoint=0x20, max_codepoint=0x3FF), max_size=20),
    st.text(st.characters(categories=["So", "Lo", "Ll", "Sm", "Cs", "Mn"]), max_size=20),
    st.sampled_from(["<start_of_text>", "<end_of_text>", "aaaa", "\u200d", "\U0001f602" * 5, "=" * 40]),
)
CAPTIONS = st.lists(PIECES, max_size=60).map("".join)


@pytest.fixture(scope="module")
def tokenizers():
    return {name: (get_tokenizer(name), import_open_clip().get_tokenizer(name)) for name in MODELS}


@settings(deadline=None, max_examples=200)
@given(caption=CAPTIONS)
@example("")
@example("strawberryfieldsforever" * 40)
@example("a red fox " * 200)
def test_tokens_are_those_of_open_clip_s_own_tokenizer(tokenizers, caption):
    caption = caption[:CAPTION_LIMIT]
    for ours, theirs in tokenizers.values():
        assert torch.equal(tokenize(ours, [caption]), theirs(caption.encode("utf-8", "replace").decode()))


@settings(deadline=None, max_examples=300)
@given(word=st.text("abc", min_size=1, max_size=60), seed=st.integers(0, 10_000))
def test_pairs_are_merged_as_open_clip_merges_them(tokenizers, word, seed):
    """For any order of merges, also one that no training would give."""
    draw = np.random.default_rng(seed)
    symbols = ["a", "b", "c", "a</w>", "b</w>", "c</w>"]
    merges = []
    for _ in range(40):
        first, second = draw.choice(symbols[:3] + symbols[6:]), draw.choice(symbols)
        if not first.endswith("</w>"):
            merges.append((str(first), str(second)))
            symbols.append(str(first + second))
    ranks = {pair: int(rank) for pair, rank in zip(merges, draw.permutation(len(merges)), strict=True)}
    theirs = object.__new__(import_open_clip().SimpleTokenizer)
    theirs.bpe_ranks, theirs.cache = ranks, {}
    assert " ".join(merged(word, ranks)) == theirs.bpe(word)


class Counting(dict):
    """Ranks that count how often they are asked."""

    asked = 0

    def __contains__(self, pair):
        self.asked += 1
        return super().__contains__(pair)


@pytest.mark.parametrize("length", [1_000, 8_000])
def test_a_word_costs_as_many_questions_as_it_has_characters(tokenizers, length):
    _, theirs = tokenizers["ViT-B-32"]
    ranks = Counting(theirs.bpe_ranks)
    letters = np.random.default_rng(0).integers(97, 123, length)
    merged("".join(map(chr, letters)), ranks)
    assert length <= ranks.asked <= 3 * length


def test_words_are_not_remembered_without_end(tokenizers):
    ours, _ = tokenizers["ViT-B-32"]
    before = len(ours.cache)
    tokenize(ours, [f"w{i}x" for i in range(50)])
    assert len(ours.cache) == before


LONG = {
    "prose": ("a small red fox jumps over two lazy dogs, " * 200, True),
    "chinese": ("\u72d0\u72f8\u8df3\u8fc7\u61d2\u72d7\u3002" * 400, True),
    "blanks, then a target": (" " * CAPTION_LIMIT + "a photo of a banana", False),
    "escapes, then a target": ("&nbsp;" * 400 + "a photo of a banana", False),
    "a few words, blanks, then a target": ("a dog" + "\n" * CAPTION_LIMIT + "a photo of a banana", False),
    "a line, then words": ("=" * CAPTION_LIMIT + " a photo of a banana", True),
}


@pytest.mark.parametrize("name", LONG)
def test_a_caption_is_cut_only_where_the_encoder_would_not_have_read_on(tokenizers, name):
    caption, sound = LONG[name]
    ours, theirs = tokenizers["ViT-B-32"]
    assert (unread(ours, caption) == "") is sound
    assert torch.equal(tokenize(ours, [caption]), theirs(caption)) is sound
    assert unread(ours, caption[:CAPTION_LIMIT]) == ""


def test_a_caption_that_hides_its_words_is_bad_and_the_shard_goes_on():
    import io

    from PIL import Image

    from clipscan.embed.decode_pool import DecodePool
    from clipscan.embed.embed_shard import embed_samples
    from clipscan.embed.model import untrained_encoder

    file = io.BytesIO()
    Image.new("RGB", (32, 32)).save(file, "PNG")
    captions = ["a dog", LONG["blanks, then a target"][0], "a cat", "&" + "amp;" * 13_000, "a fox"]
    samples = [Sample("0.tar", str(i), file.getvalue(), caption) for i, caption in enumerate(captions)]
    with DecodePool(1) as pool:
        found = embed_samples(samples, untrained_encoder("clipscan-vit-32", device="cpu"), pool)
    assert [one.key for one in found.samples] == ["0", "2", "4"]
    assert [one.key for one in found.bad] == ["1", "3"]
    assert found.bad[0].reason.startswith("caption has 2,019 characters, of which 2,000 are read")
