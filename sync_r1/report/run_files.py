"""What a run directory says, read into a few plain values. Everything may be missing: a report shows what is there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from sync_r1.data.pictures import load_image
from sync_r1.files import write_json
from sync_r1.metrics_file import read_metrics

PHASES = ("before", "after")
CARD_SIDE = 512  # px, the longer side of a concept's photos as the run keeps them for the report


@dataclass(frozen=True)
class Item:
    """One evaluated prompt. `image` is the picture asked about (understanding) or the picture drawn (generation)."""

    task: str
    id: str
    prompt: str
    input: str
    prediction: str
    truth: str
    score: float | None
    image: Path | None
    seed: int | None


@dataclass(frozen=True)
class Pair:
    """The same prompt with the same seed, before and after training."""

    before: Item
    after: Item


@dataclass(frozen=True)
class ConceptCard:
    """What the run was about: shown at the top of the report."""

    name: str  # the id
    class_noun: str = ""
    info: str = ""
    facts: list[str] = field(default_factory=list)
    pictures: list[Path] = field(default_factory=list)
    display_name: str = ""  # as the owner writes it; empty where it is the id

    @property
    def subject(self) -> str:
        """`<name>`, or nothing where no name is known."""
        if self.name:
            return f"<{self.display_name or self.name}>"
        return ""

    def shown(self, text: str) -> str:
        """The text with `<name>` for `<id>`."""
        if self.name:
            return text.replace(f"<{self.name}>", self.subject)
        return text


@dataclass(frozen=True)
class Run:
    """A run directory, read. Missing files are empty values; unreadable ones are named in `problems`."""

    folder: Path
    config_text: str
    metrics: list[dict[str, float]]
    summary: dict[str, Any]
    items: dict[str, list[Item]]  # phase → items
    trajectories: list[dict[str, Any]]  # rows of all parquet files, in step order
    concept: ConceptCard
    problems: list[str]

    @property
    def name(self) -> str:
        return self.folder.resolve().name

    def pairs(self, task: str | None = None) -> list[Pair]:
        """Items with the same task, id and seed in both phases, in file order."""
        after = {(item.task, item.id, item.seed): item for item in self.items["after"]}
        chosen = (item for item in self.items["before"] if task in (None, item.task))
        return [Pair(item, after[key]) for item in chosen if (key := (item.task, item.id, item.seed)) in after]

    def tasks(self) -> list[str]:
        """Tasks of the summary, then those only the evaluation files know."""
        known = list(self.summary.get("tasks") or {})
        present = dict.fromkeys(item.task for item in self.items["before"])
        return known + [task for task in present if task not in known]


def read_run(folder: Path | str) -> Run:
    """Read a run directory. FileNotFoundError when it does not exist or holds nothing a report could show."""
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"no run directory at {folder}; runs are folders like runs/demo, written by training")
    problems: list[str] = []
    config = folder / "config.yaml"
    summary = noted_object(folder / "summary.json", problems)
    run = Run(
        folder=folder,
        config_text=config.read_text(encoding="utf-8") if config.is_file() else "",
        metrics=read_metrics(folder / "metrics.jsonl", problems),
        summary=summary,
        items={phase: read_items(folder, phase, problems) for phase in PHASES},
        trajectories=read_trajectories(folder / "trajectories", problems),
        concept=read_concept(folder, summary, problems),
        problems=problems,
    )
    if not (run.config_text or run.metrics or run.summary or any(run.items.values())):
        raise FileNotFoundError(f"{folder} is not a run: it has no config.yaml, metrics.jsonl, summary.json or eval/")
    return run


def noted_object(path: Path, problems: list[str]) -> dict[str, Any]:
    """A JSON object, or {} (noting why) when it is missing or broken."""
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        problems.append(f"{path.name} cannot be read: {error}")
        return {}
    if not isinstance(value, dict):
        problems.append(f"{path.name} holds a {type(value).__name__}, not an object")
        return {}
    return value


def read_items(folder: Path, phase: str, problems: list[str]) -> list[Item]:
    """The evaluated items of one phase, from eval/<phase>.json."""
    rows = noted_object(folder / "eval" / f"{phase}.json", problems).get("items") or []
    return [
        Item(
            task=str(row.get("task", "")),
            id=str(row.get("id", number)),
            prompt=str(row.get("prompt") or ""),
            input=str(row.get("input") or ""),
            prediction=str(row.get("prediction") or ""),
            truth=str(row.get("truth") or ""),
            score=None if row.get("score") is None else float(row["score"]),
            image=find_picture(folder, row.get("image"), "eval", "eval/images", f"eval/images/{phase}"),
            seed=row.get("seed"),
        )
        for number, row in enumerate(rows)
    ]


def read_trajectories(folder: Path, problems: list[str], files: str = "step_*.parquet") -> list[dict[str, Any]]:
    """Rows of all files of a pattern; `image` and `preview` become paths (or None)."""
    import pyarrow.parquet as parquet
    from pyarrow import ArrowException

    rows: list[dict[str, Any]] = []
    for path in sorted(folder.glob(files)):
        try:
            table = parquet.read_table(path).to_pylist()
        except (ArrowException, OSError) as error:
            problems.append(f"{path.name} cannot be read: {error}")
            continue
        for row in table:
            for key in ("image", "preview"):
                row[key] = find_picture(folder.parent, row.get(key), "trajectories", "trajectories/images")
            rows.append(row)
    return rows


def read_concept(folder: Path, summary: dict[str, Any], problems: list[str]) -> ConceptCard:
    """concept.json (see `save_concept_card`); without it, the name the summary gives."""
    card = noted_object(folder / "concept.json", problems)
    pictures = (find_picture(folder, name, "concept") for name in card.get("pictures") or [])
    return ConceptCard(
        name=str(card.get("name") or summary.get("concept") or ""),
        class_noun=str(card.get("class_noun") or ""),
        info=str(card.get("info") or ""),
        facts=[str(fact) for fact in card.get("facts") or []],
        pictures=[path for path in pictures if path],
        display_name=str(card.get("display_name") or ""),
    )


def find_picture(folder: Path, name: object, *bases: str) -> Path | None:
    """An existing picture: relative to the run directory, or to one of its sub-folders `bases`."""
    if not isinstance(name, str) or not name:
        return None
    return next((path for base in ("", *bases) if (path := folder / base / name).is_file()), None)


def save_concept_card(
    folder: Path,
    *,
    name: str,
    class_noun: str,
    info: str,
    facts: list[str],
    pictures: list[Path],
    display_name: str = "",
) -> Path:
    """Write what the report shows of a concept into the run directory (concept.json, concept/*), so that the run
    explains itself: small upright PNGs of its photos, which every browser shows.
    """
    target = Path(folder) / "concept"
    target.mkdir(parents=True, exist_ok=True)
    names = []
    for number, picture in enumerate(pictures):
        names.append(f"concept/{number}.png")
        image = load_image(picture)
        image.thumbnail((CARD_SIDE, CARD_SIDE))
        Image.frombytes("RGB", image.size, image.tobytes()).save(Path(folder) / names[-1])  # the pixels alone
    card: dict[str, Any] = {"name": name, "class_noun": class_noun, "info": info, "facts": facts, "pictures": names}
    if display_name and display_name != name:
        card["display_name"] = display_name
    return write_json(Path(folder) / "concept.json", card, indent=1)


def spread(count: int, at_most: int) -> Iterator[int]:
    """`at_most` indices of `count`, evenly spaced, so that the choice does not depend on the scores."""
    if count <= at_most:
        yield from range(count)
    else:
        yield from (round(step * (count - 1) / max(at_most - 1, 1)) for step in range(at_most))
