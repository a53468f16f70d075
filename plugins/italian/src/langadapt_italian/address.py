"""How a text addresses its reader: with tu, with Lei, with both, or with neither.

Precision comes first: a form that is also something else (sei "six", dai "from the", lei "she", suo "his") says nothing,
so a text without a sure form has no address. The plural voi goes with either manner and says nothing.
"""

from __future__ import annotations

import re

# --- clitics that are written with their verb -------------------------------------------------------------------------

_CLITIC = re.compile(r"(me|te|se|ce|ve|glie)(lo|la|li|le|ne)|(mi|ti|si|ci|vi|lo|la|li|le|gli|ne)")
# An infinitive without its e, a gerund, ecco.
_LONG_HOST = r"\w{2,}(?:ar|er|ir)|(?:d|f|st)ar|dir|\w*por(?!ti$)|\w+dur|\w{2,}[ae]ndo|ecco"
_LONG = re.compile(rf"({_LONG_HOST})((?:{_CLITIC.pattern}))")
# A short imperative doubles the consonant that follows: da + mi is dammi, but da + gli is dagli.
_SHORT = re.compile(rf"(da|fa|sta|va|di)(?:([mtcln])(?=\2)|(?=gli))((?:{_CLITIC.pattern}))")
# Words that only look so.
_NO_VERB = frozenset(
    str.split(
        """reparti comparti controparti scarti quarti sparsi scarsi apparsi comparsi scomparsi scarne ciarla ciarle
        allarmi gendarmi disarmi riarmi dalla dalle dallo dalli dagli fatti falla falle fallo falli stalla stalle
        stallo stalli valle valli"""
    )
)
# Nouns, adjectives and participles in -er- are too many, so that the verb must be known.
_VERBS_IN_ER = frozenset(
    str.split(
        """accoglier aggiunger ammetter aver chieder chiuder coglier conceder concluder condivider conoscer contener
        convincer correr creder decider difender distinger distinguer dover esser goder legger mantener metter
        muover nasconder ottener perder permetter poter prender prometter raggiunger ricever riconoscer rider
        rimaner ripeter risolver risponder rivolger saper scender sceglier scioglier scorrer scriver sostener
        spinger tener toglier trasmetter veder vincer viver voler"""
    )
)


def enclitics(word: str) -> tuple[str, tuple[str, ...]]:
    """The verb and the clitics that are written with it: `dammelo` is ("da", ("me", "lo")).

    A word without clitics, or whose ending may as well be its own, comes back whole and without any.
    """
    lowered = word.lower()
    found = None if lowered in _NO_VERB else _LONG.fullmatch(lowered) or _SHORT.fullmatch(lowered)
    if found is None or (found[1].endswith("er") and found[1] not in _VERBS_IN_ER):
        return word, ()
    clitics = _CLITIC.fullmatch(found[found.re.groups - 3])
    assert clitics is not None
    return word[: len(found[1])], tuple(part for part in clitics.groups() if part)


# --- address ----------------------------------------------------------------------------------------------------------

_WORD = re.compile(r"[^\W\d_]+")
# Of the second person singular, and of nothing else.
_FAMILIAR = frozenset(
    str.split(
        """tu ti tuo tua tuoi tue te hai puoi vuoi devi sai fai stai avevi potevi volevi dovevi sapevi avrai sarai
        potrai dovrai vorrai saprai farai andrai verrai vedrai troverai potresti vorresti dovresti avresti saresti
        sapresti faresti preferisci ricordati descrivi riassumi traduci rispondi scrivi dimmi dammi fammi spiegami
        aiutami scrivimi raccontami mostrami indicami elencami preparami correggi"""
    )
)
_OPENING = r"(?:\A|(?<=[.!?:;\n] )|(?<=[\n«“]))"
_POLITE = re.compile(
    r"""
    (?<=[a-zà-ÿ,;]\ )(?:Lei|Su(?:o|a|oi|e))(?!\w|\ [A-Z])                              # the capital of courtesy
    | \b\w+(?:ar|er|ir|do)(?:La|Le|Lei)\b
    | \b[Ll]a\ (?:ringrazi(?:o|amo)|preg(?:o|hiamo)|inform(?:o|iamo)|contatteremo|invitiamo)\b
    | \b[Ll]e\ (?:scriv(?:o|iamo)|invi(?:o|amo)|comunichiamo|augur(?:o|iamo)|porg(?:o|iamo)|ricordiamo|segnaliamo
        |confermiamo|consigli(?:o|amo)|suggeri(?:sco|amo))\b
    | \b[Mm]i\ (?:dica|scusi|permetta|consenta|faccia\ sapere)\b
    | \b[Ss]i\ (?:accomodi|figuri|assicuri|ricordi\ di)\b | \b[Nn]on\ (?:si\ preoccupi|esiti)\b
    """,
    re.VERBOSE,
)
# Imperatives of courtesy, where a sentence begins; elsewhere they are subjunctives.
_POLITE_IMPERATIVE = re.compile(
    rf"{_OPENING}(?:Scriva|Inserisca|Scelga|Legga|Apra|Prema|Chiuda|Verifichi|Clicchi|Faccia|Veda|Consulti|Tenga|Provi|Scusi"
    r"|Senta|Guardi|Dica|Venga|Prenda|Metta|Aggiunga|Risponda|Traduca|Descriva|Riassuma|Attenda|Segua|Controlli)"
    r"(?= [a-zà-ÿ]|, )"
)
_NOT_SAID_TO_THE_READER = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`|«[^»\n]*»|“[^”\n]*”|\"[^\"\n]*\"", re.DOTALL)


def address(text: str) -> str:
    """How the text addresses its reader: "familiar" (tu), "polite" (Lei), "mixed" for both, "" for neither.

    Quotations and code do not count.
    """
    said = _NOT_SAID_TO_THE_READER.sub(" ", text)
    familiar = any(map(_is_familiar, _WORD.findall(said)))
    polite = bool(_POLITE.search(said) or _POLITE_IMPERATIVE.search(said))
    if familiar and polite:
        return "mixed"
    return "familiar" if familiar else "polite" if polite else ""


def _is_familiar(word: str) -> bool:
    if word.isupper() and len(word) > 1:  # an abbreviation, or a heading
        return False
    lowered = word.lower()
    return lowered in _FAMILIAR or (
        lowered.endswith(("ti", "telo", "tela", "teli", "tele", "tene"))
        and bool({"ti", "te"} & set(enclitics(lowered)[1]))
    )
