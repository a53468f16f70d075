"""Personal data that has a form: e-mail and public IP addresses, and on request bank accounts and telephone numbers.

FineWeb-2 masks the first two. The masks read like what they stand for, so that sentences stay whole, and belong to
nobody: example.com (RFC 2606) and 192.0.2.1 (RFC 5737) are kept free for examples. Names have no form: nothing here finds
them. A version number of four parts, 7.4.5.2, looks like an address and is masked as one.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from typing import Any

from langadapt.records import Document, Filter, Language

_EMAIL = re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@(?:[\w-]{1,63}\.){1,8}[^\W\d_]{2,24}(?![\w@-])")
_IP = re.compile(
    r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?!\w|\.\d)"
    r"|(?<![\w:])[23][0-9A-Fa-f]{3}(?::[0-9A-Fa-f]{0,4}){2,7}(?![\w:])"
)
_PERHAPS_IP = re.compile(r"\.\d{1,3}\.\d{1,3}\.\d|:[0-9A-Fa-f]{0,4}:")
_IBAN = re.compile(r"(?<!\w)[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?(?!\w)")
_PHONE = re.compile(r"(?<![\w+])(?:\+|00)[1-9](?:[ ./-]?\(?\d\)?){6,13}(?!\w)")


def is_public(address: str) -> bool:
    """Whether an IP address is one of the open internet."""
    try:
        return ipaddress.ip_address(address).is_global
    except ValueError:
        return False


def is_iban(text: str) -> bool:
    """Whether the check digits of a bank account number hold (ISO 13616: modulo 97)."""
    compact = text.replace(" ", "")
    return int("".join(str(int(c, 36)) for c in compact[4:] + compact[:4])) % 97 == 1


# Kind, pattern, a quick look that spares most texts the search, and what a find must hold to count.
_KINDS: tuple[tuple[str, re.Pattern[str], re.Pattern[str] | None, Callable[[str], bool]], ...] = (
    ("email", _EMAIL, re.compile("@"), lambda found: True),
    ("iban", _IBAN, None, is_iban),
    ("ip", _IP, _PERHAPS_IP, is_public),
    ("phone", _PHONE, None, lambda found: True),
)


def make(options: Mapping[str, Any], language: Language | None) -> Callable[[Document], Document | str]:
    """Masks running text and every message; each option is the mask of a kind, "" to leave the kind alone."""
    wanted = [(pattern, perhaps, holds, options[kind]) for kind, pattern, perhaps, holds in _KINDS if options[kind]]

    def mask(text: str) -> str:
        for pattern, perhaps, holds, put in wanted:
            if not perhaps or perhaps.search(text):
                text = pattern.sub(lambda found, holds=holds, put=put: put if holds(found[0]) else found[0], text)  # type: ignore[misc]
        return text

    return lambda document: document.edited(mask)


FILTER = Filter(
    name="pii",
    description="Masks e-mail and public IP addresses; with a mask of yours also IBANs and international telephone numbers.",
    make=make,
    source="arXiv 2506.20920",
    options={"email": "email@example.com", "ip": "192.0.2.1", "iban": "", "phone": ""},
)
