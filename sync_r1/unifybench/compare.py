"""Two phases of one run, or two benchmarked models, on the same items: paired differences with 95 % intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from sync_r1.unifybench.bootstrap import RESAMPLES, Strata, bootstrap_interval, macro_interval
from sync_r1.unifybench.metrics import UNASKED
from sync_r1.unifybench.protocol import Protocol, read_protocol
from sync_r1.unifybench.results import (
    ALL_COLUMNS,
    ALL_TASKS,
    COLUMNS,
    GENERATION,
    UNDERSTANDING,
    EvalResult,
    ScoredItem,
    mean,
    strata,
)
from sync_r1.unifybench.score_files import sides_of
from sync_r1.unifybench.tables import read_scores, results_of

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
    and counted. An overall score is the plain mean over its columns of the published table.

    Raises:
        ValueError: nothing in common, other items, other judges, or other protocols.
    """
    paired: dict[str, PairedValues] = {}
    unscored: dict[str, int] = {}
    for column in ALL_COLUMNS:
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
    for overall, tasks in (("understanding", UNDERSTANDING), ("generation", GENERATION)):
        if chosen := [values for name, values in paired.items() if name in COLUMNS and name.split(".")[0] in tasks]:
            result[overall] = _row(chosen)
    return result


def _row(columns: Sequence[PairedValues]) -> dict[str, Any]:
    def macro(which: int) -> float:
        means = []
        for values in columns:
            concepts = []
            for sides in values.values():
                concepts.append(np.mean([pair[which].mean() for pair in sides]))
            means.append(np.mean(concepts))
        return float(np.mean(means))

    differences: list[dict[str, Strata]] = []
    for values in columns:
        own: dict[str, Strata] = {}
        for concept, sides in values.items():
            own[concept] = [second - first for first, second in sides]
        differences.append(own)
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
    if metric == "weight":
        name = "recognition"
    else:
        name = metric
    known = [
        (a, b)
        for a, b in zip(rows, others)
        if a["metrics"].get(name) is not None and b["metrics"].get(name) is not None
    ]
    if metric == "weight":
        ours = list(sides_of([first for first, _ in known], protocol).values())
        theirs = list(sides_of([second for _, second in known], protocol).values())
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
    ours = [(row["item_id"], row["source_prompt"]) for row in rows]
    theirs = [(row["item_id"], row["source_prompt"]) for row in others]
    if ours != theirs:
        place = next(
            (number for number, pair in enumerate(zip(ours, theirs)) if pair[0] != pair[1]), min(len(ours), len(theirs))
        )
        sides = [str(keys[place]) if place < len(keys) else "nothing" for keys in (ours, theirs)]
        raise ValueError(
            f"task {content['task']} of {content['concept']} asked different things, first at item {place}: {sides[0]} "
            f"against {sides[1]}; run both with the same data and --max-items"
        )


Pair = tuple[ScoredItem, ScoredItem]


def compare(before: EvalResult, after: EvalResult, *, resamples: int = RESAMPLES, seed: int = 0) -> dict[str, Any]:
    """{"understanding": {before, after, delta, ci95, n}, "generation": …, "tasks": {task: the same and metric,
    unscored}}.

    An overall score is the plain mean over its tasks; its interval resamples within every task. "unasked" counts the
    things per drawing that nothing asked for, where both phases counted them. Items that either phase could not score
    are left out on both sides and counted. An overall score without tasks is absent.

    Raises:
        ValueError: the two did not evaluate the same items (the first difference is named), or nothing was scored in
            both.
    """
    pairs = match(before, after)
    parts: dict[str, list[list[Pair]]] = {}
    unscored: dict[str, int] = {}
    for task in ALL_TASKS:
        own = [pair for pair in pairs if pair[0].task == task]
        known = [pair for pair in own if pair[0].score is not None and pair[1].score is not None]
        unscored[task] = len(own) - len(known)
        if known:
            sides = strata(first for first, _ in known)
            after_of = {first.key: second for first, second in known}
            parts[task] = []
            for side in sides.values():
                parts[task].append([(item, after_of[item.key]) for item in side])
    if not parts:
        raise ValueError("no item was scored both before and after; look at the judge")
    result: dict[str, Any] = {}
    for overall, tasks in (("understanding", UNDERSTANDING), ("generation", GENERATION)):
        if chosen := [parts[task] for task in tasks if task in parts]:
            result[overall] = _summary(chosen, resamples, seed)
    counted = [(_unasked(first), _unasked(second)) for first, second in pairs]
    if known := [pair for pair in counted if pair[0].score is not None and pair[1].score is not None]:
        result["unasked"] = _summary([[known]], resamples, seed)
    result["tasks"] = {
        task: {**_summary([sides], resamples, seed), "metric": after.metrics.get(task, ""), "unscored": unscored[task]}
        for task, sides in parts.items()
    }
    return result


def _unasked(item: ScoredItem) -> ScoredItem:
    """The item with the number of things that nothing asked for as its score; None where they were not counted."""
    return replace(item, score=item.metrics.get(UNASKED))


def match(before: EvalResult, after: EvalResult) -> list[Pair]:
    """The same items, before and after. ValueError when the sets, judges or metrics differ."""
    first, second = [item.key for item in before.items], [item.key for item in after.items]
    if first != second:
        place = next((i for i, (a, b) in enumerate(zip(first, second)) if a != b), min(len(first), len(second)))
        sides = [str(keys[place]) if place < len(keys) else "nothing" for keys in (first, second)]
        raise ValueError(
            f"the two evaluations asked different things, first at item {place}: {sides[0]} before, {sides[1]} after; "
            "evaluate both with the same concept, tasks, max_items and seed"
        )
    for name in ("judge", "metrics"):
        old, new = getattr(before, name), getattr(after, name)
        if old != new:
            raise ValueError(
                f"{name} is {old!r} before and {new!r} after; scores of different judges cannot be compared"
            )
    settings = []
    for result in (before, after):
        settings.append({name: value for name, value in result.protocol.items() if name != "model"})
    if settings[0] != settings[1]:
        changed = [name for name in {**settings[0], **settings[1]} if settings[0].get(name) != settings[1].get(name)]
        raise ValueError(f"{', '.join(changed)} differ before and after; evaluate both with the same options")
    return list(zip(before.items, after.items))


def _summary(tasks: Sequence[Sequence[Sequence[Pair]]], resamples: int, seed: int) -> dict[str, Any]:
    """tasks → strata → pairs, each level averaged with equal weights."""

    def level(which: int) -> float:
        means = []
        for sides in tasks:
            per_side = []
            for side in sides:
                per_side.append(mean(pair[which].score or 0.0 for pair in side))
            means.append(mean(per_side))
        return mean(means)

    differences = []
    for sides in tasks:
        arrays = []
        for side in sides:
            arrays.append(np.array([(second.score or 0.0) - (first.score or 0.0) for first, second in side]))
        differences.append(arrays)
    before, after = level(0), level(1)
    low, high = bootstrap_interval(differences, resamples=resamples, seed=seed)
    count = sum(len(side) for sides in tasks for side in sides)
    return {"before": before, "after": after, "delta": after - before, "ci95": [low, high], "n": count}
