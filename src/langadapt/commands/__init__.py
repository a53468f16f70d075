"""Groups of verbs of the command line, one module each, and what all verbs share."""

from __future__ import annotations

import json
from typing import Any

import click

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")


def print_json(value: Any) -> None:
    """What `--json` prints."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))
