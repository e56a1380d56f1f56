"""The literal text a model reads in each task.

Pure functions of protocol, concept and prompt; the formats follow unifybench §2.2.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol as Interface

from sync_r1.data.prompts import Described, compose, placeholder, rewrite_prompt, text_prefix
from sync_r1.unifybench.protocol import Protocol


class PromptConcept(Described, Interface):
    """A concept as a prompt describes it."""

    @property
    def placeholder(self) -> str:
        """How prompts mention it: "<bo>", or the words a baseline says in its place."""
        ...


# Our own wording of the rewriting task; rea names one fact, dense_rea one or several.
INSTRUCTIONS = {
    "rea": (
        "These things are known about {name}: {facts}\n"
        "Spell out this drawing prompt: {prompt}\n"
        "If the prompt points at one of the things above, add the details of that one and of no other. "
        "If it points at none of them, repeat the prompt as it is. Reply with the finished prompt and nothing else."
    ),
    "dense_rea": (
        "These things are known about {name}: {facts}\n"
        "Spell out this drawing prompt: {prompt}\n"
        "Add the details of every thing above that the prompt points at, be it one or several, and of no other. "
        "If it points at none of them, repeat the prompt as it is. Reply with the finished prompt and nothing else."
    ),
}


def prefix_lines(protocol: Protocol, concept: Described, drawing: bool) -> str:
    """The name and info lines where the protocol wants them, else ""."""
    wanted = protocol.text_prefix == "all" or (protocol.text_prefix == "understanding" and not drawing)
    if wanted:
        return text_prefix(concept)
    return ""


def question_text(protocol: Protocol, concept: Described, question: str, introduction: str = "") -> str:
    """Prefix lines, introduction and question between `USER: ` and ` ASSISTANT:`."""
    lines = [prefix_lines(protocol, concept, drawing=False), introduction, question]
    return f"USER: {chr(10).join(line for line in lines if line)} ASSISTANT:"


def tokens_line(name: str, tokens: Sequence[str]) -> str:
    """`<c> is TOKS.`, or "" without tokens."""
    if tokens:
        return f"{placeholder(name)} is {''.join(tokens)}."
    return ""


def rewriting_text(protocol: Protocol, concept: PromptConcept, task: str, prompt: str) -> str:
    """The context of rea and dense_rea. ValueError when the concept has no facts."""
    if not concept.facts:
        raise ValueError(
            f"concept {concept.name!r} has no facts to rewrite with; add some to extra_info of its info.json"
        )
    if protocol.rewrite_prompt == "trained" and protocol.text_prefix != "none":
        return rewrite_prompt(concept, prompt)
    if protocol.rewrite_prompt == "trained":
        return f"USER: facts: {' '.join(concept.facts)}\nrewrite: {prompt} ASSISTANT:"
    if protocol.rewrite_prompt == "instruction":
        wording = INSTRUCTIONS
    else:
        wording = read_instructions(Path(protocol.rewrite_prompt))
    # the published prompt shows the facts in Python's notation of a list
    values = {"name": concept.placeholder, "facts": repr(list(concept.facts)), "prompt": prompt}
    return question_text(
        protocol, concept, re.sub(r"\{(name|facts|prompt)\}", lambda field: values[field[1]], wording[task])
    )


def read_instructions(path: Path) -> dict[str, str]:
    """A JSON file {"rea": …, "dense_rea": …}, each text with {facts} and {prompt}, and perhaps {name}, which
    becomes "<bo>". ValueError for anything else."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"rewrite_prompt is {str(path)!r}, which is no readable JSON file ({error})") from error
    for task in INSTRUCTIONS:
        text = None
        if isinstance(values, dict):
            text = values.get(task)
        if not isinstance(text, str) or "{facts}" not in text or "{prompt}" not in text:
            raise ValueError(f"{path}: field {task!r} must be a text that holds {{facts}} and {{prompt}}")
    return dict(values)


def drawing_text(protocol: Protocol, concept: PromptConcept, words: str, tokens: Sequence[str]) -> str:
    """Prefix lines, then the words with the soft tokens before every placeholder; words without it get none."""
    mention = concept.placeholder
    space = ""
    if protocol.token_space and tokens:
        space = " "
    conditioned = words.replace(mention, f"{''.join(tokens)}{space}{mention}")
    lines = [prefix_lines(protocol, concept, drawing=True), conditioned]
    return "\n".join(line for line in lines if line)


def drawn_words(protocol: Protocol, name: str, prompt: str, rewrite: str) -> str:
    """What *_rea_gen draws after the rewrite."""
    if protocol.drawn_rewrite == "composed":
        return compose("reason", name, prompt, rewrite)
    return rewrite
