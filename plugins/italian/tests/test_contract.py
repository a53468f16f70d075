"""Italian keeps to the contract: every check of langadapt, each of every record."""

from __future__ import annotations

import pytest

from langadapt.testing import PluginConformance


@pytest.mark.nightly
class TestItalian(PluginConformance):
    """More than a thousand checks, most of them of the sub-tasks of EVALITA."""

    plugin = "langadapt_italian"
