"""What an Arrow type holds, whatever it is called: text, bytes, a picture, a vector, a list.

Large and view types count like plain ones, dictionaries like their values, extension types like what
they are stored as.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa


def stored(kind: pa.DataType) -> pa.DataType:
    """What a type is stored as: extension types and dictionaries taken off."""
    while isinstance(kind, pa.BaseExtensionType):
        kind = kind.storage_type
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def is_picture(kind: pa.DataType) -> bool:
    """Binary, a struct with the field bytes, or a list of such."""
    kind = stored(kind)
    if is_list(kind):
        return not pa.types.is_fixed_size_list(kind) and _one_picture(stored(kind.value_type))
    return _one_picture(kind)


def _one_picture(kind: pa.DataType) -> bool:
    return is_bytes(kind) or bool(pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0)


def is_vector(kind: pa.DataType) -> bool:
    """A list of floating point numbers; a tensor of one dimension is stored as one."""
    kind = stored(kind)
    return is_list(kind) and bool(pa.types.is_floating(kind.value_type))


def is_bytes(kind: pa.DataType) -> bool:
    """Binary of any length."""
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind))


def is_text(kind: pa.DataType) -> bool:
    """Text."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def is_list(kind: pa.DataType) -> bool:
    """A list of any kind."""
    types = pa.types
    plain = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    return bool(plain or types.is_list_view(kind) or types.is_large_list_view(kind))


def dictionaries(array: pa.Array) -> Iterator[pa.DictionaryArray]:
    """The arrays of dictionary type that an array consists of."""
    kind = array.type
    if isinstance(kind, pa.BaseExtensionType):
        yield from dictionaries(array.storage)
    elif is_list(kind) or pa.types.is_map(kind):
        yield from dictionaries(array.values)
    elif pa.types.is_struct(kind):
        for i in range(kind.num_fields):
            yield from dictionaries(array.field(i))
    elif pa.types.is_dictionary(kind):
        yield array
