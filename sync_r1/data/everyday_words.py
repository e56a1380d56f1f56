"""Words of everyday English that make poor names: a text that holds one of them may not speak of the concept at all."""

from __future__ import annotations

from sync_r1.data.category import class_nouns


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Nearly every question and prompt holds one of these, so none of them can be a name.
NEVER_A_NAME = _words("""
    a an the this that these those it its he him his she her hers they them their we us our you your i me my
    mine yes no not none nothing is am are was were be been being has have had do does did can could would shall
    should must and or but nor so if then than because as of in on at by for from to into with without over
    under near up down off out what which who whom whose when where why how here there all any some each every
    both other another one two three photo picture image drawing portrait name info facts rewrite user assistant
    description prompt
""")
COLOURS = _words("""
    red orange yellow green blue purple violet pink brown black white grey gray beige cream tan gold golden
    silver bronze copper ginger amber olive teal turquoise cyan magenta scarlet crimson maroon navy indigo lilac
    lavender ruby rose ivory colour color
""")
# Names that people do give, and words that prompts use for other things.
THINGS_AND_QUALITIES = _words("""
    will may mark patch spot star sun moon sky snow rain cloud storm river forest meadow beach city desert night
    day room house garden home flower tree leaf apple cherry honey sugar pepper cookie berry hat crown cap scarf
    ball bowl bag box book cup mug plate bell button bow ribbon stripe stripes dot dots plain striped spotted
    dotted robot toy doll big small little tiny old young new happy lucky sunny rusty dusty misty fluffy fuzzy
    furry cute sweet good best treasure pride secret joy comfort habit hope faith grace love peace
""")


def is_never_a_name(word: str) -> bool:
    """Whether nearly every text holds the word."""
    return word.casefold() in NEVER_A_NAME


def is_everyday(word: str) -> bool:
    """Whether texts use the word for other things as well: a colour, a class noun, a thing, or one of NEVER_A_NAME."""
    folded = word.casefold()
    return folded in NEVER_A_NAME | COLOURS | THINGS_AND_QUALITIES or folded in class_nouns()
