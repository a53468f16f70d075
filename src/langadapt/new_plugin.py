"""Writes a language plugin that works at once: it can be installed, passes its conformance tests and can be rehearsed.

What a person knows of the language goes in (its tag, its names, a text of theirs), and everything else is made from that;
`langadapt.plugin_samples` makes the samples. Whoever has no text at hand gets a placeholder that says so. The files are
templates in `templates/plugin`.
"""

from __future__ import annotations

import json
import tempfile
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packaging.utils import InvalidName, canonicalize_name

from langadapt.errors import UserError
from langadapt.hookspecs import CONTRACT
from langadapt.plugin_samples import DOCUMENT, Sample, Writing, sample_of
from langadapt.plugins import registry
from langadapt.tags import NO_LANGUAGE, base, is_script, tag_fault

TEMPLATES = Path(__file__).parent / "templates" / "plugin"
ENDING = ".jinja"
PLACE = "MODULE"  # in the paths of templates, what the module is called


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What its author says of a plugin.

    Attributes:
        plugin: what it is called, `basque`.
        language: BCP-47 tag.
        name: of the language in English.
        autonym: of the language in itself.
        script: ISO 15924 code.
        source_language: BCP-47 tag of the language that base models come with.
        text: a file of running text in the language, in UTF-8; None for a placeholder.
        licence: of that text.
    """

    plugin: str
    language: str
    name: str
    autonym: str
    script: str = "Latn"
    source_language: str = "en"
    text: Path | None = None
    licence: str = "all rights reserved"

    @property
    def distribution(self) -> str:
        return f"langadapt-{self.plugin}"

    @property
    def module(self) -> str:
        return self.distribution.replace("-", "_")


def write(wish: Wish, folder: Path, *, say: Callable[[str], None] = lambda line: None) -> list[Path]:
    """Writes the plugin into a folder, all of it or nothing.

    Args:
        wish: what it is about.
        folder: where to; made if it is not there.
        say: gets a line on what was left out of the text, and what looks odd in it.

    Returns:
        The files.

    Raises:
        UserError: something of the wish cannot be, or the folder cannot be written or has something in it.
    """
    _refuse(wish, folder)
    files = _rendered(wish, sample_of(wish.text, language=wish.language, script=wish.script, say=say))
    around = folder.absolute().parent
    try:
        around.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=around, prefix=f".{wish.distribution}-") as place:
            whole = Path(place) / wish.distribution
            for name, content in files.items():
                (whole / name).parent.mkdir(parents=True, exist_ok=True)
                (whole / name).write_text(content, encoding="utf-8")
            if folder.is_dir():  # it is empty, and may be where somebody stands
                for part in whole.iterdir():
                    part.replace(folder / part.name)
            else:
                whole.replace(folder)
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {error.strerror}; say another place with --folder") from None
    return [folder / name for name in files]


# --- what cannot be: each raises a UserError, when a wish is to be written or as soon as a person has answered ----------


def _refuse(wish: Wish, folder: Path) -> None:
    refuse_plugin(wish.plugin, folder)
    for name in (wish.name, wish.autonym):
        refuse_name(name)
    refuse_language(wish.language)
    refuse_source_language(wish.source_language, wish.language)
    refuse_script(wish.script)


def refuse_plugin(plugin: str, folder: Path) -> None:
    """Raises where a plugin cannot be called so, where there is one of that name, or its folder is not free."""
    distribution = f"langadapt-{plugin}"
    try:
        good = canonicalize_name(distribution, validate=True) == distribution
    except InvalidName:
        good = False
    if not good or not distribution.replace("-", "_").isidentifier():
        raise UserError(f'"{plugin}" cannot be part of a distribution\'s name; write it as basque or swiss-german')
    for other in registry().plugins:
        if plugin == other.name or distribution == canonicalize_name(other.distribution):
            raise UserError(f"there is a plugin {other} already; give yours another name, or uninstall that one")
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file; say another place with --folder")
    if folder.is_dir() and any(folder.iterdir()):
        raise UserError(f"the folder {folder} is not empty; say another one with --folder")


def refuse_name(name: str) -> None:
    """Raises where a language cannot be called so."""
    if not name.strip() or any(letter in '"\\' or unicodedata.category(letter) == "Cc" for letter in name):
        raise UserError(f"{json.dumps(name, ensure_ascii=False)} cannot be the name of a language; write it as Basque")


def refuse_language(language: str) -> None:
    """Raises where it is no tag, or that of a language which a plugin offers."""
    _refuse_tag(language)
    known = registry().languages
    if language in known:
        raise UserError(
            f'{known.owner(language)} offers the language "{language}" already; add to that plugin, or uninstall it'
        )


def refuse_source_language(source: str, language: str) -> None:
    """Raises where it is no tag, or that of the language itself."""
    _refuse_tag(source)
    if source == language:
        raise UserError(f"the language and the source language are both {source}; base models come with another")


def _refuse_tag(tag: str) -> None:
    if problem := tag_fault(tag):
        raise UserError(f"{problem}; take one such as eu, sr-Cyrl or pt-BR")


def refuse_script(script: str) -> None:
    """Raises where it is no script."""
    if not is_script(script):
        raise UserError(f'"{script}" is no ISO 15924 code; write it as Latn, Grek or Deva')


def _rendered(wish: Wish, sample: Sample) -> dict[str, str]:
    """The files by their paths inside the plugin's folder."""
    import jinja2

    from langadapt.schema import recipe_schema

    room = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    writing = Writing(wish.script)
    room.filters["quoted"] = lambda text: json.dumps(text, ensure_ascii=False)
    values = {
        "wish": wish,
        "sample": sample,
        "contract": CONTRACT,
        "langadapt": ".".join(metadata.version("langadapt").split(".")[:2]),
        "pattern": writing.pattern,
        "letter_by_letter": not writing.spaced,
        "wikipedia": base(wish.language),
        "sample_licence": wish.licence if wish.text else "CC0-1.0",
        "class_name": "".join(part.capitalize() for part in wish.plugin.split("-")),
        "no_language": NO_LANGUAGE,
        "words_of_a_document": DOCUMENT,
    }
    files = {}
    for name in room.list_templates():
        path = name.removesuffix(ENDING).replace(PLACE, wish.module)
        files[path] = room.get_template(name).render(values)
    schema = recipe_schema(upstream_help=False)  # the libraries' own sentences are theirs
    files[f"src/{wish.module}/recipes/recipe.schema.json"] = json.dumps(schema, indent=1, ensure_ascii=False) + "\n"
    for part in ("prose", "instructions", "pairs"):
        rows = (json.dumps(row, ensure_ascii=False) for row in getattr(sample, part))
        files[f"src/{wish.module}/samples/{part}.jsonl"] = "".join(f"{row}\n" for row in rows)
    return files
