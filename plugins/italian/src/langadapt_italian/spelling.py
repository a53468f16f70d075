"""Italian spelling as keyboards and habits spoil it: `E' vero`, `perchè`, `pò`, `qual'è`. Sources: the accents are those of
the Accademia della Crusca's advice (accademiadellacrusca.it) and of UNI 6015.

Only what is wrong beyond doubt is mended, word by word from lists. Code, addresses and tags are left alone; so is an
apostrophe that may close a quotation.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from langadapt import Document, Filter, Language, UserError

# With é, in spite of perchè and perche'.
_ACUTE = tuple(
    str.split(
        """perché poiché affinché benché finché sicché giacché nonché anziché purché cosicché granché fuorché macché
        altroché dacché acciocché ventitré trentatré quarantatré cinquantatré viceré"""
    )
)
# With a grave accent, in spite of piú, cioé and citta'.
_GRAVE = tuple(
    str.split(
        """è cioè caffè ahimè ohimè già può più però ciò perciò così giù laggiù lassù quaggiù sì città età metà verità
        libertà realtà novità attività qualità quantità identità università possibilità comunità società autorità
        pubblicità capacità velocità umanità necessità opportunità responsabilità difficoltà facoltà civiltà volontà
        onestà povertà bontà papà virtù gioventù tribù servitù schiavitù lunedì martedì mercoledì giovedì venerdì
        sarà avrà potrà dovrà farà verrà andrà darà starà saprà vorrà dirà vedrà sarò avrò potrò dovrò farò verrò
        andrò"""
    )
)
# An accent where there is none, or not this one.
_PLAIN = {
    "quì": "qui", "quà": "qua", "sù": "su", "fà": "fa", "sà": "sa", "stà": "sta", "và": "va", "fù": "fu",
    "pò": "po'", "nè": "né", "sè": "sé",
}  # fmt: skip
_MASCULINE = tuple(str.split("""altro uomo anno esempio amico errore attimo articolo albero elenco"""))
_FEMININE = tuple(str.split("""altra ora idea amica opera epoca isola"""))

_OTHER_ACCENT = str.maketrans("àèéìòù", "áéèíóú")
_NO_ACCENT = str.maketrans("àèéìòù", "aeeiou")


def _mends() -> Iterator[tuple[str, str]]:
    for right in (*_ACUTE, *_GRAVE):
        yield right.translate(_OTHER_ACCENT), right
        yield right.translate(_NO_ACCENT) + "'", right
    yield from _PLAIN.items()
    for noun in _MASCULINE:
        yield f"un'{noun}", f"un {noun}"
    for noun in _FEMININE:
        yield f"un {noun}", f"un'{noun}"
    for verb in ("è", "era", "é", "e'"):
        yield f"qual'{verb}", f"qual {verb if verb == 'era' else 'è'}"


_MENDS = dict(_mends())

_LEFT_ALONE = (
    r"```.*?(?:```|\Z)|~~~.*?(?:~~~|\Z)|`[^`\n]*`|\$[^$\n]+\$|<[^<>\n]+>|\b\w+://\S+|\bwww\.\S+|[\w.+-]+@[\w.-]+"
)
_WORD_TO_MEND = (
    r"(?<![\w'’‘`´/.-])(?:"
    r"[Qq][Uu][Aa][Ll]['’](?:[Èè]|[Éé]|[Ee]['’´]|[Ee][Rr][Aa])(?!\w)"
    rf"|[Uu][Nn](?:['’](?:{'|'.join(_MASCULINE)})|\ (?:{'|'.join(_FEMININE)}))(?!\w)"
    r"|[^\W\d_]++(?:['’´](?![\w'’])|(?<=[áéíóúàèìòùÁÉÍÓÚÀÈÌÒÙ])(?!['’\w]))"
    r")"
)
_SCAN = re.compile(rf"(?s:{_LEFT_ALONE})|({_WORD_TO_MEND})")
_OPEN_QUOTE = re.compile(r"(?<!\w)['‘](?=\w)")
_MARK = re.compile(
    rf"(?s:{_LEFT_ALONE})|(?P<open>[“„«])|(?P<close>[”»])"
    r"|(?P<elision>(?<=[^\W\d_])['’](?=[^\W\d_])|(?<=\b[Pp]o)['’](?!\w))"
)


def mend(text: str) -> str:
    """The text with its spelling mended; what is right already stays as it is."""
    return _SCAN.sub(_mended, text)


def _mended(found: re.Match[str]) -> str:
    word = found[1]
    if not word:
        return found[0]
    right = _MENDS.get(re.sub("[’´]", "'", word.lower()))
    if right is None or word == "Pò":  # the river, however it is spelt
        return word
    if word[-1] in "'’´" and _may_close_a_quotation(found):
        return word
    return _in_case_of(word, right)


def _may_close_a_quotation(found: re.Match[str]) -> bool:
    line = found.string[found.string.rfind("\n", 0, found.start()) + 1 : found.start()]
    return bool(_OPEN_QUOTE.search(line))


def _in_case_of(word: str, right: str) -> str:
    letters = [c for c in word if c.isalpha()]
    if len(letters) > 1 and all(c.isupper() for c in letters):
        return right.upper()
    return right[0].upper() + right[1:] if letters[0].isupper() else right


def unify(text: str, *, apostrophe: str, quotes: str) -> str:
    """The text with one apostrophe in elisions, and one kind of quotation marks in place of “ ” „ « »; "" leaves them."""
    put = {"open": quotes[:1], "close": quotes[-1:], "elision": apostrophe}
    return _MARK.sub(lambda found: put.get(found.lastgroup or "") or found[0], text)


def make(options: Mapping[str, Any], language: Language | None) -> Callable[[Document], Document | str]:
    """Mends running text and every message.

    Raises:
        UserError: `apostrophe` is no apostrophe, or `quotes` no mark or pair of marks.
    """
    apostrophe, quotes = options["apostrophe"], options["quotes"]
    if apostrophe not in ("", "'", "’"):
        raise UserError(f'filter italian-spelling: apostrophe = {apostrophe!r}; it is "\'", "’" or empty')
    if quotes not in ("", '"', "«»", "“”"):
        raise UserError(f"filter italian-spelling: quotes = {quotes!r}; it is '\"', «», “” or empty")

    def change(text: str) -> str:
        text = mend(text)
        return unify(text, apostrophe=apostrophe, quotes=quotes) if apostrophe or quotes else text

    return lambda document: document.edited(change)


SPELLING = Filter(
    name="italian-spelling",
    description="Mends `E'`, `perchè`, `pò`, `qual'è`, `un'altro` and the like; unifies marks on request.",
    make=make,
    source="accademiadellacrusca.it; UNI 6015",
    options={"apostrophe": "", "quotes": ""},
)
