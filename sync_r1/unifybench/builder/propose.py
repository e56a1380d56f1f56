"""A benchmark for a user's own concept: prompts, questions and pictures to test on, from its facts and photos,
without leaks.

What is built is a `TestSet`, a proposal that a person reads and edits (`review_file.py`) before it is written
(`apply.py`).
"""

from __future__ import annotations

import itertools
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from sync_r1.data import (
    QA,
    Concept,
    Conditions,
    Layout,
    TestItem,
    find_concept,
    list_concepts,
    load_concept,
    random_images,
    validate_name,
)
from sync_r1.data.phrases import with_article
from sync_r1.data.pictures import list_pictures
from sync_r1.data.read import assemble, read_conversations, read_info, read_items, read_train_images
from sync_r1.data.types import TEXT_ONLY
from sync_r1.data.warm_up_items import STAGE_FILE, derived_items, read_turns, stage_entries, stage_picture
from sync_r1.unifybench.builder.fact_templates import dense_pairs, dense_prompts, read_fact, single_pairs, tell_apart
from sync_r1.unifybench.builder.rules import Pair, alike, choose, malformed, normal, repeats, useless


@dataclass(frozen=True)
class PhotoQuestion:
    """A question about a picture, by its path below the data root as it is now."""

    photo: str
    question: str
    answer: str


@dataclass(frozen=True)
class Recognition:
    """A picture that does or does not show the concept."""

    photo: str
    shows_it: bool


@dataclass(kw_only=True)
class TestSet:
    """What a concept will be tested on, and the training prompts it was kept apart from."""

    __test__ = False  # pytest would collect the class by its name

    concept: str
    made_by: str
    facts: list[str]
    held_out: list[str] = field(default_factory=list)  # training photos that become test photos
    train: list[Pair] = field(default_factory=list)
    test: list[Pair] = field(default_factory=list)
    dense_pairs: list[Pair] = field(default_factory=list)
    dense: list[str] = field(default_factory=list)
    questions: list[QA] = field(default_factory=list)
    photo_questions: list[PhotoQuestion] = field(default_factory=list)
    recognition: list[Recognition] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How much to build, where there is enough to build it from."""

    per_fact: int = 4  # test pairs of one fact
    dense_pairs: int = 12
    dense: int = 12
    test_fraction: float = 0.2  # of the photos, where none is for testing yet


class Writer(Protocol):
    """Proposes more than the templates do, for example a chat model."""

    name: str

    def pairs(self, concept: Concept, sizes: Sizes) -> list[Pair]: ...
    def dense_pairs(self, concept: Concept, sizes: Sizes) -> list[Pair]: ...
    def dense(self, concept: Concept, sizes: Sizes) -> list[str]: ...
    def questions(self, concept: Concept) -> list[QA]: ...
    def photo_questions(self, concept: Concept, photos: Sequence[Path]) -> list[tuple[Path, QA]]: ...
    def notes(self) -> list[str]: ...


def build_test_set(root: Path | str, name: str, sizes: Sizes = Sizes(), writer: Writer | None = None) -> TestSet:
    """Propose a test set for a concept; nothing is written. The same data and options give the same proposal.

    Kept as they are: training prompts, test photos, and questions that are there. Without test photos every so many-th
    training photo is held out. `writer`: its proposals come first, and templates fill up what fails the rules. Raises
    ValueError when the concept cannot be read, or when no photo can be held out.
    """
    root = Path(root)
    concept = read_concept(root, name)
    layout, placeholder, dropped = Layout(root), concept.placeholder, Counter[str]()
    made = TestSet(
        concept=name, made_by=f"{writer.name} and templates" if writer else "templates", facts=list(concept.facts)
    )
    made.held_out = hold_out(layout, concept, sizes.test_fraction)
    held = [layout.train(name) / file_name for file_name in made.held_out]
    if held:
        made.notes.append(
            f"{len(held)} photos leave the training set for testing; do not test checkpoints that were trained before"
        )
    forms = [read_fact(fact, name, concept.category) for fact in concept.facts]
    hints = tell_apart([found for found, _ in forms])
    made.train = training_pairs(concept)
    made.notes += _repeated_training(concept, made.train)

    def fault(pair: Pair, chosen: Sequence[Pair]) -> str | None:
        reason = malformed(pair, placeholder) or useless(pair, concept.facts, placeholder)
        if reason is None and repeats(pair, [*made.train, *chosen], placeholder):
            return "it asks what another prompt asks"
        return reason

    proposed = []
    if writer:
        proposed = writer.pairs(concept, sizes)
    singles = [*proposed, *single_pairs(hints, concept.facts, placeholder, train=False)]
    made.test = _in_turns(
        [choose(own, sizes.per_fact, fault, dropped) for own in _by_fact(singles, len(concept.facts))]
    )
    missing = max(0, len(made.test) - len(made.train))
    more = single_pairs(hints, concept.facts, placeholder, train=True)
    added = choose(more, missing, lambda pair, chosen: fault(pair, [*made.test, *chosen]), dropped)
    made.train += [replace(pair, facts=()) for pair in added]
    if len(made.train) < len(made.test):
        made.notes.append(
            f"{len(made.test) - len(made.train)} test pairs left out: there must be as many training pairs as test "
            "pairs"
        )
        made.test = made.test[: len(made.train)]
    groups = itertools.chain(
        writer.dense_pairs(concept, sizes) if writer else [], dense_pairs(hints, concept.facts, placeholder)
    )
    made.dense_pairs = choose(
        groups, sizes.dense_pairs, lambda pair, chosen: fault(pair, [*made.test, *chosen]), dropped
    )
    made.dense = _dense(concept, sizes, writer, made, dropped)
    made.questions = _questions(root, concept, [qa for _, asked in forms for qa in asked], writer, dropped)
    photos = list(concept.test_images) or held
    made.photo_questions = _photo_questions(root, concept, photos, held, writer)
    made.recognition = _recognition(layout, concept, photos, held)
    made.notes += _remarks(concept, made, hints, dropped) + (writer.notes() if writer else [])
    return made


def read_concept(root: Path, name: str) -> Concept:
    """The concept, which may have a test folder of photos without any prompts.

    Problems of the old test set do not matter here.
    """
    layout = Layout(root)
    validate_name(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if layout.conditions(name).is_file() or not layout.info(name).is_file() or not layout.test(name).is_dir():
            return load_concept(root, name)
        info, photos = read_info(layout, name), read_train_images(layout, name)
        return assemble(
            layout, name, info, Conditions(), 0, photos, read_conversations(layout, name), read_items(layout, name)
        )


def training_pairs(concept: Concept) -> list[Pair]:
    """The implicit prompts that are not for testing, word for word: runs may have been trained on them. Each once."""
    conditions = concept.conditions
    first: dict[str, Pair] = {}
    for implicit, explicit in list(zip(conditions.implicit, conditions.explicit))[: concept.test_indices.start]:
        first.setdefault(normal(implicit), Pair(implicit, explicit))
    return list(first.values())


def _repeated_training(concept: Concept, pairs: Sequence[Pair]) -> list[str]:
    count = concept.test_indices.start - len(pairs)
    if count:
        return [f"{count} training prompts left out: another one asks the same of another fact"]
    return []


def _by_fact(pairs: Sequence[Pair], count: int) -> list[list[Pair]]:
    found: list[list[Pair]] = []
    for index in range(count):
        found.append([pair for pair in pairs if pair.facts == (index,)])
    return found


def _in_turns(rows: Sequence[Sequence[Pair]]) -> list[Pair]:
    """One of each row, then the second of each: any stretch covers all facts."""
    return [pair for turn in itertools.zip_longest(*rows) for pair in turn if pair is not None]


def hold_out(layout: Layout, concept: Concept, fraction: float) -> list[str]:
    """Names of training photos to test on; none where there are test photos.

    Photos of the published warm-up lists stay.
    """
    if concept.test_images:
        return []
    if not 0 < fraction < 1:
        raise ValueError(f"the share of test photos is {fraction}; it must lie between 0 and 1")
    used = warm_up_pictures(layout, concept.name)
    free = [path for path in concept.train_images if path not in used]
    count = min(max(1, round(len(concept.train_images) * fraction)), len(concept.train_images) - 1, len(free))
    if count < 1:
        raise ValueError(
            f"concept {concept.name!r} has {len(concept.train_images)} photos, {len(used)} of them in warm-up lists, "
            f"so that none can be held out; put photos for testing into {layout.test(concept.name)}"
        )
    return [free[int((i + 0.5) * len(free) / count)].name for i in range(count)]


def warm_up_pictures(layout: Layout, name: str) -> set[Path]:
    """Pictures that published warm-up lists train on, concept or not."""
    paths = [layout.stage(number, name) for number in sorted(set(STAGE_FILE.values()))]
    entries = [entry for path in paths if path.is_file() for entry in stage_entries(path)]
    return {picture for entry in entries if (picture := stage_picture(layout, entry)) is not None}


def trained_questions(root: Path, concept: Concept) -> list[str]:
    """Questions from memory that the warm-up trains on."""
    layout = Layout(root)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        asked = [qa.question for item in derived_items(root, concept) if item.image is None for qa in item.turns]
    for path in {layout.stage(number, concept.name) for number in STAGE_FILE.values()}:
        entries = []
        if path.is_file():
            entries = stage_entries(path)
        asked += [qa.question for entry in entries if stage_picture(layout, entry) is None for qa in read_turns(entry)]
    return asked


def _dense(concept: Concept, sizes: Sizes, writer: Writer | None, made: TestSet, dropped: Counter[str]) -> list[str]:
    placeholder, known = concept.placeholder, [pair.explicit for pair in [*made.train, *made.dense_pairs]]

    def fault(prompt: str, chosen: Sequence[str]) -> str | None:
        if placeholder not in prompt:
            return f"the dense prompt lacks {placeholder}"
        if prompt.count(",") < 2:
            return "the dense prompt has fewer than three clauses"
        if any(alike(prompt, other, placeholder) for other in [*known, *chosen]):
            return "it asks what another prompt asks"
        return None

    proposed = []
    if writer:
        proposed = writer.dense(concept, sizes)
    templates = dense_prompts(concept.facts, placeholder, concept.class_noun, concept.category)
    return choose(itertools.chain(proposed, templates), sizes.dense, fault, dropped)


def _questions(
    root: Path, concept: Concept, asked: Sequence[QA], writer: Writer | None, dropped: Counter[str]
) -> list[QA]:
    """Questions from memory that are there, then new ones: of the wordings of one question the first that was not
    trained."""
    placeholder = concept.placeholder
    trained = trained_questions(root, concept)
    known = {normal(question) for question in trained}
    there = dict.fromkeys(QA(item.question, item.answer) for item in concept.items if item.kind == TEXT_ONLY)
    copied = "the question is asked in training"
    kept = choose(there, len(there), lambda qa, chosen: copied if normal(qa.question) in known else None, dropped)
    kind = with_article(concept.class_noun)
    general = [QA(f"What kind of thing is {placeholder}?", f"{kind[:1].upper()}{kind[1:]}.")]

    def fault(qa: QA, chosen: Sequence[QA]) -> str | None:
        if placeholder not in qa.question:
            return f"the question lacks {placeholder}"
        if any(alike(qa.question, question, placeholder) for question in trained):
            return copied
        earlier = [*kept, *chosen]
        if any(alike(qa.question, other.question, placeholder) or qa.answer == other.answer for other in earlier):
            return "the question is asked already"
        return None

    proposed = []
    if writer:
        proposed = writer.questions(concept)
    found = choose(itertools.chain(proposed), len(proposed), fault, dropped)
    wordings = choose([*asked, *general], len(asked) + 1, lambda qa, chosen: fault(qa, [*found, *chosen]), Counter())
    return [*kept, *found, *wordings]


def _photo_questions(
    root: Path, concept: Concept, photos: Sequence[Path], held: Sequence[Path], writer: Writer | None
) -> list[PhotoQuestion]:
    """Questions about test photos: those that are there, those of photos held out now, and what all photos are asked
    alike."""
    kept = [(item.image, QA(item.question, item.answer)) for item in concept.items if item.kind == "vqa" and item.image]
    found = kept + [(path, qa) for path in held for qa in concept.conversations.get(path.name, [])]
    if writer:
        found += writer.photo_questions(concept, photos)
    talks = [talk for key, talk in concept.conversations.items() if key != TEXT_ONLY]
    counts = Counter(qa for talk in talks for qa in dict.fromkeys(talk))
    always = [qa for qa, count in counts.items() if count == len(talks) > 1]
    asked = {(path, qa.question) for path, qa in found}
    found += [(path, qa) for path in photos for qa in always if (path, qa.question) not in asked]
    return [PhotoQuestion(below(root, path), qa.question, qa.answer) for path, qa in dict.fromkeys(found)]


def _recognition(layout: Layout, concept: Concept, photos: Sequence[Path], held: Sequence[Path]) -> list[Recognition]:
    """Test photos, and as many pictures of something else that training does not use.

    Half of every folder is left to training.
    """
    kept = [item for item in concept.items if item.kind == "rec" and item.image]
    shown = {item.image: _says_yes(item) for item in kept if item.image} | dict.fromkeys(photos, True)
    used = warm_up_pictures(layout, concept.name) | set(concept.train_images) - set(held)
    wanted = sum(shown.values()) - sum(not shows for shows in shown.values())
    hard, easy = (_half(list_pictures(layout.negatives(concept.name))), _half(random_images(layout.root)))
    turns = [path for both in itertools.zip_longest(hard, easy) for path in both if path is not None]
    others = [path for path in turns if path not in used and path not in shown]
    shown |= dict.fromkeys(others[: max(0, wanted)], False)
    return [Recognition(below(layout.root, path), shows) for path, shows in shown.items()]


def _half(paths: Sequence[Path]) -> Sequence[Path]:
    return paths[: (len(paths) + 1) // 2]


def _says_yes(item: TestItem) -> bool:
    return not item.answer.strip().lower().startswith("no")


def _remarks(concept: Concept, made: TestSet, hints: Sequence[Sequence[object]], dropped: Counter[str]) -> list[str]:
    covered = {index for pair in made.test for index in pair.facts}
    remarks = [
        f"no pair for fact {index + 1} ({fact}): "
        + (
            "the ones found failed the rules below"
            if hints[index]
            else "no template fits it alone; write one here, or name a model"
        )
        for index, fact in enumerate(concept.facts)
        if index not in covered
    ]
    if not concept.conditions.legacy:
        old = concept.num_testing_info
    else:
        old = len(concept.conditions.plain)
    if old:
        remarks.append(f"takes the place of {old} test prompts, which `bench apply` copies to the review folder first")
    idle = len(made.train) - min(len(made.train), (len(made.train) + len(made.test) + 1) // 2)
    if idle:
        remarks.append(
            f"the last {idle} training prompts lie beyond the first half of all prompts, which is what training draws "
            "from"
        )
    if not any(not entry.shows_it for entry in made.recognition):
        remarks.append("no pictures of anything else: put some into random_images/ or negative_example/ of the concept")
    return remarks + [f"{count} proposals left out: {reason}" for reason, count in dropped.most_common()]


def below(root: Path, path: Path) -> str:
    """The path of a picture below the data root, or as it is."""
    if path.is_relative_to(root):
        return path.relative_to(root).as_posix()
    return path.as_posix()


def chosen_names(root: Path | str, names: Iterable[str]) -> list[str]:
    """Concept names, "all" spelled out."""
    ids: list[str] = []
    for one in names:
        if one == "all":
            ids += list_concepts(root)
        else:
            ids += [find_concept(root, one)]
    return list(dict.fromkeys(ids))
