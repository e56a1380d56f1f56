"""The data card of an exported world set:

README.md with the front matter that dataset hubs read, and counts taken from the export.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from sync_r1.data.concepts import list_concepts, load_concept, random_images
from sync_r1.data.layout import Layout
from sync_r1.data.pictures import list_pictures
from sync_r1.data.types import Concept
from sync_r1.files import write_text
from sync_r1.world.concepts import personas

TITLE = "UnifyBench++ world set"
_FRONT = """\
---
pretty_name: {title}
license: apache-2.0
language:
- en
task_categories:
- visual-question-answering
- question-answering
- text-to-image
size_categories:
- {size}
annotations_creators:
- machine-generated
language_creators:
- machine-generated
source_datasets:
- original
tags:
- personalization
- unified-multimodal-models
- synthetic
- pixel-art
- benchmark
viewer: false
---
"""
_TEXT = """
# {title}

{concepts} invented personal concepts of a 32×32 pixel-art world, each with photos, private facts, questions and \
drawing prompts, in the
folder layout of UniCTokens and the tasks of UnifyBench++. It serves to develop, test and teach personalised unified \
multimodal models
without a GPU, a download or a judge's API: everything in a picture is known, so answers are scored exactly, and a \
small network can read
the attributes of a drawing.

It imitates the format and the nine tasks of UnifyBench++. It holds none of that benchmark's pictures, prompts or \
people, and scores on the
two cannot be compared.

## Size

| | in all | per concept |
|---|---:|---:|
{sizes}

Concepts: {people} people, {animals} animals, {objects} objects ({names}).

| task | asks for | prompts |
|---|---|---:|
{tasks}

## Structure

```
concepts_list.json                    the concepts, in order
template.json                         "pure_gen": prompts with {{name}}
black_512x512.png                     stands for "no picture"
random_images/<n>.png                 other things, easy negatives
concept/train/train_images.json       concept → its training photos
concept/train/<c>/<n>.png             training photos
concept/train/<c>/info.json           class, info, extra_info (the facts), category, generation_type, num_testing_info
concept/train/<c>/conversations.json  photo → questions and answers
concept/train/<c>/negative_example/   other things; every second looks nearly the same
concept/test/<c>/<n>.png              test photos
concept/test/<c>/t2i_conditions.json  five lists of drawing prompts
test_data/<c>.json                    questions of type rec, vqa and text_only
```

`<c>` is the name of a concept, and `<bo>`, with angle brackets, is how texts mention the concept bo. In \
t2i_conditions.json,
`personalized_driven_generation` only hints at a fact ("with its treasure"); `explicit_personalized_driven_generation` \
holds the same
prompts, by index, with the fact spelled out. The two lists with `dense` in their names do the same with several \
clauses, and
`dense_prompt_generation` needs no fact.

## Splits

- **Photos**: {train_photos} for training and {test_photos} for testing per concept; no photo appears twice.
- **Prompts to rewrite**: of {implicit} per concept the last {testing} (`num_testing_info`) are for testing, and \
reinforcement learning
  draws from the first {rl}. Dense and plain prompts are for testing only.
- **Negatives**: those that test questions name are for testing, the others for training.

## How it was made

A program draws each concept's kind, colour, pattern and mark, three private facts (what it wears, what it holds, \
where it lives) and three
private words that mean these facts for this concept only ("its treasure"). It renders the photos from that and writes \
questions, answers
and prompts by a small grammar. No person, photograph or language model was involved. The same seed gives the same set:

```
sync-r1 world export <folder>
sync-r1 bench run --data <folder> --concept all
```

## Known limits

- Pictures are 32×32 pixels and show one thing in one of a few scenes. Nothing about photographs follows from results \
on them.
- The language is a small grammar; a model can be right by learning its forms.
- Facts are given in the prompt of the rewriting tasks, so these measure choosing and rewriting, not memory; the \
private words do have
  to be known.
- The world's own judge reads attributes of drawings with a small network that makes mistakes; its accuracy is in the \
model card of the
  package (`sync-r1 world card`).
- People here are drawn figures with invented names. The set says nothing about recognising real people, and is not \
meant for that.

## Licence and citation

Apache License 2.0, pictures and texts. The benchmark whose layout and tasks it imitates is UnifyBench++, introduced \
with Sync-R1
(arXiv 2605.10445), which extends UnifyBench of UniCTokens (arXiv 2505.14671). Please cite these works for the tasks, \
and this set by its
name, "{title}", and the version of the package that exported it.
"""
_TASKS = {
    "rec": "yes or no: is it in this picture?",
    "vqa": "an answer about a picture of it",
    "qa": "an answer from memory",
    "rea": "a hint spelled out",
    "dense_rea": "several hints spelled out",
    "pure_gen": "a drawing from a short prompt",
    "dense_gen": "a drawing from a long prompt",
    "rea_gen": "a drawing from its own rewrite",
    "dense_rea_gen": "a drawing from its own long rewrite",
}


def write_card(root: Path | str) -> Path | None:
    """Write `<root>/README.md` about the world's concepts that are there.

    None where a README.md of something else stands.
    """
    path = Path(root) / "README.md"
    if path.exists() and f"pretty_name: {TITLE}\n" not in path.read_text(encoding="utf-8"):
        return None
    return write_text(path, data_card(root))


def data_card(root: Path | str) -> str:
    """The card's text; every number is counted in the files below `root`.

    ValueError when it holds no concept of the world.
    """
    layout, known = Layout(Path(root)), personas()
    concepts = [load_concept(layout.root, name, verify=False) for name in list_concepts(layout.root) if name in known]
    if not concepts:
        raise ValueError(f"{root} holds no concept of the world; write some with `sync-r1 world export {root}`")
    templates = len(json.loads(layout.template.read_text(encoding="utf-8"))["pure_gen"])
    per_task = {}
    for task in _TASKS:
        per_task[task] = [_prompts(concept, task, templates) for concept in concepts]
    total = sum(map(sum, per_task.values()))
    kinds = Counter(concept.category for concept in concepts)
    counts = [
        ("training photos", [len(concept.train_images) for concept in concepts]),
        ("test photos", [len(concept.test_images) for concept in concepts]),
        ("hard negatives", [len(list_pictures(layout.negatives(concept.name))) for concept in concepts]),
        ("private facts", [len(concept.facts) for concept in concepts]),
        ("training questions about photos", [sum(map(len, concept.conversations.values())) for concept in concepts]),
        ("training prompts to rewrite", [len(concept.rl_indices) for concept in concepts]),
        ("test prompts, nine tasks", [sum(rows) for rows in zip(*per_task.values())]),
    ]
    sizes = [f"| {name} | {sum(values)} | {_span(values)} |" for name, values in counts]
    return _FRONT.format(title=TITLE, size=_size(total)) + _TEXT.format(
        title=TITLE,
        concepts=len(concepts),
        sizes="\n".join([*sizes, f"| easy negatives, shared | {len(random_images(layout.root))} | |"]),
        people=kinds["person"],
        animals=kinds["animal"],
        objects=kinds["object"],
        names=", ".join(concept.name for concept in concepts),
        tasks="\n".join(f"| {task} | {asks} | {sum(per_task[task])} |" for task, asks in _TASKS.items()),
        train_photos=_span(counts[0][1]),
        test_photos=_span(counts[1][1]),
        implicit=_span([len(concept.conditions.implicit) for concept in concepts]),
        testing=_span([concept.num_testing_info for concept in concepts]),
        rl=_span(counts[5][1]),
    )


def _prompts(concept: Concept, task: str, templates: int) -> int:
    kinds = {"rec": "rec", "vqa": "vqa", "qa": "text_only"}
    if task in kinds:
        return sum(item.kind == kinds[task] for item in concept.items)
    if task == "pure_gen":
        return templates
    if task == "dense_gen":
        return len(concept.conditions.dense)
    if task.startswith("dense"):
        return len(concept.conditions.dense_implicit)
    return len(concept.test_indices)


def _span(values: Sequence[int]) -> str:
    if min(values) == max(values):
        return str(min(values))
    return f"{min(values)}–{max(values)}"


def _size(count: int) -> str:
    """The hub's name of a size class."""
    bounds = [(1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K")]
    return next((name for bound, name in bounds if count < bound), "100K<n<1M")
