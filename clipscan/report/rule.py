"""The rule a drop list was made by: kept in drop.parquet, shown on the page and by `clipscan status`.

A rule is a JSON object of the arguments of choose_drops: {"apart": 15}, {"fraction": 0.01}, {"threshold":
3.5}, {"decisions": "mine.csv"}; of lists that were joined {"joined": [rule, rule]}.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from clipscan.report.glossary import label

RULE = b"clipscan.rule"  # schema metadata of drop.parquet
TOLD = 4  # joined rules that are listed one by one

Rule = dict[str, Any]


def with_rule(schema: pa.Schema, rule: Rule) -> pa.Schema:
    """The schema of a drop list made by `rule`."""
    return schema.with_metadata({**(schema.metadata or {}), RULE: json.dumps(rule).encode()})


def rule_of(schema: pa.Schema) -> Rule:
    """The rule of a drop list; {} where it does not say."""
    try:
        rule = json.loads((schema.metadata or {}).get(RULE, b"{}"))
    except (ValueError, RecursionError):  # a stranger's file may hold anything
        return {}
    return rule if isinstance(rule, dict) else {}


def rule_of_run(folder: Path) -> Rule:
    """The rule that a run's drop.parquet was made by; {} where there is none."""
    path = folder / "drop.parquet"
    return rule_of(pq.read_schema(path)) if path.exists() else {}


def joined(first: Rule, second: Rule) -> Rule:
    """The rule of two lists together."""
    parts = [part for rule in (first, second) for part in _parts(rule) if part]
    return {"joined": parts} if len(parts) > 1 else parts[0] if parts else {}


def in_words(rule: Rule, method: str) -> str:
    """What is dropped: "those that are convicted"; "" for an unknown rule."""
    told = [words for words in (_one(part, method) for part in _parts(rule)) if words]
    more = f" and by {len(told) - TOLD:,} other rules" if len(told) > TOLD else ""
    return " and ".join(told[:TOLD]) + more


def dropping(rule: Rule, method: str, dropped: int | None) -> str:
    """A sentence on what is dropped; "" where there is no drop list."""
    if dropped is None:
        return ""
    if "apart" in rule:
        return (
            f"Those {dropped:,} are dropped unless you say otherwise."
            if dropped
            else "Nothing is dropped unless you say what."
        )
    words = in_words(rule, method)
    verb = "sample is" if dropped == 1 else "samples are"
    return f"{dropped:,} {verb} dropped" + (f": {words}." if words else ".")


def _parts(rule: Rule) -> list[Rule]:
    parts = rule.get("joined", [rule])
    return [part for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []


def _one(rule: Rule, method: str) -> str:
    if "apart" in rule:
        return "those that are convicted" if method == "consensus" else "those that stand apart"
    if isinstance(share := rule.get("fraction"), (int, float)):
        return f"the most suspicious {100 * share:.3g} % of all"
    if isinstance(border := rule.get("threshold"), (int, float)):
        return f"every {label(method)} above {border:g}"
    if isinstance(name := rule.get("decisions"), str):
        return f"those decided on in {name}"
    return ""
