"""What makes a test prompt usable: it names the concept, hints at the fact without giving it away, and nothing like it
was trained.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

SIMILAR = 0.7  # share of common words from which two prompts count as the same question

# Function words, words of ownership and liking, and names of pictures.
_IDLE_TEXT = """
    a an the this that these those its his her their it he she they him them who which what whose where when while as
    is are was were be been being has have had having own owns owned got get do does did can
    in on at of to from for with by about into and or not no very also only always often usually sometimes
    carry carries carried carrying hold holds held holding wear wears wore wearing worn
    like likes liked love loves loved enjoy enjoys prefer prefers adore adores hate hates
    photo picture snapshot image portrait shot pair set bunch
"""
_IDLE = frozenset(_IDLE_TEXT.split())

T = TypeVar("T")


@dataclass(frozen=True)
class Pair:
    """A prompt that only hints at facts, and the same with the facts spelled out.

    `facts`: their indices; empty is unknown.
    """

    implicit: str
    explicit: str
    facts: tuple[int, ...] = ()


def content_words(text: str, placeholder: str = "") -> frozenset[str]:
    """Stems of the words that carry meaning, in lower case, without the placeholder."""
    plain = re.sub(r"['’]s\b", "", text.replace(placeholder, " ") if placeholder else text)
    from nltk.stem import PorterStemmer

    stemmer = PorterStemmer()
    return frozenset(stemmer.stem(word) for word in re.findall(r"[^\W_]+", plain.casefold()) if word not in _IDLE)


def normal(text: str) -> str:
    """The text without letter case, punctuation and spacing."""
    return " ".join(re.findall(r"[^\W_]+", text.casefold()))


def alike(first: str, second: str, placeholder: str) -> bool:
    """Whether two prompts ask the same: equal but for case and punctuation, or with nearly the same words."""
    if normal(first) == normal(second):
        return True
    ours, theirs = content_words(first, placeholder), content_words(second, placeholder)
    return bool(ours | theirs) and len(ours & theirs) / len(ours | theirs) >= SIMILAR


def useless(pair: Pair, facts: Sequence[str], placeholder: str) -> str | None:
    """Why a pair tests nothing: the hint gives the fact away, or the spelled-out prompt leaves it out. None when it is
    right.

    A hint may share the topic with its fact ("its raincoat" of "a green raincoat"): at most half of the words, and
    never all.
    """
    hinted, spelled = content_words(pair.implicit, placeholder), content_words(pair.explicit, placeholder)
    for index in pair.facts:
        words = content_words(facts[index], placeholder)
        shared = words & hinted
        if words and (len(shared) == len(words) or len(shared) > max(1, len(words) // 2)):
            return f"the implicit prompt gives fact {index + 1} away ({', '.join(sorted(shared))})"
        if missing := words - spelled:
            return f"the explicit prompt leaves out {', '.join(sorted(missing))} of fact {index + 1}"
    return None


def malformed(pair: Pair, placeholder: str) -> str | None:
    """Why a pair cannot be used at all, or None."""
    for name, text in (("implicit", pair.implicit), ("explicit", pair.explicit)):
        if placeholder not in text:
            return f"the {name} prompt lacks {placeholder}"
    if normal(pair.implicit) == normal(pair.explicit):
        return "both prompts are the same"
    return None


def repeats(pair: Pair, others: Iterable[Pair], placeholder: str) -> bool:
    """Whether another pair asks the same.

    Spelled-out prompts share the words of their facts, so these must only not be equal.
    """
    return any(
        alike(pair.implicit, other.implicit, placeholder) or normal(pair.explicit) == normal(other.explicit)
        for other in others
    )


def choose(
    candidates: Iterable[T], wanted: int, fault: Callable[[T, Sequence[T]], str | None], dropped: Counter[str]
) -> list[T]:
    """The first `wanted` candidates without a fault, given those chosen before.

    The others are counted in `dropped` by fault.
    """
    chosen: list[T] = []
    for candidate in candidates:
        if len(chosen) >= wanted:
            break
        reason = fault(candidate, chosen)
        if reason is None:
            chosen.append(candidate)
        else:
            dropped[re.sub(r" (?:of )?fact [0-9]+.*| \(.*\)|<.*>", "", reason)] += 1
    return chosen
