"""Italian and the languages of Italy that detectors take for it: Sardinian, Friulian, Corsican, Ligurian, Venetian,
Neapolitan, Sicilian, Lombard, Piedmontese.

Each is known by words and spellings that Italian does not have. A text is in the one that most of its words speak for,
when those are many enough and more than the words that only Italian has. Figures are in docs/cleaning.md.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping

from langadapt import KnownPieces

LEAST = 2  # different words that speak for a language, at least,
SHARE = 0.06  # and at least so large a part of all words

_WORD = re.compile(r"(?<!\w)'[aeiou](?!\w)|[^\W\d_]+(?:-[^\W\d_]+)*'?")

# Frequent words that Italian does not have, nor English and French, which Italian texts quote.
_WORDS: Mapping[str, str] = {
    "sc": """sos sas sunt ant aiat aiant fiat fiant dae cun totu totus issu issos comente cando custu custa custos
        custas cussu cussa chentza sena unu meda prus fàghere faghet fagher nàrrere èssere tènnere esser ddu dda ddos
        depet depent podet tenet tenent siat ischit inoghe deretu deretos onzi ònnia mannu deo semus fatu nemos òmine
        limba pustis sardu sèculu ite""",
    "fur": """une dut dute duts dutis ducj cun ancje cence plui jessi jere lôr sô sôs nol ogniun dirit dirits derit
        derits tai fûr cussì cjase agns ognidun nissun nissune oms vê fâ stât cuintri à chel chê chescj cheste nus vuê
        siei lenghe furlane furlan""",
    "co": """u ùn hè hà cù sò ellu elli chì dirittu ghjente ghjornu ghjè omu omi ancu nantu sottu quandu induve incù
        nisunu nisuna parsona parsoni cun puru ghjuventù lu libaru libari duva micca tamanta issu à fà pò nimu corsu""",
    "lij": """into inta inti da-o da-a co-o co-a a-o a-a a-e a-i da-i ògni ògnidun drito driti é gh'é scî personn-a
        personn-e seu ò sò atri quæ ascì comme nisciun nisciunn-a pe-o pe-a pe-i ghe mæximo inte ese à òmmo lê 'n nò
        zeneize ch'o ch'a l'é""",
    "vec": """xe xera ga gà ghe łe ła łi só sói onji onjun ognidun derito deriti èsar èser esare zé ze anca queło
        queła cueło 'sta 'sto 'ste 'sti a' tuti podarà nesun nesuna nisun gavè gavemo fameja nasion istrusion""",
    "nap": """'o 'e nu nun cu cchiù chillo chella chello chille chisto chesta chesto addò aggio aggia ccà llà pecché
        pecchè songo so' sò ncopp' ncoppa 'ncoppa quanno quann' simmo ajere guaglione bbuono bbona stongo vuje nuje
        isso lloro nc' vuò napule 'nu 'na mo' saccio saje nuie jì dicere""",
    "scn": """'u nun pi nta 'nta ntô ntâ nni cchiù chiù chistu chista chisti chiddu chidda chiddi iddu idda iddi sugnu
        haiu aju aviti avia avissi pirchì picchì accussì ca cca ddà dda nuddu nudda unu dû dâ dî sû pâ quannu tuttu
        dicu semu fari aviri essiri jiri vossia hannu sunnu 'n cci vui iu sacciu nenti comu nzinu pozzu aieri
        sicilianu""",
    "lmo": """l'è gh'è gh'era gh'hinn hinn inn minga miga pussee püssee anca quand tucc tücc ona quell sott inscì nò
        mì tì lü lur ghè vess fà incoeu milanes lombard sò só cità 'l chel chela ghem g'ha gh'ha l'ha nagott vegnì
        andà""",
    "pms": """ël dël ëd 'd për dij dle dla dl' a-i pì sò soa sël fin-a mach nen stàit dòp ancheuj j' chiel chila ij
        ch'a a-l'é l'é l'ha l'han ant piemontèisa piemontèis lenga euj ch'as""",
}

# Spellings that they have and Italian has not, as parts of a word.
_SPELLINGS: Mapping[str, str] = {
    "sc": r"[aeio]n?t$|tz|\w(?:ades|tzione)$|\w\w[aeo]s$",
    "fur": r"cj|gj|[âêîôû]|\w\w(?:ion|ment|ist)$|\w[aei]is$",
    "co": r"ghj|chj|\w[^\Wùpglr]u$",
    "lij": r"[æœçëï]|\w-[aeiou]$|oin$",
    "vec": r"ł|^x[aeoà]|[aeiou]sion$|\wxe$|\w\wji$",
    "nap": r"^(?:bb|cc|dd|gg|mm|nn|rr|ss|tt|vv|zz)[aeiouàèéìòù]|\wuoj[eo]$",
    "scn": r"ḍḍ|^cch|\wdd[uai]$|\w[^\Wùpglr]u$|zziun[ei]$|[âîû]$",
    "lmo": r"[öüä]|oeu|\w\w(?:ad|ud|ent|ter|gh|sc|cc)$",
    "pms": r"ë|\wn-[aeiou]|\wssion$",
}

# Frequent words that Italian alone has.
_ITALIAN = frozenset(
    str.split(
        """gli dello della dell' degli delle nello nella nell' negli nelle allo alla all' agli alle dallo dalla dall'
        dagli dalle sul sullo sulla sull' sugli sulle essere stato stata anche questo questa questi queste suo sua
        suoi sue loro perché quando quello più può possono hanno ha aveva lei noi voi che non nel una un così dopo
        ogni senza tutti tutto cui ai ed sono il con per"""
    )
)

_TAGS = {
    word: frozenset(tag for tag, words in _WORDS.items() if word in words.split())
    for word in " ".join(_WORDS.values()).split()
    if word not in _ITALIAN
}
_SPELT = {tag: re.compile(pattern) for tag, pattern in _SPELLINGS.items()}
_SPELT_SOMEHOW = re.compile("|".join(_SPELLINGS.values()))
# What all of these have one of, soon found missing: an end that few Italian words have, or a letter or two within.
_STRANGE = re.compile(r"[^aeio]$|[âêîôûæœçëïłöüäḍxj-]|tz|dd|ziun|oeu|^([bcgmnrstvz])\1")


def tell_apart(text: str) -> str:
    """The tag of the regional language that a text which looks Italian is in, or "" for Italian.

    Meant for a sentence or more; a proverb or a line of dialogue in dialect does not outvote the Italian around it.
    """
    text = text.replace("’", "'")
    lowered = text.lower()
    if not _may_be_regional(lowered):
        return ""
    counts = Counter(_WORD.findall(lowered))
    # A language needs a frequent word of its own: spellings alone are found in names and loans.
    named = sorted({tag for word in counts.keys() & _TAGS.keys() for tag in _TAGS[word]})
    italian = sum(counts[word] for word in counts.keys() & _ITALIAN)
    names = counts.keys() - set(_WORD.findall(text))  # what is never written small; it is spelt as it likes
    votes = {}
    for tag in named:
        words = [word for word in counts if _speaks_for(word, tag, is_name=word in names)]
        if len(words) >= LEAST:
            votes[tag] = sum(counts[word] for word in words)
    tag = max(votes, key=votes.__getitem__, default="")
    return tag if tag and votes[tag] >= max(SHARE * counts.total(), italian) else ""


def _may_be_regional(lowered: str) -> bool:
    """Whether some language could win if every word were spelt as it likes; nearly all Italian is settled here."""
    total = sum(map(_PIECES.__getitem__, lowered.split()))
    words, italian, votes = total & _FIELD, total >> _BITS & _FIELD, total >> 2 * _BITS
    return len(lowered) > _FIELD or votes >= max(SHARE * words, italian)


def _look_at(piece: str) -> int:
    """Of what stands between two blanks: words, how many of them Italian alone has, votes for any one language.

    All three in one number, so that the numbers of a text can be summed up at once.
    """
    words = _WORD.findall(piece)
    italian = sum(word in _ITALIAN for word in words)
    strange = [word for word in words if word in _TAGS or _is_spelt_like_a_relative(word)]
    votes = max(sum(_speaks_for(word, tag, is_name=False) for word in strange) for tag in _WORDS) if strange else 0
    return len(words) + (italian << _BITS) + (votes << 2 * _BITS)


def _is_spelt_like_a_relative(word: str) -> bool:
    return word not in _ITALIAN and bool(_STRANGE.search(word) and _SPELT_SOMEHOW.search(word))


_BITS = 21
_FIELD = (1 << _BITS) - 1  # more words than that, no field can hold
_PIECES = KnownPieces(_look_at)


def _speaks_for(word: str, tag: str, *, is_name: bool) -> bool:
    if word in _TAGS:
        return tag in _TAGS[word]
    return not is_name and word not in _ITALIAN and bool(_SPELT[tag].search(word))
