"""Scores of written answers (UnifyBench++ metric formulas)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Literal

Matching = Literal["unifybench++", "legacy"]

BLEU_WEIGHTS = (0.7, 0.3)  # of character unigrams and bigrams


def normalise(text: str) -> str:
    """Lower case, single spaces, no trailing periods."""
    return " ".join(text.casefold().split()).rstrip(". ")


def exact(prediction: str, truth: str) -> float:
    """1 if both texts are the same but for letter case, spacing and trailing periods, else 0."""
    return float(normalise(prediction) == normalise(truth))


def token_f1(prediction: str, truth: str) -> float:
    """Harmonic mean of word precision and recall, with repeats counted; a placeholder such as `<bo>` is one word.

    Two empty texts agree.
    """
    predicted, expected = (
        Counter(re.findall(r"<[^<>\s]+>|[^\W_]+(?:['’_-][^\W_]+)*", text.casefold())) for text in (prediction, truth)
    )
    if not predicted or not expected:
        return float(predicted == expected)
    shared = (predicted & expected).total()
    return 2 * shared / (predicted.total() + expected.total())


def char_bleu(prediction: str, truth: str) -> float:
    """BLEU over characters: unigrams 0.7, bigrams 0.3, smoothing method 1, brevity penalty, one reference.

    An empty text scores 0.
    """
    if not prediction or not truth:
        return 0.0
    from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu  # slow to import, and only scoring needs it

    smoothing = SmoothingFunction().method1
    return float(sentence_bleu([list(truth)], list(prediction), weights=BLEU_WEIGHTS, smoothing_function=smoothing))


def is_negative(truth: str, protocol: Matching = "unifybench++") -> bool:
    """Whether the right answer of a recognition item is no. Legacy: the truth is literally `No.`"""
    if protocol == "legacy":
        return truth == "No."
    return truth.strip().lower().startswith("no")


def recognition(prediction: str, truth: str, protocol: Matching = "unifybench++") -> float:
    """1 if the wanted word, yes or no, occurs in the answer (an answer with both is right on either side).

    unifybench++: whole words in any letter case. legacy: substrings, so that "not" and "know" count as no.
    """
    wanted = "yes"
    if is_negative(truth, protocol):
        wanted = "no"
    if protocol == "legacy":
        return float(wanted in prediction.lower())
    return float(re.search(rf"\b{wanted}\b", prediction, re.IGNORECASE) is not None)


DECISIONS = ("yes", "no")


def split_decision(text: str, options: Sequence[str]) -> tuple[str, str | None]:
    """What a text says before its last word, and that word, if it is one of `options`; else ("", None).

    "a red dog with a star. no" → ("a red dog with a star.", "no"); letter case and a final full stop do not matter.
    """
    words = "|".join(map(re.escape, options))
    found = re.fullmatch(rf"(.*?)\s*\b({words})\W*", text.strip(), flags=re.IGNORECASE | re.DOTALL)
    if found is None:
        return "", None
    return found[1].strip(), found[2].lower()
