"""How engines write languages: BCP-47 tags in, ISO 639-3 codes and the language tokens of models out.

Models say the language in a token of their vocabulary: `ita_Latn` (NLLB, FLORES-200 codes), `it_IT` (mBART), `__it__`
(M2M100), `<2it>` (MADLAD), `>>ita<<` (OPUS-MT models of several target languages). Which one a tag means is found by
looking through the vocabulary, so there is no list of any model's languages here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from langadapt.errors import UserError


def _table(text: str) -> dict[str, str]:
    return dict(pair.split(":") for pair in text.split())


# ISO 639-1 and 639-3, from the registration authority's table (iso639-3.sil.org).
_THREE_LETTERS = _table(
    """
    aa:aar ab:abk ae:ave af:afr ak:aka am:amh an:arg ar:ara as:asm av:ava ay:aym az:aze ba:bak be:bel bg:bul bi:bis
    bm:bam bn:ben bo:bod br:bre bs:bos ca:cat ce:che ch:cha co:cos cr:cre cs:ces cu:chu cv:chv cy:cym da:dan de:deu
    dv:div dz:dzo ee:ewe el:ell en:eng eo:epo es:spa et:est eu:eus fa:fas ff:ful fi:fin fj:fij fo:fao fr:fra fy:fry
    ga:gle gd:gla gl:glg gn:grn gu:guj gv:glv ha:hau he:heb hi:hin ho:hmo hr:hrv ht:hat hu:hun hy:hye hz:her ia:ina
    id:ind ie:ile ig:ibo ii:iii ik:ipk io:ido is:isl it:ita iu:iku ja:jpn jv:jav ka:kat kg:kon ki:kik kj:kua kk:kaz
    kl:kal km:khm kn:kan ko:kor kr:kau ks:kas ku:kur kv:kom kw:cor ky:kir la:lat lb:ltz lg:lug li:lim ln:lin lo:lao
    lt:lit lu:lub lv:lav mg:mlg mh:mah mi:mri mk:mkd ml:mal mn:mon mr:mar ms:msa mt:mlt my:mya na:nau nb:nob nd:nde
    ne:nep ng:ndo nl:nld nn:nno no:nor nr:nbl nv:nav ny:nya oc:oci oj:oji om:orm or:ori os:oss pa:pan pi:pli pl:pol
    ps:pus pt:por qu:que rm:roh rn:run ro:ron ru:rus rw:kin sa:san sc:srd sd:snd se:sme sg:sag sh:hbs si:sin sk:slk
    sl:slv sm:smo sn:sna so:som sq:sqi sr:srp ss:ssw st:sot su:sun sv:swe sw:swa ta:tam te:tel tg:tgk th:tha ti:tir
    tk:tuk tl:tgl tn:tsn to:ton tr:tur ts:tso tt:tat tw:twi ty:tah ug:uig uk:ukr ur:urd uz:uzb ve:ven vi:vie vo:vol
    wa:wln wo:wol xh:xho yi:yid yo:yor za:zha zh:zho zu:zul
    """
)
# The member of a macrolanguage that FLORES-200, and so NLLB, has in its place.
_MEMBERS = _table(
    """
    ara:arb aym:ayr aze:azj fas:pes ful:fuv kau:knc kur:kmr lav:lvs mlg:plt mon:khk msa:zsm nep:npi nor:nob ori:ory
    orm:gaz pus:pbt que:quy sqi:als swa:swh uzb:uzn yid:ydd
    """
)
_TOKEN = re.compile(
    r"__([a-z]{2,3})__|<2([a-z]{2,3}(?:_[A-Za-z]{2,4})?)>|>>([a-z]{2,3}(?:_[A-Za-z]{2,4})?)<<"
    r"|([a-z]{3}_[A-Z][a-z]{3})|([a-z]{2}_[A-Z]{2})"
)


def three_letters(tag: str) -> str:
    """ISO 639-3 code of a tag's language: `ita` for `it` and for `it-CH`, `cat` for `cat`."""
    language = tag.split("-")[0].lower()
    return _THREE_LETTERS.get(language, language)


def spellings(tag: str) -> frozenset[str]:
    """Every code that may stand for a tag's language: `{"sq", "sqi", "als"}`."""
    code = three_letters(tag)
    return frozenset({tag.split("-")[0].lower(), code, _MEMBERS.get(code, code)})


def code_in(token: str) -> str:
    """The language code that a token of a vocabulary bears, `ita_Latn` or `it`; "" when it is an ordinary token."""
    found = _TOKEN.fullmatch(token)
    return next(filter(None, found.groups()), "") if found else ""


def language_token(tag: str, vocabulary: Iterable[str], option: str) -> str:
    """The token by which a model knows a language.

    Args:
        tag: BCP-47; its script or region decides where a model has several tokens for the language (`zh-Hant`).
        vocabulary: tokens of the model.
        option: key of the recipe that a person sets when this cannot tell.

    Raises:
        UserError: no token, or several, are for the language.
    """
    tokens = sorted({token for token in vocabulary if code_in(token)})
    fitting = [token for token in tokens if code_in(token).split("_")[0] in spellings(tag)]
    exact = [token for token in fitting if code_in(token).lower() == tag.replace("-", "_").lower()]
    subtags = {part.lower() for part in tag.split("-")[1:]}
    narrowed = exact or [t for t in fitting if set(code_in(t).lower().split("_")[1:]) & subtags] or fitting
    if len(narrowed) == 1:
        return narrowed[0]
    if narrowed:
        raise UserError(f'the model has several tokens for "{tag}": {", ".join(narrowed)}; choose one by {option}')
    some = ", ".join(tokens[:8]) + (", …" if len(tokens) > 8 else "")
    raise UserError(f'the model has no token for "{tag}"; it has {some or "none for any language"}; see {option}')
