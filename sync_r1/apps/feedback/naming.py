"""Which private facts a rewrite names.

By words, where it holds a word of a fact that neither the prompt nor another fact holds; else by credit. Credit alone
would miss a fact that the model guesses anyway, and gives a little to facts whose removal leaves one answer the less.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from sync_r1.apps.why import USED, facts_credits
from sync_r1.session import Session

SHARE = 0.25  # of the largest credit: facts with less are not what the rewrite names
LITTLE_WORDS = frozenset(
    "a an and are as at be by for from has have he her his in into is it its my of on or our she some that the their "
    "them they this to under up was we were with you your".split()
)


def facts_named(session: Session, rewrites: Sequence[tuple[str, str]]) -> list[list[str]]:
    """Which facts each of many (prompt, rewrite) names, as their owner reads them, in the order of the facts.

    ValueError for a concept without facts.
    """
    facts = [session.concept.shown(fact) for fact in session.concept.facts]
    named = [_by_words(facts, session.mention(prompt), session.mention(text)) for prompt, text in rewrites]
    open_rows = [row for row, found in enumerate(named) if not found and rewrites[row][1].strip()]
    credits = facts_credits(session, [rewrites[row] for row in open_rows])
    for row, nats in zip(open_rows, credits, strict=True):
        least = max(USED, SHARE * max(nats))
        named[row] = [fact for fact, credit in zip(facts, nats, strict=True) if credit >= least]
    return named


def _by_words(facts: Sequence[str], prompt: str, text: str) -> list[str]:
    bags = [_words(fact) for fact in facts]
    written = _words(text) - _words(prompt)
    found = []
    for place, fact in enumerate(facts):
        others = set().union(*(bag for index, bag in enumerate(bags) if index != place))
        if (bags[place] - others) & written:
            found.append(fact)
    return found


def _words(text: str) -> set[str]:
    """Lower-case words of any script, without little ones and without placeholders."""
    return set(re.findall(r"\w+", re.sub(r"<[^<>\s]+>", " ", text.lower()))) - LITTLE_WORDS
