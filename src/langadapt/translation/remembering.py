"""What was translated before: a store that outlives runs, so that nothing is translated twice.

One SQLite file in the user's cache, shared by all recipes. A translation is found by the engine's fingerprint, the two
languages and the text; it is there for good once the batch that it came in is committed.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from langadapt.corpus.cache import VARIABLE, cache_folder
from langadapt.errors import UserError

_ASKED = 500  # keys in one question; SQLite allows 999 in its older versions
_PATIENCE = 60.0  # seconds that a run waits for another one's commit


def key(fingerprint: str, source: str, target: str, text: str) -> bytes:
    """128 bits that name one text translated by one engine from one language to another."""
    named = hashlib.blake2b(digest_size=16)
    for part in (fingerprint, source, target, text):
        encoded = part.encode("utf-8", "surrogatepass")
        named.update(len(encoded).to_bytes(8, "big") + encoded)
    return named.digest()


class Memory:
    """The store, open. Use it with `with`.

    Raises:
        UserError: the file cannot be opened, read or written.
    """

    def __init__(self, folder: Path | None = None):
        self.path = (folder or cache_folder()) / "translations.sqlite"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._store = sqlite3.connect(self.path, timeout=_PATIENCE, isolation_level=None)
            self._store.execute("PRAGMA journal_mode=WAL")  # readers of other runs are not kept waiting
            self._store.execute("PRAGMA synchronous=NORMAL")  # safe with WAL against a killed process
            self._store.execute(
                "CREATE TABLE IF NOT EXISTS translations (key BLOB PRIMARY KEY, text TEXT NOT NULL) WITHOUT ROWID"
            )
        except (OSError, sqlite3.Error) as error:
            raise self._in_words(error) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._store.close()

    def find(self, keys: Iterable[bytes]) -> dict[bytes, str]:
        """Translations that are there, by key."""
        wanted, found = list(dict.fromkeys(keys)), dict[bytes, str]()
        try:
            for start in range(0, len(wanted), _ASKED):
                part = wanted[start : start + _ASKED]
                question = f"SELECT key, text FROM translations WHERE key IN ({','.join('?' * len(part))})"
                found.update(self._store.execute(question, part).fetchall())
        except sqlite3.Error as error:
            raise self._in_words(error) from None
        return found

    def keep(self, translations: Mapping[bytes, str]) -> None:
        """Stores translations in one commit; afterwards even a killed process has them."""
        rows: Sequence[tuple[bytes, str]] = list(translations.items())
        if not rows:
            return
        try:
            self._store.execute("BEGIN IMMEDIATE")
            self._store.executemany("INSERT OR REPLACE INTO translations VALUES (?, ?)", rows)
            self._store.execute("COMMIT")
        except sqlite3.Error as error:
            raise self._in_words(error) from None

    def _in_words(self, error: Exception) -> UserError:
        if isinstance(error, sqlite3.DatabaseError) and "not a database" in str(error):
            what = "is damaged; move it away, and what it held is translated anew"
        else:
            what = f"cannot be used ({error}); free space there, or set {VARIABLE} to a folder that can be written"
        return UserError(f"{self.path}: the store of translations {what}")
