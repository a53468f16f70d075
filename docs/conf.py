"""The site that `make docs` builds: the Markdown pages as they stand in the repository, and the Python API from the source.

The source folder is the repository's root, so that a link leads to the same page on the site as where files are browsed.
"""

from __future__ import annotations

import dataclasses
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pygments.lexers.data import JsonLexer

if TYPE_CHECKING:
    from sphinx.application import Sphinx

ROOT = Path(__file__).parents[1]
PAGES = ("docs", "examples", "plugins")  # folders that hold some; no other is searched

project = "langadapt"
release = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
root_doc = "docs/index"
include_patterns = ["*.md", "docs/**.md", "examples/*/README.md", "plugins/*/README.md"]
exclude_patterns = [path.name for path in ROOT.iterdir() if path.is_dir() and path.name not in PAGES]
highlight_language = "text"
smartquotes_action = "D"  # dashes alone: what is quoted here is often code
nitpicky = True
# Names of other libraries, which a build without network cannot look up.
nitpick_ignore_regex = [(r"py:.*", r"(?!langadapt\b).*")]

myst_heading_anchors = 6  # made as on GitHub

autodoc_member_order = "bysource"
autodoc_mock_imports = ["peft", "tokenizers", "torch", "transformers", "trl"]  # nothing of what they do is documented
autodoc_preserve_defaults = True
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
napoleon_numpy_docstring = False
napoleon_attr_annotations = True
python_maximum_signature_line_length = 100
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_title = f"{project} {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_extra_path = ["_root"]  # its index.html leads to the front page, which lies in docs/
html_copy_source = False
html_show_copyright = False


MARKDOWN = re.compile(
    r"^(?P<indent> *)```(?P<language>\w+)\n(?P<code>.*?)^ *```$|`(?P<span>[^`]+)`", re.MULTILINE | re.DOTALL
)
FIELD = re.compile(
    r"^\.\. attribute:: (?P<name>\w+)\n(?P<text>(?:\n|   .*\n)+?)\n   :type: (?P<type>.+)$", re.MULTILINE
)


def from_markdown(app: Sphinx, kind: str, name: str, item: Any, options: Any, lines: list[str]) -> None:
    """Our docstrings are Markdown: autodoc gets their code, in blocks and in lines, as reStructuredText."""
    lines[:] = MARKDOWN.sub(_restructured, "\n".join(lines)).split("\n")
    if kind == "property":
        lines[:0] = ["..", ""]  # an empty comment: what stands before a colon in the first line is a type to napoleon


def _restructured(found: re.Match[str]) -> str:
    if found["span"]:
        return f"``{found['span']}``"
    code = re.sub(r"^(?=.)", "   ", found["code"], flags=re.MULTILINE)
    return f"{found['indent']}.. code-block:: {found['language']}\n\n{code}"


def fields(app: Sphinx, kind: str, name: str, item: Any, options: Any, lines: list[str]) -> None:
    """A field's type and default beside its name: napoleon gives the type a paragraph, and leaves the default out."""
    known = (
        {field.name: _default(field) for field in dataclasses.fields(item)} if dataclasses.is_dataclass(item) else {}
    )

    def with_type(found: re.Match[str]) -> str:
        short = re.sub(r"(?<![\w.])(?=\w+\.\w)", "~", found["type"])  # shows the last part of a dotted name
        value = f"   :value: {known[found['name']]}\n" if known.get(found["name"]) else ""
        return f".. attribute:: {found['name']}\n   :no-contents-entry:\n   :type: {short}\n{value}{found['text']}"

    lines[:] = FIELD.sub(with_type, "\n".join(lines)).split("\n")


def _default(field: dataclasses.Field[Any]) -> str:
    """As the source writes it; "" for a field that has none."""
    if field.default_factory is not dataclasses.MISSING:
        return f"{field.default_factory.__name__}()"
    if field.default is dataclasses.MISSING:
        return ""
    if dataclasses.is_dataclass(field.default):
        return f"{type(field.default).__name__}()"
    return getattr(field.default, "__qualname__", repr(field.default))


def signature(app: Sphinx, kind: str, name: str, item: Any, options: Any, given: str, returned: str) -> Any:
    """None of records, whose fields are listed with all that it would say."""
    return ("", None) if dataclasses.is_dataclass(item) else None


def navigation(app: Sphinx, page: str, source: list[str]) -> None:
    """What the front page lists below a heading is what the navigation lists under it: no page is listed twice."""
    if page != app.config.root_doc:
        return
    for section in re.split(r"^## ", source[0], flags=re.MULTILINE)[1:]:
        links = re.findall(r"^- \[(.+?)\]\((.+?)\.md\)", section, flags=re.MULTILINE)
        if pages := "\n".join(f"{name} <{file}>" for name, file in links):
            source[0] += f"\n```{{toctree}}\n:hidden:\n:caption: {section.splitlines()[0]}\n\n{pages}\n```\n"


def setup(app: Sphinx) -> None:
    app.add_lexer("jsonl", JsonLexer)  # the name under which pages show files of JSON lines
    app.connect("autodoc-process-docstring", from_markdown, priority=400)  # before napoleon reads the sections
    app.connect("autodoc-process-docstring", fields, priority=600)
    app.connect("autodoc-process-signature", signature)
    app.connect("source-read", navigation)
