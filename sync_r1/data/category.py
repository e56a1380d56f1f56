"""Is a class noun a person, an animal or an object? Decides which rewards a concept gets."""

from __future__ import annotations

import re
from typing import Literal

Category = Literal["person", "animal", "object"]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_PERSON = _words("""
    human person man woman boy girl baby child kid toddler infant teenager teen adult guy lady gentleman people men
    women children actor actress singer dancer musician rapper idol celebrity athlete footballer officer teacher
    student doctor nurse chef mother father mom dad mum parent grandmother grandfather grandma grandpa sister brother
    son daughter aunt uncle cousin friend husband wife bride groom king queen prince princess politician president
    scientist artist writer
""")
_ANIMAL = _words("""
    animal pet dog puppy hound cat kitten kitty bird parrot budgie canary chicken hen rooster duck goose owl eagle
    penguin pigeon horse pony donkey cow bull calf sheep lamb goat pig piglet rabbit bunny hamster gerbil mouse mice
    rat ferret hedgehog squirrel fish goldfish shark whale dolphin seal turtle tortoise lizard gecko snake frog toad
    fox wolf bear panda koala kangaroo lion tiger leopard cheetah elephant giraffe zebra monkey ape gorilla deer otter
    raccoon bee butterfly spider crab llama alpaca terrier retriever shepherd poodle bulldog beagle husky corgi
    dachshund chihuahua pug spaniel collie labrador dalmatian mastiff rottweiler doberman pomeranian schnauzer
    pinscher setter shiba akita samoyed maltese whippet greyhound malamute tabby siamese persian ragdoll sphynx calico
""")
_LIFELESS = _words("stuffed plush teddy ceramic wooden rubber plastic inflatable porcelain bronze lego computer")
_CLAUSE = _words("with in on of from wearing holding at for by")


def category_of(class_noun: str, conversation_type: str = "") -> Category:
    """Person, animal or object by the head word of the class noun, never by substring ("German shepherd" holds no man).

    `conversation_type` "human" forces person. "woman with a dog" → person, "dog mug" → object, "stuffed dog" → object.
    """
    if conversation_type.lower() == "human":
        return "person"
    words = re.findall(r"[a-z]+", class_noun.lower())
    end = next((i for i, word in enumerate(words) if i > 0 and word in _CLAUSE), len(words))
    if end == 0 or _LIFELESS.intersection(words[: end - 1]):
        return "object"
    head = words[end - 1]
    forms = {head, head.removesuffix("s"), head.removesuffix("es")}
    if forms & _PERSON:
        return "person"
    if forms & _ANIMAL:
        return "animal"
    return "object"


def class_nouns() -> frozenset[str]:
    """Every noun of a person or an animal that `category_of` knows."""
    return _PERSON | _ANIMAL
