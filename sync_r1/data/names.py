"""What a concept is called: the name its owner writes, the id made from it, and where a text mentions it.

The id names folders, tokens and files; it is the name itself where that is possible (`bo`), else made from it
(`New York` → `new-york`). Texts mention a concept by its name, by its id, or by the placeholder `<id>`.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection
from functools import lru_cache

import regex

from sync_r1.config_fields import check_unicode, shown
from sync_r1.data.everyday_words import is_everyday, is_never_a_name
from sync_r1.data.layout import ID

LONGEST_NAME = 40
APOSTROPHES = "'’ʼ＇"
_PLAIN_LETTERS = str.maketrans(
    {"ß": "ss", "æ": "ae", "œ": "oe", "ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "ı": "i"}
)

# Scripts that put no space between a name and its neighbours, so that a name may stand anywhere. Korean is among them
# because particles follow a name directly. Words in katakana are told apart from what surrounds them by their script.
_UNSPACED = r"\p{Han}\p{Hiragana}\p{Hangul}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}"
_KATAKANA = r"\p{Katakana}ー"
_SPACED = rf"[[\p{{L}}\p{{M}}\p{{N}}_\-]--[{_UNSPACED}{_KATAKANA}]]"


def clean_name(name: str) -> str:
    """The name in composed Unicode with single spaces. ValueError for one that no text could mention."""
    check_unicode(name, "the concept's name")
    cleaned = unicodedata.normalize("NFC", " ".join(name.split()))
    letters = any(unicodedata.category(letter) in ("So", "Nd") or letter.isalpha() for letter in cleaned)
    if not letters or not cleaned.isprintable() or set(cleaned) & set("<>") or len(cleaned) > LONGEST_NAME:
        raise ValueError(
            f"concept name {shown(name)} is not allowed: use letters or digits of any script, spaces and signs "
            f"but < and >, at most {LONGEST_NAME} characters in all"
        )
    return cleaned


def make_id(name: str) -> str:
    """The id of a cleaned name: `bo` → bo, `Ünal` → unal, `O'Neil` → oneil, `New York` → new-york.

    Empty where the name holds no letters that ASCII can write.
    """
    if regex.fullmatch(ID, name):
        return name
    without_apostrophes = "".join(letter for letter in name.casefold() if letter not in APOSTROPHES)
    decomposed = unicodedata.normalize("NFKD", without_apostrophes.translate(_PLAIN_LETTERS))
    letters = "".join(letter for letter in decomposed if not unicodedata.combining(letter))
    made = regex.sub(r"[^a-z0-9]+", "-", letters).strip("-")[:LONGEST_NAME].strip("-")
    if regex.search("[a-z]", made):
        return made
    return ""


def same_name(one: str, other: str) -> bool:
    """Whether two names differ in nothing but letter case, spaces, the form of apostrophes or of composed letters."""
    return _key(one) == _key(other)


def is_called(concept_id: str, display_name: str, name: str) -> bool:
    """Whether a person who writes `name` means this concept: by its id, or as its owner calls it.

    Args:
        display_name: as the owner writes it; empty where that is the id.
    """
    return name == concept_id or same_name(display_name or concept_id, name)


def _key(name: str) -> str:
    plain = "".join("'" if letter in APOSTROPHES else letter for letter in name)
    return unicodedata.normalize("NFC", " ".join(plain.split())).casefold()


def check_not_everyday(name: str) -> str:
    """What to tell the owner of a name that texts also use as a word, or "". ValueError where every text does."""
    if is_never_a_name(name):
        raise ValueError(
            f"concept name {name!r} is a word that questions and prompts hold anyway, so it could not be told from "
            "a name; choose another, for example a longer one"
        )
    if is_everyday(name):
        written = name[:1].upper() + name[1:]
        return f"{name!r} is also an everyday word: only {written!r} and <{name}> are taken as the name"
    if len(name) == 1 and regex.match(f"[{_UNSPACED}]", name):
        return (
            f"{name!r} is one character, which is found in longer words as well; write <{name}> where a text is misread"
        )
    return ""


def mention(text: str, concept_id: str, name: str = "", *, sentence: bool = False) -> str:
    """The text with the name written as the placeholder `<id>`, unless it holds the placeholder already.

    A name is found in any letter case, as a whole word, and directly beside scripts that put no spaces. A name that is
    an everyday word must begin with a capital letter (a dog called Blue has a blue raincoat). `sentence`: the text is a
    statement about the concept, so that such a word counts where it begins the text, in any letter case.
    """
    placeholder = f"<{concept_id}>"
    if placeholder in text:
        return text
    return _pattern(concept_id, name or concept_id, sentence).sub(placeholder, unicodedata.normalize("NFC", text))


def check_mentions(text: str, known: Collection[str], allowed: Collection[str], what: str) -> None:
    """Refuse placeholders of concepts that a model does not know.

    Args:
        known: ids of the concepts it knows, for the error. allowed: these, and names that it met in pretraining.
        what: the text in an error, such as "the prompt".
    Raises:
        ValueError: `text` holds `<id>` of another one.
    """
    named = dict.fromkeys(regex.findall(rf"<({ID})>", text))
    unknown = [f"<{name}>" for name in named if name not in allowed]
    if unknown:
        there = ", ".join(f"<{name}>" for name in known) or "no concept"
        raise ValueError(
            f"{what} names {' and '.join(unknown)}, which this model does not know; it knows {there}; train it on the "
            "concept, or open a run of that concept"
        )


@lru_cache(maxsize=256)
def _pattern(concept_id: str, name: str, sentence: bool) -> regex.Pattern[str]:
    """Everything that stands for the concept; longer forms first."""
    forms = sorted({name, concept_id}, key=len, reverse=True)
    found = [f"<{_escaped(form)}>" for form in forms]
    for form in forms:
        found.append(_whole_word(form) if not is_everyday(form) else _capitalised(form, sentence))
    return regex.compile("|".join(found), regex.VERSION1 | regex.IGNORECASE | regex.FULLCASE)


def _capitalised(form: str, sentence: bool) -> str:
    written = _whole_word(form[:1].upper() + form[1:])
    found = rf"(?-if:{written})"
    if sentence:
        return rf"{found}|\A{_whole_word(form)}"
    return found


def _whole_word(form: str) -> str:
    before, after = _joined(form[0]), _joined(form[-1])
    return rf"(?<![<{before}]){_escaped(form)}(?![>{after}])"


def _joined(edge: str) -> str:
    """The characters that would make one word with the first or last character of a name, as part of a set."""
    if regex.match(f"[{_UNSPACED}]", edge):
        return r"\p{M}"
    if regex.match(f"[{_KATAKANA}]", edge):
        return _KATAKANA
    if regex.match(r"[\p{L}\p{M}\p{N}_]", edge):
        return _SPACED
    return ""


def _escaped(form: str) -> str:
    pieces = [f"[{APOSTROPHES}]" if letter in APOSTROPHES else regex.escape(letter) for letter in form]
    return "".join(r"\s+" if piece.strip("\\") == " " else piece for piece in pieces)
