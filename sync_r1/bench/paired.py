"""Two benchmarked models on the same items:

paired differences per column of the table, with 95 % intervals over concepts × items.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sync_r1.bench.protocol import Protocol, read_protocol
from sync_r1.bench.result import COLUMNS, TASKS, UNDERSTANDING
from sync_r1.bench.scores import sides_of
from sync_r1.bench.stats import Strata, macro_interval
from sync_r1.bench.tables import read_scores, results_of

TableFiles = Mapping[str, Mapping[str, dict[str, Any]]]  # task → concept → score file
PairedValues = dict[str, list[tuple[np.ndarray, np.ndarray]]]  # concept → strata → values of both models


def open_scores(place: str) -> dict[str, dict[str, dict[str, Any]]]:
    """Score files of `<folder>`, its newest checkpoint, or of `<folder>@<model epoch>`.

    ValueError when there are none.
    """
    folder, at, number = place.rpartition("@")
    if at and number.isdigit() and not Path(place).is_dir():
        return read_scores(folder, int(number))[int(number)]
    found = read_scores(place)
    return found[max(found)]


def compare_scores(first: TableFiles, second: TableFiles) -> dict[str, Any]:
    """{"columns": {"task.metric": {first, second, delta, ci95, n, concepts, unscored}}, "understanding": …,
    "generation": …}.

    Only tasks and concepts that both have are compared; items that either could not score are left out on both sides
    and counted. A half is the plain mean over its columns of the published table.

    Raises:
        ValueError: nothing in common, other items, other judges, or other protocols.
    """
    paired: dict[str, PairedValues] = {}
    unscored: dict[str, int] = {}
    for column in COLUMNS:
        task, metric = column.split(".")
        values: PairedValues = {}
        for concept in [name for name in first.get(task, {}) if name in second.get(task, {})]:
            known, left_out = _pairs(first[task][concept], second[task][concept], metric)
            unscored[column] = unscored.get(column, 0) + left_out
            if known:
                values[concept] = known
        if values:
            paired[column] = values
    if not paired:
        raise ValueError(
            "the two have no scored task and concept in common; run both with the same --concept and --tasks"
        )
    result: dict[str, Any] = {
        "columns": {name: {**_row([values]), "unscored": unscored[name]} for name, values in paired.items()}
    }
    for half, tasks in (("understanding", UNDERSTANDING), ("generation", tuple(set(TASKS) - set(UNDERSTANDING)))):
        if chosen := [values for name, values in paired.items() if name.split(".")[0] in tasks]:
            result[half] = _row(chosen)
    return result


def _row(columns: Sequence[PairedValues]) -> dict[str, Any]:
    def macro(which: int) -> float:
        means = [[np.mean([pair[which].mean() for pair in strata]) for strata in values.values()] for values in columns]
        return float(np.mean([np.mean(concepts) for concepts in means]))

    differences: list[dict[str, Strata]] = [
        {concept: [second - first for first, second in strata] for concept, strata in values.items()}
        for values in columns
    ]
    low, high = macro_interval(differences)
    count = sum(len(first) for values in columns for strata in values.values() for first, _ in strata)
    names = {concept for values in columns for concept in values}
    before, after = macro(0), macro(1)
    return {
        "first": before,
        "second": after,
        "delta": after - before,
        "ci95": [low, high],
        "n": count,
        "concepts": len(names),
    }


def _pairs(
    first: dict[str, Any], second: dict[str, Any], metric: str
) -> tuple[list[tuple[np.ndarray, np.ndarray]], int]:
    """Strata of paired values of one concept, and how many items lack a score."""
    protocol = _same_setting(first, second)
    rows, others = results_of(first), results_of(second)
    _same_items(first, rows, others)
    name = "recognition" if metric == "weight" else metric
    known = [
        (a, b)
        for a, b in zip(rows, others)
        if a["metrics"].get(name) is not None and b["metrics"].get(name) is not None
    ]
    if metric == "weight":
        ours, theirs = (list(sides_of([pair[which] for pair in known], protocol).values()) for which in (0, 1))
        strata = [(np.array(a), np.array(b)) for a, b in zip(ours, theirs, strict=True) if a]
        if protocol.empty_side == "zero":
            strata += [(np.zeros(1), np.zeros(1))] * (2 - len(strata))
    else:
        strata = [(np.array([a["metrics"][name] for a, _ in known]), np.array([b["metrics"][name] for _, b in known]))]
    return strata if known else [], len(rows) - len(known)


def _same_setting(first: dict[str, Any], second: dict[str, Any]) -> Protocol:
    for name in ("judge", "clip"):
        if first[name] != second[name]:
            raise ValueError(
                f"{name} is {first[name]!r} in the first and {second[name]!r} in the second; score both with the same"
            )
    ours, theirs = read_protocol(first["protocol"]), read_protocol(second["protocol"])
    both = [{**protocol.prediction_options(), **protocol.scoring_options()} for protocol in (ours, theirs)]
    if changed := [name for name in both[0] if both[0][name] != both[1][name]]:
        raise ValueError(f"the protocols differ in {', '.join(changed)}; run both under the same one")
    return ours


def _same_items(content: dict[str, Any], rows: Sequence[dict[str, Any]], others: Sequence[dict[str, Any]]) -> None:
    ours, theirs = ([(row["item_id"], row["source_prompt"]) for row in side] for side in (rows, others))
    if ours != theirs:
        place = next(
            (number for number, pair in enumerate(zip(ours, theirs)) if pair[0] != pair[1]), min(len(ours), len(theirs))
        )
        sides = [str(keys[place]) if place < len(keys) else "nothing" for keys in (ours, theirs)]
        raise ValueError(
            f"task {content['task']} of {content['concept']} asked different things, first at item {place}: {sides[0]} against {sides[1]}; "
            "run both with the same data and --max-items"
        )
