"""Facts → hints, questions and drawing prompts by plain English templates.

What no template fits is left to a person or to a model.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from sync_r1.data import QA, Category
from sync_r1.data.phrases import with_article
from sync_r1.unifybench.builder.rules import Pair, content_words

OPENINGS = ("A photo of", "A picture of", "A snapshot of")
TRAIN_SCENES = (
    "in a kitchen", "on a balcony", "in a garden", "at a bus stop", "in the rain", "by a lake", "on a bench",
    "in a library", "on a staircase", "under a bridge", "by a brick wall", "at a market",
)  # fmt: skip
TEST_SCENES = (
    "on a forest path", "in a workshop", "at the seaside", "on a rooftop", "in a snowy yard", "in a train carriage",
    "on a football pitch", "beside a waterfall", "in a greenhouse", "at a campsite", "under street lamps",
    "in a museum hall",
)  # fmt: skip
TRAIN_VIEWS = (
    "in the morning",
    "in black and white",
    "as a watercolour",
    "from far away",
    "in bright light",
    "through a window",
)
TEST_VIEWS = (
    "from above",
    "in evening sun",
    "as a pencil drawing",
    "in close-up",
    "with a blurred background",
    "under grey clouds",
)
LIGHTS = (
    "soft daylight",
    "long shadows",
    "shallow depth of field",
    "warm colours",
    "fine detail",
    "high contrast",
    "light mist",
)
POSES: dict[Category, tuple[str, ...]] = {
    "person": (
        "smiling at the camera",
        "standing with folded arms",
        "walking slowly",
        "looking over one shoulder",
        "sitting cross-legged",
    ),
    "animal": ("looking up", "lying down", "walking towards the camera", "turning its head", "sitting still"),
    "object": (
        "seen from the side",
        "turned slightly to the left",
        "filling half of the picture",
        "casting a shadow",
        "in sharp focus",
    ),
}

_THE = r"(?:an?|the|its|his|her|their|some|one)"
_PLACE = r"(?:in|on|at|under|by|near|behind|beside|inside|next to|above|below)"
_OWNS = re.compile(rf"(?P<verb>has got|has|have|owns|got|wears|carries|holds) (?:{_THE} )?(?P<thing>.+)", re.IGNORECASE)
_LIKES = re.compile(r"(?P<verb>loves|likes|enjoys|prefers|adores|hates) (?P<thing>.+)", re.IGNORECASE)
_STAYS = re.compile(rf"(?P<verb>[a-z]+s|(?:is|was) [a-z]+(?:ed|n)) (?P<place>{_PLACE} [^0-9]+)", re.IGNORECASE)
_BEING = re.compile(r"(?:is|are|was) (?P<how>[\w-]+ (?:of|to|at|by|about|with|for|from)) (?P<thing>.+)", re.IGNORECASE)
_DOES = re.compile(r"(?P<verb>[a-z]+s)(?P<prep> (?:with|to|for|about))? (?P<thing>.+)", re.IGNORECASE)
_NEGATED = re.compile(r"\b(?:never|not|no|cannot|without|\w+n['’]t)\b", re.IGNORECASE)
_AFTER_HEAD = re.compile(
    r" (?:with|in|on|of|from|that|which|who|for|at|and|made|while|when|called|named)\b", re.IGNORECASE
)
_NO_VERB = ("is", "was", "has", "does", "always", "sometimes", "as", "its", "his")
_HOLDING = {"wears": "wearing", "carries": "carrying", "holds": "holding"}


@dataclass(frozen=True)
class Hint:
    """One fact as part of a drawing prompt: hinted at, and spelled out.

    `place`: it says where, so no other scene is added.
    """

    implicit: str
    explicit: str
    place: bool = False


def _possessive(predicate: str, placeholder: str, category: Category) -> tuple[list[Hint], list[QA]]:
    """<bo>'s favourite toy is a rubber duck."""
    match = re.fullmatch(r"['’]s (?P<topic>.+?) (?:is|are|was|were) (?P<what>.+)", predicate)
    if not match:
        return [], []
    whose, topic, what = _whose(category), match["topic"], match["what"]
    # the sentence names a thing, not a property
    noun = re.match(rf"{_THE} |[A-Z0-9]", what) or re.match(r"favou?rite|best", topic)
    if noun or len(what.split()) > 3:
        spelled = f"with {what} as {whose} {topic}"
    else:
        spelled = f"with {whose} {what} {topic}"
    return [Hint(f"with {whose} {topic}", spelled)], _asked(
        what, f"What is {placeholder}'s {topic}?", f"Can you say what {placeholder}'s {topic} is?"
    )


def _owned(predicate: str, placeholder: str, category: Category) -> tuple[list[Hint], list[QA]]:
    """<bo> has a green raincoat."""
    match = _OWNS.fullmatch(predicate)
    if not match:
        return [], []
    verb, thing = match["verb"].lower(), match["thing"]
    thing = re.sub(r"^(?:pair|set|bunch) of ", "", thing)
    head = _AFTER_HEAD.split(thing, maxsplit=1)[0].split()[-1]
    whose, holding = _whose(category), _HOLDING.get(verb, "with")
    does = {"wears": "wear", "carries": "carry", "holds": "hold", "owns": "own"}.get(verb, "have")
    answer = predicate[len(match["verb"]) + 1 :]
    if head == thing:
        hint = Hint(f"{holding} something of {'its' if whose == 'its' else 'their'} own", f"{holding} {whose} {thing}")
        return [hint], _asked(answer, f"What does {placeholder} {does}?", f"Name something that {placeholder} {verb}.")
    hint = Hint(f"{holding} {whose} {head}", f"{holding} {whose} {thing}")
    asked = f"What kind of {head} does {placeholder} {does}?"
    return [hint], _asked(answer, asked, f"Describe the {head} of {placeholder}.")


def _liked(predicate: str, placeholder: str, category: Category) -> tuple[list[Hint], list[QA]]:
    """<bo> loves peanut butter; <bo> likes swimming in the lake."""
    match = _LIKES.fullmatch(predicate)
    if not match:
        return [], []
    thing, likes = match["thing"], f"{_pronoun(category)} {_agreeing(match['verb'].lower(), category)}"
    questions = _asked(
        thing,
        f"What does {placeholder} {_base(match['verb'].lower())}?",
        f"Name something that {placeholder} {match['verb'].lower()}.",
    )
    if thing.split()[0].endswith("ing"):
        return [Hint(f"doing what {likes}", thing)], questions
    if thing.startswith("to "):
        return [Hint(f"doing what {likes}", f"allowed {thing}")], questions
    return [Hint(f"with what {likes}", f"with {thing}")], questions


def _placed(predicate: str, placeholder: str, category: Category) -> tuple[list[Hint], list[QA]]:
    """<bo> sleeps in a wicker basket; <bo> was born in Hanoi."""
    match = _STAYS.fullmatch(predicate)
    if not match or match["verb"].lower() in _NO_VERB:
        return [], []
    verb = match["verb"].lower()
    stays = f"{_pronoun(category)} {_agreeing(verb, category)}"
    hint = Hint(f"at the place where {stays}", f"{match['place']} where {stays}", place=True)
    be, _, part = verb.rpartition(" ")
    if be:
        asked = f"{be} {placeholder} {part}"
    else:
        asked = f"does {placeholder} {_base(verb)}"
    return [hint], _asked(match["place"], f"Where {asked}?", f"In which place {asked}?")


def _described(predicate: str, placeholder: str, category: Category) -> tuple[list[Hint], list[QA]]:
    """<bo> is afraid of thunder."""
    match = _BEING.fullmatch(predicate)
    if not match:
        return [], []
    feels = f"{_pronoun(category)} {_agreeing('is', category)} {match['how']}"
    hint = Hint(f"with what {feels}", f"with {match['thing']} that {feels}")
    return [hint], _asked(
        match["thing"],
        f"What is {placeholder} {match['how']}?",
        f"Name something that {placeholder} is {match['how']}.",
    )


def _doing(predicate: str, placeholder: str, category: Category) -> tuple[list[Hint], list[QA]]:
    """<bo> plays the violin; <bo> plays with a red ball."""
    match = _DOES.fullmatch(predicate)
    if not match or match["verb"].lower() in _NO_VERB:
        return [], []
    verb, prep = match["verb"].lower(), match["prep"] or ""
    does = f"{_pronoun(category)} {_agreeing(verb, category)}{prep}"
    hint = Hint(f"with what {does}", f"with {match['thing']} that {does}")
    asked = f"What does {placeholder} {_base(verb)}{prep}?"
    return [hint], _asked(match["thing"], asked, f"Name what {placeholder} {verb}{prep}.")


_FORMS: tuple[Callable[[str, str, Category], tuple[list[Hint], list[QA]]], ...] = (
    _possessive, _owned, _liked, _placed, _described, _doing,
)  # fmt: skip


def read_fact(fact: str, name: str, category: Category) -> tuple[list[Hint], list[QA]]:
    """Hints at a fact, and questions about it, by the first form that fits: both empty when none does, as for a
    negation.

    "<bo> has a green raincoat." → ("with its raincoat", "with its green raincoat"), "What kind of raincoat does <bo>
    have?"
    """
    placeholder = f"<{name}>"
    predicate = fact.strip().rstrip(".!").removeprefix(placeholder)
    if predicate == fact.strip().rstrip(".!") or placeholder in predicate or _NEGATED.search(predicate):
        return [], []
    predicate = re.sub(r"\s*[,;]\s*(?:and )?", " and ", predicate).strip()  # in a prompt a comma begins a new clause
    predicate = re.sub(r"^(?:always|often|usually|sometimes|also|really) ", "", predicate)
    return next((found for form in _FORMS if (found := form(predicate, placeholder, category))[0]), ([], []))


def tell_apart(hints: Sequence[list[Hint]]) -> list[list[Hint]]:
    """The hints that only one fact has: "with its hat" is ambiguous for a concept with two hats."""
    uses = Counter(hint.implicit for own in hints for hint in own)
    found: list[list[Hint]] = []
    for own in hints:
        found.append([hint for hint in own if uses[hint.implicit] == 1])
    return found


def single_pairs(hints: Sequence[list[Hint]], facts: Sequence[str], placeholder: str, *, train: bool) -> Iterator[Pair]:
    """Prompts about one fact each, in rounds over all facts, so that any stretch of them covers every fact."""
    endings = {True: TRAIN_VIEWS if train else TEST_VIEWS, False: unlike(TRAIN_SCENES if train else TEST_SCENES, facts)}
    for turn in range(max(map(len, endings.values()), default=0)):
        for index, own in enumerate(hints):
            for hint in own[turn % len(own) : turn % len(own) + 1] if own else []:
                choice = endings[hint.place]
                if turn < len(choice):
                    ending = choice[(turn + 3 * index) % len(choice)]
                    opening = OPENINGS[(turn + index) % len(OPENINGS)]
                    yield Pair(
                        f"{opening} {placeholder} {hint.implicit} {ending}.",
                        f"{opening} {placeholder} {hint.explicit} {ending}.",
                        (index,),
                    )


def dense_pairs(hints: Sequence[list[Hint]], facts: Sequence[str], placeholder: str) -> Iterator[Pair]:
    """Comma-separated prompts about two or three facts; about one where there is no second.

    At most one fact says where.
    """
    known = [index for index, own in enumerate(hints) if own]
    groups: list[tuple[int, ...]] = []
    for size in (2, 3):
        for group in itertools.combinations(known, size):
            places = sum(hints[index][0].place for index in group)
            if places < 2:
                groups.append(group)
    if not groups:
        groups = [(index,) for index in known]
    scenes = unlike(TEST_SCENES, facts)
    for turn in range(len(scenes)):
        for number, group in enumerate(groups):
            own = [hints[index][0] for index in group]
            choice = TEST_VIEWS if any(hint.place for hint in own) else scenes
            if turn < len(choice):
                rest = f"{choice[(turn + 5 * number) % len(choice)]}, {LIGHTS[(turn + number) % len(LIGHTS)]}"
                opening = OPENINGS[(turn + number) % len(OPENINGS)]
                implicit = ", ".join([hint.implicit for hint in own])
                explicit = ", ".join([hint.explicit for hint in own])
                start = f"{opening} {placeholder}"
                yield Pair(f"{start}, {implicit}, {rest}.", f"{start}, {explicit}, {rest}.", group)


def dense_prompts(facts: Sequence[str], placeholder: str, class_noun: str, category: Category) -> Iterator[str]:
    """Long prompts that need no private fact."""
    scenes, poses = unlike(TEST_SCENES, facts), POSES[category]
    for turn in range(len(scenes) * len(poses)):
        scene, pose, light = (
            scenes[turn % len(scenes)],
            poses[(turn + turn // len(scenes)) % len(poses)],
            LIGHTS[turn % len(LIGHTS)],
        )
        yield f"{OPENINGS[turn % len(OPENINGS)]} {placeholder}, {with_article(class_noun)}, {pose}, {scene}, {light}."


def unlike(endings: Sequence[str], facts: Sequence[str]) -> list[str]:
    """Endings that share no word with any fact, so that a scene never tells one by chance."""
    known = frozenset[str]().union(*(content_words(fact) for fact in facts))
    return [ending for ending in endings if not content_words(ending) & known]


def _asked(answer: str, *questions: str) -> list[QA]:
    sentence = f"{answer[0].upper()}{answer[1:]}."
    return [QA(question, sentence) for question in questions]


def _pronoun(category: Category) -> str:
    if category == "person":
        return "they"
    return "it"


def _whose(category: Category) -> str:
    if category == "person":
        return "their"
    return "its"


def _agreeing(verb: str, category: Category) -> str:
    """The verb after "it" or "they"."""
    if category != "person":
        return verb
    first, space, rest = verb.partition(" ")
    return {"is": "are", "was": "were", "has": "have"}.get(first, _base(first)) + space + rest


def _base(verb: str) -> str:
    """sleeps → sleep, carries → carry, watches → watch."""
    if verb.endswith("ies") and len(verb) > 4:
        return f"{verb[:-3]}y"
    if re.search(r"(?:sh|ch|x|ss|zz|o)es$", verb):
        return verb[:-2]
    return verb.removesuffix("s")
