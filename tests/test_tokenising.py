"""Documents become rows: what is trained on, held out or dropped adds up, and no more is read than is needed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langadapt.corpus.packing import Sequence_
from langadapt.corpus.preparing import Source
from langadapt.corpus.tokenising import pack
from langadapt.errors import Interrupted, UserError
from langadapt.records import Document, Message, Rejected
from langadapt.stages.cpt import text_sequences

PAD = 2**32 - 1


class Counted:
    """A corpus that knows how much of it was read."""

    def __init__(self, texts: list[str], **options: float):
        self.texts, self.options, self.read = texts, options, 0

    def source(self) -> Source:
        return Source(label="x", read=self._documents, **self.options)

    def _documents(self) -> Iterator[Document]:
        for text in self.texts:
            self.read += 1
            yield Document(id="", text=text)


def spelt(documents: list[Document]) -> list[Sequence_]:
    """A token a letter; digits are not learnt."""
    return [Sequence_([ord(c) for c in d.text], [not c.isdigit() for c in d.text]) for d in documents]


def packed(
    folder: Path, *corpora: Counted, length: int = 8, steps: int | None = None, rows: int = 1, whole: bool = False
):
    stage = SimpleNamespace(id="adapt", inputs=list(corpora))
    context = SimpleNamespace(
        folder=folder, stage=stage, stop=threading.Event(), log=SimpleNamespace(info=lambda text: None)
    )
    options = SimpleNamespace(training={"max_length": length}, max_steps=steps, rows_per_step=rows)
    return pack(context, options, SimpleNamespace(pad_token_id=PAD), encode=spelt, whole=whole)


texts = st.lists(st.text("abcdefgh12", min_size=1, max_size=14), min_size=1, max_size=40)


@settings(max_examples=60)
@given(texts=texts, whole=st.booleans(), held_out=st.sampled_from([0.0, 0.3]))
def test_tokens_read_are_trained_held_out_or_dropped_by_name(texts, whole, held_out):
    with TemporaryDirectory() as folder:
        try:
            found = packed(Path(folder), Counted(texts, held_out=held_out), whole=whole)
        except UserError as error:
            assert "no document is left to train on" in str(error)
            return
        tokens, distinct = found.accounting.tokens, set(texts)
        found.accounting.check()
        assert tokens.read == sum(map(len, distinct))
        assert tokens.trained == found.rows.tokens_in(range(len(found.rows)))[0]
        assert set(tokens.dropped) <= {"longer than max_length", "nothing to learn"}
        if not held_out:
            long = {t for t in distinct if whole and len(t) > 8}
            mute = {t for t in distinct - long if t.isdigit()}
            assert tokens.dropped["longer than max_length"] == sum(map(len, long))
            assert tokens.dropped["nothing to learn"] == sum(map(len, mute))
            documents = found.accounting.documents
            assert documents.dropped["longer than max_length"] == len(long)
            assert documents.dropped["nothing to learn"] == len(mute)
            assert documents.kept == len(distinct) - len(long) - len(mute)
        kept = sorted(chr(t) for row in range(len(found.rows)) for t in found.rows[row]["input_ids"] if t != PAD)
        assert len(kept) == tokens.trained
        del found


def test_reading_ends_when_there_are_rows_for_every_step(tmp_path):
    corpus = Counted([f"testo {i:05d}" for i in range(10_000)])
    found = packed(tmp_path, corpus, length=16, steps=5, rows=4)
    assert 5 * 4 <= len(found.rows) <= 5 * 4 + 8
    assert corpus.read <= 5 * 4 * 16 / len("testo 00000") + 8


def test_a_corpus_that_ends_before_the_steps_do_is_read_whole(tmp_path):
    corpus = Counted(["uno", "due", "tre"])
    assert len(packed(tmp_path, corpus, length=4, steps=100, rows=4).rows) == 3 and corpus.read == 3


def test_corpora_are_mixed_by_their_share_of_tokens(tmp_path):
    """A text of the second corpus is ten times as long; a share is one of tokens and not of documents."""
    short = Counted([f"a{i:04d}" for i in range(5000)], weight=0.75)
    long = Counted([f"b{i:04d}" * 10 for i in range(500)], weight=0.25)
    found = packed(tmp_path, short, long, length=100, steps=100, rows=1)
    ids = [chr(t) for row in range(len(found.rows)) for t in found.rows[row]["input_ids"] if t != PAD]
    assert ids.count("b") / (ids.count("a") + ids.count("b")) == pytest.approx(0.25, abs=0.05)


@pytest.mark.parametrize(
    ("corpus", "reason"),
    [
        (Counted(["una frase lunga"]), "(1 longer than max_length)"),
        (Counted(["123"]), "(1 nothing to learn)"),
        (Counted([" ", "\n"]), "(2 empty)"),
        (Counted(["uno"], held_out=0.999999999), "(3 tokens held out)"),
    ],
)
def test_when_nothing_is_left_to_train_on_the_reason_is_said(tmp_path, corpus, reason):
    with pytest.raises(UserError) as error:
        packed(tmp_path, corpus, whole=True)
    assert str(error.value).startswith("stage adapt: no document is left to train on") and reason in str(error.value)


def test_a_stop_is_heeded_while_reading(tmp_path):
    stop = threading.Event()

    def endless():
        for number in range(10**9):
            if number == 1000:
                stop.set()
            yield Rejected(reason="bad", where="", size=1) if number % 3 else Document(id="", text=f"testo {number}")

    source = Source(label="x", read=endless)
    stage = SimpleNamespace(id="adapt", inputs=[SimpleNamespace(source=lambda: source)])
    context = SimpleNamespace(folder=tmp_path, stage=stage, stop=stop, log=SimpleNamespace(info=lambda text: None))
    options = SimpleNamespace(training={"max_length": 8}, max_steps=None, rows_per_step=1)
    with pytest.raises(Interrupted, match="stopped in stage adapt"):
        pack(context, options, SimpleNamespace(pad_token_id=0), encode=spelt, whole=False)


# --- running text ---


class Letters:
    """A tokenizer of single letters."""

    def __init__(self, bos: int | None, eos: int | None):
        self.bos_token_id, self.eos_token_id = bos, eos

    def __call__(self, texts: list[str], *, add_special_tokens: bool) -> dict[str, list[list[int]]]:
        assert not add_special_tokens, "ours would stand beside the tokenizer's own"
        return {"input_ids": [[ord(c) for c in text] for text in texts]}


def test_a_text_begins_with_a_token_that_is_given_and_ends_with_one_that_is_learnt():
    (sequence,) = text_sequences([Document(id="", text="ab")], Letters(1, 2))
    assert list(sequence.ids) == [1, 97, 98, 2] and list(sequence.learn) == [False, True, True, True]


def test_a_tokenizer_without_begin_and_end_tokens_gives_the_text_alone():
    (sequence,) = text_sequences([Document(id="", text="ab")], Letters(None, None))
    assert list(sequence.ids) == [97, 98] and list(sequence.learn) == [True, True]


def test_dialogues_can_be_read_as_running_text():
    dialogue = Document(id="", messages=(Message(role="user", content="a"), Message(role="assistant", content="b")))
    (sequence,) = text_sequences([dialogue], Letters(None, None))
    assert "".join(map(chr, sequence.ids)) == "a\nb"
