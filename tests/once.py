"""What is costly and used by several test files. pytest runs a fixture anew for each file that imports it."""

_MADE = {}


def once(key, make):
    """What make() gave when it was first asked for under this key, in this process."""
    if key not in _MADE:
        _MADE[key] = make()
    return _MADE[key]
