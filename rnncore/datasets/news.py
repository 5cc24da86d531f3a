"""Tagged spoken news requests, made by a small random grammar: the sample behind ``rnncore train`` without a file.

They are of the kind, size and difficulty of the 1000 sentences the original program of 2015 was trained on: people ask
for news of a type (NEWSTYPE) on a topic (KEYWORDS) from a newspaper (PROVIDER) or its part (SECTION). Half of the word
types occur once, as names do, so a tagger has to read them off their neighbours.

A rule is ``NAME = alternative | alternative``. In an alternative, words in lower case stand for themselves, capitals
for rules, ``LABEL:RULE`` tags what the rule yields as one chunk, ``X?`` is there half of the time, a number in front is
the weight (1 without), ``~kind`` makes up a name.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from itertools import accumulate
from math import sqrt
from random import Random

__all__ = ["iter_news_requests", "news_requests"]

_GRAMMAR = """
SENTENCE = 20 WISH NEWS ABOUT | 13 ORDER NEWS ABOUT | 18 NEWS ABOUT | 9 WISH NEWS ABOUT PLACED
    | 8 ORDER NEWS ABOUT PLACED | 14 NEWS ABOUT PLACED | 9 HOPE read ON | 11 HOPE read ON PLACED | 3 SUBJECT
    | 8 SUBJECT PLACED | 2 ORDER SUBJECT PLACED | 6 WISH NEWS BY ABOUT | 5 ORDER NEWS BY ABOUT | 9 NEWS BY ABOUT
    | 3 WISH NEWS BY | 4 NEWS BY | 7 NEWS LOCAL | 5 WISH NEWS LOCAL | 3 ORDER NEWS LOCAL | 6 TOPIC NEWS
    | 8 TOPIC NEWS PLACED | 5 ORDER TOPIC NEWS | 5 ORDER TOPIC NEWS PLACED | 3 TOPIC NEWS in the SECTION:PART
    | 3 NEWS TOPIC | 3 ORDER NEWS TOPIC | 5 PAPER NEWS | 3 ORDER PAPER NEWS | 3 ORDER PAPER and SHOW NEWS ABOUT
    | 2 ORDER PAPER and SHOW NEWS | 2 ORDER the PAPER | 4 WISH the? PART-OF | 5 PART-OF | 6 ORDER the? PART-OF WHOSE
    | 7 SECTION:PART NEWS WHOSE | 4 WISH the SECTION:PART NEWS WHOSE | 5 ORDER the? PAPER s PART-OF
    | 3 the? PAPER s SECTION:PART NEWS | 4 HOPE read ON in the SECTION:PART | 3 HOPE read ON in the PART-OF WHOSE
    | 2 SECTION:PART NEWS
WISH = HOPE ACT
HOPE = 3 i FEEL to | 2 i wanna | i really? wanna | i FEEL? gotta | i d really? like to | i d love to
    | i would really? like to | i would love to | i m hoping to | let me
FEEL = want | need | have | ve got | got
ACT = 9 read | hear | see | check out | find | get | open | listen to | take a look at | catch up on | look at
ORDER = POLITE? SHOW | POLITE? SHOW me | i want you to SHOW | i need you to SHOW | i d like you to SHOW
    | go ahead and SHOW
POLITE = please | can you | could you | would you | would you please | can you please | will you
SHOW = show | display | find | open | bring up | search | get | give | play | view | check
NEWS = NEWSTYPE:NEWSNAME
NEWSNAME = 3 news | 2 headlines | 2 coverage | 9 KIND news | 5 KIND news stories | 2 news stories | 3 top story news
KIND = 3 top | 3 breaking | 3 trending | 2 feature | 2 spotlight
ABOUT = THAT SUBJECT | PREP SUBJECT
THAT = 2 that VERB | that s PREP | that are PREP
VERB = concern | concerns | mention | mentions | regard | regards | focus on | focuses on | talk about | talks about
    | deal with | deals with | speak about | speaks about | pertain to | pertains to | relate to | relates to
PREP = 3 about | concerning | related to | connected to | dealing with | focused on | centered around | talking about
    | pertaining to
ON = about SUBJECT | 3 about TOPIC
SUBJECT = 7 TOPIC | the KEYWORDS:OFFICE | the KEYWORDS:OFFICE-DOES | 2 the KEYWORDS:EVENT | 2 a KEYWORDS:EVENT
    | an KEYWORDS:ANEVENT
TOPIC = 2 KEYWORDS:PERSON | 5 KEYWORDS:PERSON-DOES | 4 KEYWORDS:DEAL | KEYWORDS:COMPANY | KEYWORDS:OFFICE
    | KEYWORDS:OFFICE-DOES | KEYWORDS:ILLNESS | 2 KEYWORDS:LAND | KEYWORDS:EVENT
LOCAL = from KEYWORDS:LAND | 2 from KEYWORDS:LAND on the PAPER
PLACED = 2 in the PAPER | 3 in PAPER | from the PAPER | from PAPER | on the PAPER
BY = from the PAPER | from PAPER
WHOSE = of the PAPER | of PAPER | in the PAPER | from PAPER
PAPER = PROVIDER:PRESS
PRESS = 6 ~town TITLE | 4 ~town TITLE TITLE | 3 TITLE TITLE | 2 TITLE | 2 ~town daily TITLE | 2 ~town ~town TITLE
    | ~town ~town TITLE TITLE | 2 ~town county TITLE | 2 SIDE ~town TITLE | ~town | TITLE and TITLE | lake ~town TITLE
    | ~town valley TITLE TITLE | ~town free press | el TITLE del ~town | ~town ~title | ~title TITLE
TITLE = 8 news | 6 daily | 4 journal | 4 times | 4 herald | 3 press | 3 tribune | 2 sun | 2 courier | 2 leader
    | sentinel | democrat | record | chronicle | express | star | citizen | dispatch | observer | register | post
    | gazette | globe | mirror | bulletin | republic | telegraph | banner | independent | reporter | 3 ~title
PART-OF = 2 SECTION:PART section | 5 SECTION:PART-NAMED | 2 SECTION:PART
PART-NAMED = PART section
PART = world | world affairs | international | home | home and garden | health | health and wellness | wellness
    | classified ads | classifieds | obituaries | technology | science | travel | arts | financial | style | editorial
    | entertainment | business | fashion | video | opinion | weather | economy | comics | politics | real estate
    | sports
PERSON = 9 ~first ~family | 2 ~family | 2 ~first ~first ~family | ~first al ~family | ~first ~family ~family
PERSON-DOES = 4 PERSON s visit to LAND | PERSON s NEWER WORK
WORK = film | movie | feature | motion picture | flick | book
NEWER = new | recent | upcoming | latest
OFFICE = 3 president of COUNTRY | 3 prime minister of COUNTRY | king of COUNTRY | chief of COUNTRY
    | monarchy of COUNTRY
OFFICE-DOES = OFFICE s visit to LAND
DEAL = COMPANY merger | 2 COMPANY COMPANY merger | COMPANY acquisition | 2 COMPANY acquisition by COMPANY
    | COMPANY acquisition of COMPANY
COMPANY = 4 ~company | 3 ~company TRADE | ~company ~company TRADE
TRADE = energy | systems | labs | technologies | electronics | sciences | bio | robotics | genomics | ~company
EVENT = 4 HAPPENING in LAND | HAPPENING
HAPPENING = fire | wildfire | flood | tornado | hurricane | landslide | blizzard | train crash | vehicle collision
    | tropical cyclone | volcano eruption | plague
ANEVENT = 4 ANHAPPENING in LAND | ANHAPPENING
ANHAPPENING = earthquake | explosion | avalanche | assault | epidemic
ILLNESS = malaria | measles | cholera | dengue fever | influenza | typhus | 3 ~illness
LAND = 4 COUNTRY | 4 ~city | 3 REGION | 2 ~city ~city
REGION = europe | africa | asia | 4 SIDE CONTINENT | SIDE SIDE CONTINENT | the middle east | the persian gulf
    | the caribbean
SIDE = south | north | east | west | central | new
CONTINENT = europe | africa | asia | america
COUNTRY = 7 ~country | 2 SIDE ~country | saint ~country and ~country | france | germany | spain | peru | kenya | japan
    | china | india | brazil | egypt | sri lanka | south africa | saudi arabia | united states | costa rica
"""

# Made-up names, ``kind spread: onsets: vowels: endings``: a rank is spelled in syllables of its kind. Half of the draws
# have a rank below the spread, the others lie ever thinner above it: a few names are common, most are rare.
_NAMES = """
town 330: b br c cl d f g gl h k l m n p r s st t w wh: a e i o u ea oo: ton ville field burg ford dale mont
title 50: b c d f h l m p pl r s t tr v: a e i o u: ler ner ter mer lance nder light man
first 100: b d e f g h j k l m n p r s t v y z: a e i o u: n ra la ko na s lio mir ne bel rt
family 230: b ch d f g gr h k kr l m n p r s sh t v w z: a e i o u ai: son ov ez ini ski man oglu wa nen rt
company 70: b c d f h l m n qu s t v x z: a e i o u y: x tix tech soft gen ware com sys vo ra zon ly
city 120: b d g h j k kh l m n p r s t v y z: a e i o u: ku ra bad sk jan nosh ba gota li mey vik do
country 85: b c g k l m n s t z: a e i o u: nia stan land ria guay lia via nda
illness 25: b c d h l m p r s t: a e i o: sis itis emia pox oma osis
"""
# rules whose every alternative plays a part of its own, by its first word
_LISTS = ("PART", "HAPPENING", "ANHAPPENING", "KIND", "WORK", "NEWER", "SIDE", "CONTINENT")
_WORDS_IN_A_SENTENCE = range(2, 30)

Part = tuple[float, str, str]  # probability of being there, label or "", symbol
Rule = tuple[list[int], list[list[Part]]]  # cumulative weights, alternatives
Stock = tuple[int, list[str], list[str], list[str]]  # spread, onsets, vowels, endings


def news_requests(
    n_sentences: int = 1000, random_state: int = 0, detailed: bool = False
) -> tuple[list[list[str]], list[list[str]]]:
    """Make tagged spoken news requests, no two of them alike.

    Parameters
    ----------
    n_sentences : int
        How many sentences.
    random_state : int
        Seed; the same on every machine and Python version.
    detailed : bool
        Labels that tell each word's part in its chunk, about 120 of them: for trying what many labels cost.

    Returns
    -------
    (sentences, tags) : lists of lists of str
        Words and their labels: ``O``, ``B-X`` at the start and ``I-X`` inside of a chunk, where X is NEWSTYPE,
        KEYWORDS, PROVIDER or SECTION; if detailed such as ``B-KEYWORDS.FIRST`` or ``B-SECTION.SPORTS``.

    Raises
    ------
    ValueError
        If `n_sentences` is negative.

    Examples
    --------
    >>> sentences, tags = news_requests(3)
    >>> [len(words) == len(labels) for words, labels in zip(sentences, tags)]
    [True, True, True]
    """
    if n_sentences < 0:
        raise ValueError(f"n_sentences must not be negative, got {n_sentences}")
    made: dict[tuple[str, ...], list[str]] = {}
    stream = iter_news_requests(random_state, detailed)
    while len(made) < n_sentences:
        words, labels = next(stream)
        made.setdefault(tuple(words), labels)
    return [list(words) for words in made], list(made.values())


def iter_news_requests(random_state: int = 0, detailed: bool = False) -> Iterator[tuple[list[str], list[str]]]:
    """Yield (words, labels) of tagged news requests without end; now and then one comes twice.

    The parameters are those of `news_requests`.

    Examples
    --------
    >>> words, labels = next(iter_news_requests(random_state=1))
    >>> len(words) == len(labels)
    True
    """
    draw = Random(random_state).random  # the one method of Random that promises the same stream in every version
    while True:
        words: list[str] = []
        labels: list[str] = []
        _expand("SENTENCE", "", "", draw, words, labels)
        if not detailed:
            labels = [label.partition(".")[0] for label in labels]
        if len(words) in _WORDS_IN_A_SENTENCE:
            yield words, labels


def _parse_grammar() -> dict[str, Rule]:
    rules = {}
    for rule in filter(None, _GRAMMAR.replace("\n  ", " ").splitlines()):
        name, _, body = rule.partition("=")
        weights, alternatives = [], []
        for alternative in body.split("|"):
            parts = alternative.split()
            weights.append(int(parts.pop(0)) if parts[0].isdigit() else 1)
            alternatives.append([_part(part) for part in parts])
        rules[name.strip()] = (list(accumulate(weights)), alternatives)
    return rules


def _part(text: str) -> Part:
    label, _, symbol = text.rstrip("?").rpartition(":")
    return (0.5 if text.endswith("?") else 1.0), label, symbol


def _parse_names() -> dict[str, Stock]:
    stock = {}
    for line in _NAMES.strip().splitlines():
        head, onsets, vowels, endings = line.split(":")
        kind, spread = head.split()
        stock[kind] = (int(spread), onsets.split(), vowels.split(), endings.split())
    return stock


_RULES = _parse_grammar()
_STOCK = _parse_names()


def _expand(
    symbol: str, label: str, above: str, draw: Callable[[], float], words: list[str], labels: list[str]
) -> None:
    """Append what `symbol` yields to `words`, and its tags to `labels`.

    `label` is that of the chunk it is part of, `above` the part it plays there.
    """
    rule = _RULES.get(symbol)
    if rule is None:
        made = symbol[0] == "~"
        words.append(_name(symbol[1:], draw()) if made else symbol)
        part = symbol[1:].upper() if made else above
        labels.append(f"I-{label}.{part}" if label else "O")
        return
    weights, alternatives = rule
    alternative = alternatives[bisect_right(weights, draw() * weights[-1])]
    above = alternative[0][2].upper() if symbol in _LISTS else symbol
    for probability, chunk, part in alternative:
        if probability == 1.0 or draw() < probability:
            start = len(words)
            _expand(part, chunk or label, above, draw, words, labels)
            if chunk:
                labels[start] = f"B-{labels[start][2:]}"


def _name(kind: str, quantile: float) -> str:
    """Spell the name of `kind` that stands at this quantile of its distribution."""
    spread, onsets, vowels, endings = _STOCK[kind]
    rank = int(spread * sqrt(quantile / (1.0 - quantile)))
    rest = rank * 7919 + 11  # neighbours in rank do not sound alike
    syllables = []
    for _ in range(1 + (rank % 3 > 0)):
        rest, onset = divmod(rest, len(onsets))
        rest, vowel = divmod(rest, len(vowels))
        syllables.append(onsets[onset] + vowels[vowel])
    return "".join(syllables) + endings[rest % len(endings)]
