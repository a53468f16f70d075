"""What several test files need: a recipe in a file, and a base model that is only a shape."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile(
    "langadapt", deadline=None
)  # machines that run tests are slow at times, and that is no failure
settings.load_profile("langadapt")

ROOT = Path(__file__).parents[1]
LLAMANTINO = ROOT / "recipes" / "llamantino.toml"

TINY_SHAPE = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 384,
    "tie_word_embeddings": False,
}

HEAD = """\
schema = 1
name = "trial"
language = "it"
base_model = "someone/model"
"""
STAGE = """
[[stage]]
id = "adapt"
kind = "cpt"
corpus = ["dolly-it"]
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first, so that no core waits for it in the end."""
    items.sort(key=lambda item: "test_rehearsal.py" not in item.nodeid)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keeps what tests translate out of the user's memory of translations, and the other way round."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LANGADAPT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Writes a file below the test's own folder and gives its path; text is written as UTF-8."""

    def write_file(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
        return path

    return write_file


@pytest.fixture
def model_folder(write: Callable[..., Path]) -> Path:
    """A folder that a plan takes for a base model: a configuration and a file of weights that is never read as such."""
    write("model/model.safetensors", b"weights")
    return write("model/config.json", json.dumps({"model_type": "llama"} | TINY_SHAPE)).parent
