"""Which array files, of the layouts people use, belong together as one shard of embeddings."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from clipscan.data.array_files import ARRAYS, NAMED, array_names
from clipscan.data.inventory import Inventory, extension
from clipscan.errors import DataError

# Names of pictures' and captions' arrays that belong together, beside those that end in _img and _txt.
PAIRS = {
    "image": "text", "images": "texts", "image_embeds": "text_embeds", "image_embeddings": "text_embeddings",
    "image_features": "text_features", "image_embedding": "text_embedding", "img": "txt",
}  # fmt: skip


class Part(NamedTuple):
    """The files of one shard. `image_name` is the array in an .npz or the column of a parquet file."""

    image: str
    text: str | None = None
    metadata: str | None = None
    image_name: str = ""
    text_name: str = ""

    def files(self) -> list[str]:
        """The distinct files, arrays first."""
        return list(dict.fromkeys(path for path in (self.image, self.text, self.metadata) if path))


def looks_like(inventory: Inventory) -> bool:
    """clip-retrieval's folders, or .npz or .safetensors beside .parquet of the same name, or arrays named one
    by one."""
    paths = {file.path for file in inventory.files}
    if any(extension(path) in NAMED and _metadata(path) in paths for path in paths):
        return True
    return is_clip_retrieval(inventory) or all(extension(root) in ARRAYS for root in inventory.roots)


def has_safetensors(inventory: Inventory) -> bool:
    """Has it .safetensors of embeddings? Beside parquet tables of other names they are a model's."""
    paths = {file.path for file in inventory.files}
    arrays = [path for path in paths if extension(path) == "safetensors"]
    tables = any(extension(path) == "parquet" for path in paths)
    return any(not tables or _metadata(path) in paths for path in arrays)


def is_clip_retrieval(inventory: Inventory) -> bool:
    """Has it arrays in a folder img_emb?"""
    return any(_parent(file.path) == "img_emb" and extension(file.path) == "npy" for file in inventory.files)


def clip_retrieval(inventory: Inventory) -> list[Part]:
    """img_emb/img_emb_7.npy belongs to text_emb/text_emb_7.npy and metadata/metadata_7.parquet."""
    by_place = {(_folder(f.path, 2), _parent(f.path), _number(f.path)): f.path for f in inventory.files}
    return [
        Part(path, by_place.get((base, "text_emb", number)), by_place.get((base, "metadata", number)))
        for (base, parent, number), path in sorted(by_place.items())
        if parent == "img_emb" and extension(path) == "npy"
    ]


def named_arrays(inventory: Inventory, image_key: str | None, text_key: str | None) -> list[Part]:
    """DataComp's 0001.npz and 0001.parquet; of several models the larger (l14 before b32), or the one named;
    .safetensors in the same way.

    What the arrays are called is asked of all files, so that the order of their names does not decide.
    """
    paths = [file.path for file in inventory.files]
    arrays = [path for path in paths if extension(path) in NAMED]
    held = _held(arrays)
    names = _usual_names(held)
    usual = [name for name in sorted(names, reverse=True) if name.endswith("_img")]
    usual += [name for name in PAIRS if name in names]
    if not image_key and not usual:
        raise DataError(
            f"{arrays[0]} has the arrays {names}; none ends in _img or is called {', '.join(PAIRS)}: "
            "name one with --image-key"
        )
    image = image_key or usual[0]
    text = text_key or PAIRS.get(image) or re.sub("_img$", "_txt", image)
    return [
        Part(path, path if text in held.get(path, ()) else None, _if_there(_metadata(path), paths),
             image, text)
        for path in arrays
    ]  # fmt: skip


def _held(paths: list[str]) -> dict[str, list[str]]:
    """The arrays of each file that opens; DataError if none does."""
    held = {}
    for path in paths:
        try:
            held[path] = array_names(path)
        except DataError:
            if path == paths[-1] and not held:
                raise
            continue  # bad when it is read, with the reason
    return held


def _usual_names(held: Mapping[str, list[str]]) -> list[str]:
    """Names of arrays that half of the files have, or more."""
    counts = Counter(name for names in held.values() for name in names)
    return [name for name, count in counts.items() if 2 * count >= len(held)] or list(counts)


def loose(inventory: Inventory, text_key: str | None) -> list[Part]:
    """Every .npy by itself, or one with the array of captions that text_key names beside it."""
    arrays = [file.path for file in inventory.files if extension(file.path) == "npy"]
    paths = [file.path for file in inventory.files]
    if text_key is None:
        return [Part(path, None, _if_there(path[:-4] + ".parquet", paths)) for path in arrays]
    text = os.path.abspath(os.path.join(os.path.dirname(arrays[0]), text_key))
    images = [path for path in arrays if path != text]
    if len(images) != 1 or not os.path.isfile(text):
        raise DataError(
            f"--text-key {text_key!r} must name the captions' .npy beside a single .npy of pictures"
        )
    return [Part(images[0], text, _if_there(images[0][:-4] + ".parquet", paths))]


def _metadata(path: str) -> str:
    return os.path.splitext(path)[0] + ".parquet"


def _if_there(path: str, paths: list[str]) -> str | None:
    return path if path in set(paths) else None


def _parent(path: str) -> str:
    return os.path.basename(os.path.dirname(path))


def _folder(path: str, up: int) -> str:
    return os.path.dirname(path) if up == 1 else _folder(os.path.dirname(path), up - 1)


def _number(path: str) -> str:
    """The digits that end a file's stem, without leading zeros; the stem itself where there are none."""
    name = os.path.basename(path).split(".")[0]
    digits = re.search(r"\d+$", name)
    return str(int(digits[0])) if digits and len(digits[0]) < 20 else name
