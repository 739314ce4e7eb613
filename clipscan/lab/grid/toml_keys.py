"""A table of a TOML file, taken key by key: what is missing, of another type or unknown is said in words."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any

from clipscan.errors import InputError

WORDS = {str: "text", int: "a whole number", float: "a number", bool: "true or false", dict: "a table"}
NEEDED: Any = object()


class Keys:
    """The keys of one table; `where` opens every message. A key that is never taken is a mistake."""

    def __init__(self, values: dict[str, Any], where: str) -> None:
        self.where = where
        self._values = dict(values)
        self._known: list[str] = []

    @property
    def names(self) -> list[str]:
        """The keys not taken yet."""
        return list(self._values)

    def one(self, name: str, kind: type, default: Any = NEEDED) -> Any:
        """The value of a key; InputError unless it is of this kind (a whole number is a number too)."""
        value = self._take(name, default)
        return value if value is default else self._checked(name, value, kind)

    def many(self, name: str, kind: type, default: Any = NEEDED) -> list[Any]:
        """A list of values of a kind, at least one; a single value is a list of one."""
        value = self._take(name, default)
        values = value if isinstance(value, list) else [value]
        if not values and value is not default:
            raise InputError(
                f"{self.where}: {name} = [] asks for nothing; give at least one, or leave it out"
            )
        return [self._checked(name, one, kind) for one in values]

    def table(self, name: str, default: Any = NEEDED) -> dict[str, Any]:
        """A table within this one."""
        found: dict[str, Any] = self.one(name, dict, default)
        return found

    def tables(self, name: str, one: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """The tables [name.X], with their X; `one` is what each of them is."""
        for key, value in self.table(name).items():
            if not isinstance(value, dict):
                raise InputError(f"{self.where}: {name}.{key} is no table; write [{name}.{key}] for a {one}")
            yield key, value

    def array(self, name: str) -> list[dict[str, Any]]:
        """The tables [[name]], at least one."""
        value = self._take(name, NEEDED)
        if not isinstance(value, list) or not all(isinstance(one, dict) for one in value) or not value:
            raise InputError(f"{self.where}: {name} is no list of tables; begin each with [[{name}]]")
        return value

    def done(self) -> None:
        """InputError if a key is left that was not taken."""
        for name in self._values:
            near = get_close_matches(name, self._known, 1)
            guess = f"did you mean {near[0]!r}? " if near else ""
            raise InputError(
                f"{self.where}: unknown key {name!r}; {guess}known here: {', '.join(self._known)}"
            )

    def _take(self, name: str, default: Any) -> Any:
        self._known.append(name)
        value = self._values.pop(name, default)
        if value is NEEDED:
            raise InputError(f"{self.where}: {name} is missing" + self._guess(name))
        return value

    def _guess(self, name: str) -> str:
        near = get_close_matches(name, self._values, 1)
        return f"; {near[0]!r} is there: is that what you mean?" if near else ""

    def _checked(self, name: str, value: Any, kind: type) -> Any:
        fits = isinstance(value, (int, float) if kind is float else kind)
        if not fits or (isinstance(value, bool) and kind is not bool):
            raise InputError(f"{self.where}: {name} must be {WORDS[kind]}, got {value!r}")
        return float(value) if kind is float else value
