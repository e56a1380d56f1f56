"""A4: taking the fact with the highest credit away changes text and picture; taking another away changes neither."""

from __future__ import annotations

from dataclasses import replace

from application_claims.given import Given, Values, new_values
from application_claims.pictures import seen
from sync_r1.apps.why import facts_credits
from sync_r1.data.prompts import rewrite_prompt
from sync_r1.session import Session
from sync_r1.types import TextContext
from sync_r1.unifybench.tasks import build_items
from sync_r1.world import grammar
from sync_r1.world.concepts import Persona
from sync_r1.world.render import CONTEXT


def measure(given: Given) -> Values:
    """Held-out prompts with a private word, rewritten with all facts, without the named one, and without another."""
    session = given.trained()
    values = new_values()
    items = build_items(session.concept, root=session.root, tasks=["rea"], max_items=given.count("prompts"))
    prompts = [item.prompt for item in items]
    texts = session.rewrites(prompts)
    credits = facts_credits(session, list(zip(prompts, texts, strict=True)))
    truth = meanings(given.persona)
    for item, text, row in zip(items, texts, credits, strict=True):
        best, least = max(range(len(row)), key=row.__getitem__), min(range(len(row)), key=row.__getitem__)
        for what, number in (("it", best), ("another", least)):
            other = rewritten_without(session, item.prompt, number)
            values[f"text changes without {what}"].append(float(other != text))
            values[f"picture changes without {what}"].append(float(picture_changes(session, text, other, item.seed)))
        meant = [fact for word, fact in truth.items() if word in item.prompt]
        values["it is the fact that was meant"].append(float(session.concept.facts[best] in meant))
    return dict(values)


def meanings(persona: Persona) -> dict[str, str]:
    """ "its treasure" → "<bo> carries a flower."."""
    found = {}
    for word, attribute in persona.meanings.items():
        found[f"its {word}"] = grammar.fact(persona.placeholder, attribute, persona.facts[attribute])
    return found


def rewritten_without(session: Session, prompt: str, number: int) -> str:
    """The model's rewrite when one of the facts is not told."""
    facts = [fact for place, fact in enumerate(session.concept.facts) if place != number]
    context = TextContext(rewrite_prompt(replace(session.concept, facts=facts), prompt))
    return session.answers([context])[0]


def picture_changes(session: Session, text: str, other: str, seed: int) -> bool:
    """Whether the drawings of two texts, with one seed, differ in hat, held thing or place."""
    if text == other:
        return False
    images = [session.draw(session.drawn_text(text, written), 1, seed)[0] for written in (text, other)]
    before, after = seen(images)
    return any(before[name] != after[name] for name in CONTEXT)
