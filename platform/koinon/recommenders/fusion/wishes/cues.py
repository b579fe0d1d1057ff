"""The words by which people state limits, in English, German, French and Spanish."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

__all__ = ["CUES", "CURRENCY", "THINGS", "Cues", "language_asked", "plain"]


@dataclass(frozen=True)
class Cues:
    """One language's words, as regular expressions over casefolded text.

    Attributes
    ----------
    common
        Words that carry no wish; they also tell the language.
    without
        What stands before a thing that is not wanted.
    most, least
        Before a limit of price.
    before, after
        Before a limit of years.
    between
        Two numbers, named ``a`` and ``b``.
    cheap
        Says a low price without a number.
    joined
        Between several things of one kind.
    ends
        Where a thing that is not wanted ends.
    speech
        Before the name of a language.
    names
        Name of a language to its ISO 639-1 code.
    decade
        A decade's number, named ``d``, two or four digits.
    """

    common: frozenset[str]
    without: str
    most: str
    least: str
    before: str
    after: str
    between: str
    cheap: str
    joined: str
    ends: str
    speech: str
    names: dict[str, str]
    decade: str


CURRENCY = r"(?:€|\$|£|euros?\b|eur\b|dollars?\b|usd\b|dolares\b|dólares\b|pfund\b|pounds?\b)"

THINGS = frozenset(
    word
    for line in (
        "film films movie movies book books novel novels story stories something anything item items product products",
        "film filme filmen buch bücher roman romane geschichte geschichten etwas artikel produkt produkte",
        "film films livre livres roman romans histoire histoires produit produits article articles",
        "película películas pelicula peliculas libro libros novela novelas historia historias algo producto productos",
    )
    for word in line.split()
)
"""What is recommended: of every wish, so of none."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_NUMBER = r"(?P<{}>\d+(?:[.,]\d{{1,2}})?)"


def _between(first: str, second: str) -> str:
    money = rf"{CURRENCY}?\s*"
    return rf"{first}\s+{money}{_NUMBER.format('a')}\s*{money}\s*{second}\s+{money}{_NUMBER.format('b')}"


CUES: dict[str, Cues] = {
    "en": Cues(
        common=_words(
            "a an the i i'd me my for with of in on to and or but please would like want looking look some is are that "
            "which this it we show find good nice about very really from one set who not no"
        ),
        without=r"without(?: any| too much)?|no|not(?! only)(?: too| any)?|nothing with|except(?: for)?|excluding|"
        r"i (?:do not|don't) (?:like|want)|i hate",
        most=r"under|below|less than|up to|at most|cheaper than|no more than|max(?:imum)?\.?",
        least=r"over|above|more than|at least",
        before=r"before|older than|until|no later than",
        after=r"after|since|newer than|later than",
        between=_between("between", "and"),
        cheap=r"cheap|inexpensive|affordable|low[- ]priced",
        joined=r",|\band\b|\bor\b|\bnor\b",
        ends=r"but|with|from|under|in|please|by the way|for",
        speech=r"in|written in",
        names={"english": "en", "german": "de", "french": "fr", "spanish": "es", "italian": "it", "dutch": "nl",
               "portuguese": "pt", "russian": "ru", "japanese": "ja", "chinese": "zh", "korean": "ko"},
        decade=r"(?:from |of |in )?(?:the )?'?(?P<d>(?:1[89]|20)?\d0)s",
    ),
    "de": Cues(
        common=_words(
            "ein eine einen einem einer eines der die das den dem ich mir mich mein für mit von aus im in am auf zu "
            "und oder aber bitte möchte will suche gerne gern etwas ist sind dass welche dieser es wir zeig finde gut "
            "guten gutes guter schön schönen über sehr nicht"
        ),
        without=r"ohne(?: zu viel)?|keine[nrms]?|kein|nichts mit|nicht(?! nur)(?: zu)?|außer|ich (?:mag|will) keine?n?|"
        r"bloß nicht|bloß keine?n?",
        most=r"unter|bis(?: zu)?|höchstens|maximal|max\.?|weniger als|billiger als|günstiger als|nicht mehr als",
        least=r"über|mindestens|mehr als|ab",
        before=r"vor|bis|älter als|spätestens",
        after=r"nach|seit|ab|neuer als",
        between=_between("zwischen", "und"),
        cheap=r"billige?[nrs]?|günstige?[nrs]?|preiswerte?[nrs]?",
        joined=r",|\bund\b|\boder\b|\bnoch\b",
        ends=r"aber|mit|aus|unter|auf|bitte|für|sondern",
        speech=r"auf|in",
        names={"englisch": "en", "deutsch": "de", "französisch": "fr", "spanisch": "es", "italienisch": "it",
               "niederländisch": "nl", "portugiesisch": "pt", "russisch": "ru", "japanisch": "ja", "chinesisch": "zh",
               "koreanisch": "ko"},
        decade=r"(?:aus |der |in )?(?:den |die )?(?P<d>(?:1[89]|20)?\d0)ern?(?:\s?-?jahren?)?",
    ),
    "fr": Cues(
        common=_words(
            "un une des le la les l' je j' me mon ma mes pour avec de du d' en dans à au et ou mais s'il te vous plaît "
            "voudrais veux cherche quelque chose est sont que qui ce cette il nous bon bonne beau sur très pas ne"
        ),
        without=r"sans(?: trop de)?|pas (?:de|d'|trop)|aucune?|sauf|excepté|rien (?:de|avec)|"
        r"je (?:n'aime|ne veux) pas(?: de| d'| les| le| la)?",
        most=r"moins de|sous|jusqu'à|au plus|maximum|max\.?|moins cher (?:que|de)|pas plus de",
        least=r"plus de|au moins|à partir de|au-dessus de",
        before=r"avant|jusqu'en|plus vieux que",
        after=r"après|depuis|à partir de|plus récent que",
        between=_between("entre", "et"),
        cheap=r"bon marché|pas cher(?:s|e|es)?|abordables?",
        joined=r",|\bet\b|\bou\b|\bni\b",
        ends=r"mais|avec|des années|à moins|en|s'il|pour",
        speech=r"en",
        names={"anglais": "en", "allemand": "de", "français": "fr", "espagnol": "es", "italien": "it",
               "néerlandais": "nl", "portugais": "pt", "russe": "ru", "japonais": "ja", "chinois": "zh",
               "coréen": "ko"},
        decade=r"(?:des |dans les )?années (?P<d>(?:1[89]|20)?\d0)",
    ),
    "es": Cues(
        common=_words(
            "un una unos unas el la los las yo me mi mis para con de del en a al y o pero por favor quiero quisiera "
            "busco algo es son que cual este esta nos muestra bueno buena buen sobre muy no se"
        ),
        without=r"sin(?: demasiad[oa]s?)?|nada de|ningún|ninguna|excepto|salvo|no (?:me gustan?|quiero)(?: el| la| los|"
        r" las)?|que no (?:sea|tenga)(?: de)?|no",
        most=r"menos de|por debajo de|hasta|máximo|como mucho|más barat[oa]s? (?:que|de)|no más de",
        least=r"más de|al menos|por encima de|como mínimo",
        before=r"antes de|hasta|anterior(?:es)? a",
        after=r"después de|desde|a partir de|posterior(?:es)? a",
        between=_between("entre", "y"),
        cheap=r"barat[oa]s?|económic[oa]s?",
        joined=r",|\by\b|\bo\b|\bni\b",
        ends=r"pero|con|de los|por|en|para",
        speech=r"en",
        names={"inglés": "en", "alemán": "de", "francés": "fr", "español": "es", "castellano": "es", "italiano": "it",
               "neerlandés": "nl", "portugués": "pt", "ruso": "ru", "japonés": "ja", "chino": "zh", "coreano": "ko"},
        decade=r"(?:de |en )?(?:los años|años|los) (?P<d>(?:1[89]|20)?\d0)s?",
    ),
}  # fmt: skip


def language_asked(text: str) -> str:
    """Which of the four languages a wish is in, by its common words and cues; English where that does not show."""
    folded = text.casefold()
    words = re.findall(r"[\w']+", folded)
    counts = {
        code: sum(word in cues.common for word in words) + 2 * len(re.findall(rf"\b(?:{_cues_of(cues)})\b", folded))
        for code, cues in CUES.items()
    }
    best = max(counts.values())
    return next(code for code in CUES if counts[code] == best)


def _cues_of(cues: Cues) -> str:
    return "|".join((cues.without, cues.most, cues.least, cues.before, cues.after, cues.cheap))


def plain(text: str) -> str:
    """Casefolded words without accents, punctuation and plural endings, joined by single spaces."""
    bare = "".join(c for c in unicodedata.normalize("NFKD", text.casefold()) if not unicodedata.combining(c))
    words = re.findall(r"\w+", bare.replace("'s", "s"))
    return " ".join(word[:-1] if len(word) > 3 and word.endswith("s") else word for word in words)
