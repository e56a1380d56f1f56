"""The review file of a proposed test set: YAML that a person reads and edits.

Every mistake in it is named by line and field.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml

from sync_r1.data import QA
from sync_r1.files import write_text
from sync_r1.suggestions import did_you_mean
from sync_r1.unifybench.builder.propose import PhotoQuestion, Recognition, TestSet
from sync_r1.unifybench.builder.rules import Pair

T = TypeVar("T")

_HEAD = """\
# The proposed test set of <{name}>, by {made_by}. Nothing uses it before you say so:
#     sync-r1 bench apply {path}
# Read it, change any text, remove what is wrong, add what is missing. Facts are named by number. Pictures are named by
# their path below the data folder. Numbers of entries are free, but there must be as many training pairs as test pairs,
# or more.
"""
_ABOUT = {
    "facts": "What the concept's info.json says, for reading. To change a fact, edit it there and build again.",
    "held_out": (
        "Training photos that become test photos: they leave training and the questions about them become test "
        "questions."
    ),
    "train": "Prompts to train on, and the same with the fact spelled out. Nothing like them may be in the tests.",
    "test": "Tests rea and rea_gen: the implicit prompt only hints at the fact, the explicit one is the right rewrite.",
    "dense_pairs": "Tests dense_rea and dense_rea_gen: several facts, in clauses with commas between.",
    "dense": "Test dense_gen: long prompts that need no fact.",
    "questions": "Test qa: questions from memory.",
    "photo_questions": "Test vqa: questions about a picture.",
    "recognition": "Test rec: does the picture show it?",
}


def review_path(root: Path | str, name: str) -> Path:
    return Path(root) / "review" / f"{name}.yaml"


def write_review(path: Path, made: TestSet) -> Path:
    """Write the proposal as YAML with comments; the file appears only when complete."""
    text = _HEAD.format(name=made.concept, made_by=made.made_by, path=path)
    text += "".join(f"# Note: {note}\n" for note in made.notes)
    text += "\n" + _dump({"concept": made.concept, "made_by": made.made_by})
    for key, value in _content(made).items():
        text += f"\n# {_ABOUT[key]}\n{_dump({key: value})}"
    return write_text(path, text)


def _content(made: TestSet) -> dict[str, Any]:
    return {
        "facts": {number + 1: fact for number, fact in enumerate(made.facts)},
        "held_out": made.held_out,
        "train": [{"implicit": pair.implicit, "explicit": pair.explicit} for pair in made.train],
        "test": [
            {"fact": pair.facts[0] + 1, "implicit": pair.implicit, "explicit": pair.explicit} for pair in made.test
        ],
        "dense_pairs": [
            {"facts": [index + 1 for index in pair.facts], "implicit": pair.implicit, "explicit": pair.explicit}
            for pair in made.dense_pairs
        ],
        "dense": made.dense,
        "questions": [{"question": qa.question, "answer": qa.answer} for qa in made.questions],
        "photo_questions": [vars(row) for row in made.photo_questions],
        "recognition": [vars(row) for row in made.recognition],
    }


def _dump(value: dict[str, Any]) -> str:
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10_000)


class _Dumper(yaml.SafeDumper):
    """Lists of numbers on one line, lists of entries indented."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)

    def represent_sequence(self, tag: str, sequence: Any, flow_style: bool | None = None) -> yaml.SequenceNode:
        return super().represent_sequence(tag, sequence, flow_style=all(isinstance(one, int) for one in sequence))


class Entry:
    """One value of a YAML file that knows its line and its field, as `test[3].implicit`."""

    def __init__(self, path: Path, node: yaml.Node, field: str = "") -> None:
        self.path, self.node, self.field = path, node, field

    @property
    def line(self) -> int:
        return self.node.start_mark.line + 1

    def wrong(self, allowed: str) -> ValueError:
        if isinstance(self.node, yaml.ScalarNode):
            seen = repr(self.node.value)
        else:
            seen = f"a {self.node.id}"
        return ValueError(f"{self.path}, line {self.line}: field {self.field!r} is {seen}; it must be {allowed}")

    def fields(self, known: Sequence[str], needed: Sequence[str] = ()) -> dict[str, Entry]:
        """The entries of a mapping. ValueError for a key that is unknown, missing or there twice."""
        if not isinstance(self.node, yaml.MappingNode):
            raise self.wrong(f"fields with values: {', '.join(known)}")
        found: dict[str, Entry] = {}
        lines: dict[str, int] = {}
        for key_node, node in self.node.value:
            key, line = str(key_node.value), key_node.start_mark.line + 1
            if key in found:
                raise ValueError(
                    f"{self.path}, line {line}: field {self._name(key)!r} is twice, before on line {lines[key]}; name "
                    "it once"
                )
            if key not in known:
                fix = did_you_mean(key, known)
                raise ValueError(f"{self.path}, line {line}: field {self._name(key)!r} is unknown; {fix}")
            lines[key] = line
            found[key] = Entry(self.path, node, self._name(key))
        if absent := [key for key in needed if key not in found]:
            raise ValueError(f"{self.path}, line {self.line}: field {self._name(absent[0])!r} is missing")
        return found

    def _name(self, key: str) -> str:
        if self.field:
            return f"{self.field}.{key}"
        return key

    def rows(self) -> list[Entry]:
        """The entries of a list; nothing at all is an empty list."""
        if isinstance(self.node, yaml.ScalarNode) and self.node.tag.endswith(":null"):
            return []
        if not isinstance(self.node, yaml.SequenceNode):
            raise self.wrong("a list, one entry per line after a dash")
        return [Entry(self.path, node, f"{self.field}[{number}]") for number, node in enumerate(self.node.value)]

    def text(self) -> str:
        """Text that is not empty, on one line; numbers and the word yes are text too."""
        if not isinstance(self.node, yaml.ScalarNode) or self.node.tag.endswith(":null") or not self.node.value.strip():
            raise self.wrong("text that is not empty; put quotes around it if it holds a colon or begins with a sign")
        return " ".join(self.node.value.split())

    def number(self, most: int) -> int:
        """A whole number from 1 to `most`, as an index from 0."""
        value = ""
        if isinstance(self.node, yaml.ScalarNode):
            value = self.node.value
        if not (value.isdecimal() and 1 <= int(value) <= most):
            raise self.wrong(f"the number of a fact, 1 to {most}")
        return int(value) - 1

    def flag(self) -> bool:
        value = ""
        if isinstance(self.node, yaml.ScalarNode):
            value = self.node.value.lower()
        if value not in ("true", "yes", "false", "no"):
            raise self.wrong("true or false")
        return value in ("true", "yes")


def read_review(path: Path) -> tuple[TestSet, dict[str, int]]:
    """The edited proposal, and the line of every field by its name. Raises ValueError naming line and field.

    Whether it makes sense for its concept is `apply.problems`' business.
    """
    try:
        node = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except FileNotFoundError as error:
        raise ValueError(f"{path}: no such file; `sync-r1 bench build` writes it") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = ""
        if mark:
            where = f", line {mark.line + 1}, column {mark.column + 1}"
        raise ValueError(f"{path}{where}: not valid YAML: {getattr(error, 'problem', None) or error}") from error
    if node is None:
        raise ValueError(f"{path}: is empty; build it again with `sync-r1 bench build`")
    top = Entry(path, node).fields(["concept", "made_by", *_ABOUT], ["concept", "facts", "test"])
    lines: dict[str, int] = {}

    def each(key: str, read: Callable[[Entry], T]) -> list[T]:
        rows = []
        if key in top:
            rows = top[key].rows()
        lines.update({row.field: row.line for row in rows})
        return [read(row) for row in rows]

    numbers = []
    if isinstance(top["facts"].node, yaml.MappingNode):
        numbers = top["facts"].node.value
    names = [str(number + 1) for number in range(len(numbers))]
    facts = [entry.text() for entry in top["facts"].fields(names, names).values()]
    made = TestSet(
        concept=top["concept"].text(),
        made_by=top["made_by"].text() if "made_by" in top else "a person",
        facts=facts,
        held_out=each("held_out", Entry.text),
        train=each("train", lambda row: _pair(row, None, facts)),
        test=each("test", lambda row: _pair(row, "fact", facts)),
        dense_pairs=each("dense_pairs", lambda row: _pair(row, "facts", facts)),
        dense=each("dense", Entry.text),
        questions=each("questions", lambda row: QA(**_texts(row, "question", "answer"))),
        photo_questions=each(
            "photo_questions", lambda row: PhotoQuestion(**_texts(row, "photo", "question", "answer"))
        ),
        recognition=each("recognition", _recognition),
    )
    return made, lines


def _pair(row: Entry, naming: str | None, facts: Sequence[str]) -> Pair:
    known = ["implicit", "explicit", *([naming] if naming else [])]
    found = row.fields(known, known)
    named: list[Entry] = []
    if naming:
        if naming == "fact":
            named = [found[naming]]
        else:
            named = found[naming].rows()
    if naming and not named:
        raise found[naming].wrong("the numbers of one fact or more, such as [1, 2]")
    indices = tuple(dict.fromkeys(entry.number(len(facts)) for entry in named))
    return Pair(found["implicit"].text(), found["explicit"].text(), indices)


def _texts(row: Entry, *names: str) -> dict[str, str]:
    return {name: entry.text() for name, entry in row.fields(names, names).items()}


def _recognition(row: Entry) -> Recognition:
    found = row.fields(["photo", "shows_it"], ["photo", "shows_it"])
    return Recognition(found["photo"].text(), found["shows_it"].flag())
