"""Documents become rows: what is trained on, held out or dropped adds up, and no more is read than is needed."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langadapt.corpus import tokenising
from langadapt.corpus.encoding import Encoder
from langadapt.corpus.mixing import plan_mix
from langadapt.corpus.packing import Sequence_
from langadapt.corpus.preparing import Source, content_hash, is_held_out
from langadapt.corpus.tokenising import TOO_LONG_PART, pack
from langadapt.errors import Interrupted, UserError
from langadapt.records import Document, Message, Rejected
from langadapt.stages.cpt import text_sequences

PAD = 2**32 - 1


class Counted:
    """A corpus that knows how much of it was read."""

    screen = None

    def __init__(self, texts: list[str], **options: Any):
        self.texts, self.options, self.read = texts, options, 0

    @property
    def bytes(self) -> int:
        return sum(map(len, self.texts))

    def source(self) -> Source:
        return Source(label="x", read=self._documents, **self.options)

    def _documents(self) -> Iterator[Document]:
        for text in self.texts:
            self.read += 1
            yield Document(id="", text=text)


class Letters:
    """A tokenizer of single letters."""

    def __init__(self, bos: int | None = None, eos: int | None = None):
        self.bos_token_id, self.eos_token_id, self.pad_token_id = bos, eos, PAD

    def __call__(self, texts: list[str], *, add_special_tokens: bool) -> dict[str, list[list[int]]]:
        assert not add_special_tokens, "ours would stand beside the tokenizer's own"
        return {"input_ids": [[ord(c) for c in text] for text in texts]}


def spelt(documents: list[Document]) -> list[Sequence_]:
    """A token a letter; digits are not learnt."""
    return [Sequence_.of([ord(c) for c in d.text], [not c.isdigit() for c in d.text]) for d in documents]


def at_spaces(document: Document) -> list[Sequence_]:
    return spelt([Document(id="", text=part) for part in document.text.split()])


def packed(
    folder: Path,
    *corpora: Any,
    length: int = 8,
    steps: int | None = None,
    rows: int = 1,
    whole: bool = False,
    split: Any = None,
    stop: threading.Event | None = None,
    pool: int = 0,
    most: int | None = None,
    bos: int | None = None,
    **mixed: Any,
):
    weights = [corpus.source().weight for corpus in corpora][: -1 if "replay" in mixed else None]
    stage = SimpleNamespace(id="adapt", inputs=list(corpora), work=plan_mix(weights, [], **mixed), ingredients={})
    context = SimpleNamespace(
        folder=folder,
        stage=stage,
        stop=stop or threading.Event(),
        rows=None,
        log=SimpleNamespace(info=lambda text: None),
    )
    options = SimpleNamespace(training={"max_length": length}, max_steps=steps, max_bytes=most, rows_per_step=rows)
    tokenizer = Letters(bos)
    with patch.object(tokenising, "POOL", pool):
        return pack(context, options, tokenizer, Encoder(tokenizer), encode=spelt, split=split, whole=whole)


def letters(found: Any) -> str:
    return "".join(chr(t) for row in range(len(found.rows)) for t in found.rows[row]["input_ids"] if t != PAD)


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
    corpus = Counted([f"testo {i:06d}" for i in range(100_000)])
    found = packed(tmp_path, corpus, length=16, steps=5, rows=4)
    assert len(found.rows) == 5 * 4 + 1, "the last document goes on into one more"
    assert found.accounting.documents.read == found.accounting.documents.kept == 27, "no more than 320 tokens need"
    assert corpus.read < 5000, "and little is read ahead of that"


def test_reading_ends_with_the_document_that_completes_an_amount_of_text(tmp_path):
    corpus = Counted([f"testo {i:06d}" for i in range(100_000)])  # of 12 bytes each
    found = packed(tmp_path, corpus, length=16, most=100)
    assert found.accounting.documents.kept == 9 and found.accounting.bytes.kept == 108
    assert corpus.read < 5000, "and little is read ahead of that"


def test_the_rows_of_a_few_steps_are_chosen_from_more_than_the_first_documents(tmp_path):
    corpus = Counted([f"testo {i:06d}" for i in range(1000)])
    found = packed(tmp_path, corpus, length=16, steps=5, pool=3200)
    assert found.accounting.tokens.read == pytest.approx(3200, abs=12)


def test_what_is_chosen_from_keeps_to_the_shares_and_has_nothing_twice(tmp_path):
    few, many = Counted([f"a{i:04d}" for i in range(60)]), Counted([f"b{i:04d}" for i in range(900)])
    a, b = packed(tmp_path / "mixed", few, many, length=16, steps=2, pool=4000).given
    assert a.tokens == 300 and abs(b.tokens - a.tokens) <= 5, "reading ends with the first that has no more"
    again = Counted([f"a{i:04d}" for i in range(60)], epochs=3)
    (given,) = packed(tmp_path / "again", again, length=16, steps=2, pool=4000).given
    assert given.documents == 60 and given.repeated <= 1


def test_a_corpus_that_ends_before_the_steps_do_is_read_whole(tmp_path):
    corpus = Counted(["uno", "due", "tre"])
    assert len(packed(tmp_path, corpus, length=4, steps=100, rows=4).rows) == 3 and corpus.read == 3


def test_a_row_in_which_a_text_goes_on_begins_with_the_token_that_texts_begin_with(tmp_path):
    found = packed(tmp_path, Counted(["abcdefghijk"]), length=4, bos=ord("^"))
    assert letters(found) == "abcd^efg^hij^k"
    assert found.accounting.tokens.trained == found.accounting.tokens.read == 11


def test_corpora_are_mixed_by_their_share_of_tokens_to_one_document(tmp_path):
    """A text of the second corpus is ten times as long; a share is one of tokens and not of documents."""
    short = Counted([f"a{i:04d}" for i in range(5000)], weight=0.75)
    long = Counted([f"b{i:04d}" * 10 for i in range(500)], weight=0.25)
    found = packed(tmp_path, short, long, length=100, steps=100, rows=1)
    a, b = found.given
    assert a.tokens + b.tokens == found.accounting.tokens.trained == pytest.approx(10_000, abs=50)
    assert abs(b.tokens - 0.25 * (a.tokens + b.tokens)) <= 50
    assert letters(found).count("a") * 5 == a.tokens and a.documents * 5 == a.tokens


def test_shares_can_be_of_documents(tmp_path):
    corpora = Counted(["a" * 9 + f"{i}" for i in range(900)]), Counted([f"b{i}" for i in range(900)])
    a, b = packed(tmp_path, *corpora, length=50, steps=20, by="documents").given
    assert abs(a.documents - b.documents) <= 1 and a.tokens > 2 * b.tokens


def test_replay_keeps_to_its_share_and_ends_with_the_others(tmp_path):
    corpora = Counted([f"a{i:05d}" for i in range(300)]), Counted([f"b{i:05d}" for i in range(90_000)])
    found = packed(tmp_path, *corpora, replay=0.1)
    assert letters(found).count("a") == 300
    assert letters(found).count("b") == pytest.approx(300 / 9, abs=1)
    assert [g.ran_out for g in found.given] == [True, False]
    assert found.accounting.documents.read == 300 + letters(found).count("b"), "what was read ahead is not counted"


# --- repetition ---


@settings(max_examples=40)
@given(
    texts=st.lists(st.text("abcd1", min_size=1, max_size=9), min_size=1, max_size=40),
    epochs=st.sampled_from([0.5, 1.0, 1.5, 2.0, 3.25]),
    held_out=st.sampled_from([0.0, 0.3]),
    whole=st.booleans(),
)
def test_a_source_gives_each_of_its_documents_as_often_as_it_may(texts, epochs, held_out, whole):
    """Repeated documents are no duplicates of themselves; true duplicates, held-out and bad ones are never repeated."""
    with TemporaryDirectory() as folder:
        try:
            found = packed(Path(folder), Counted(texts, epochs=epochs, held_out=held_out), whole=whole)
        except UserError:
            return
        expected: Counter[str] = Counter()
        for text in set(texts):
            digest = content_hash(Document(id="", text=text))
            chosen = int.from_bytes(digest[8:16], "big") / 2**64
            if not is_held_out(digest, held_out) and not text.isdigit() and not (whole and len(text) > 8):
                expected[text] = int(epochs) + (chosen < epochs % 1)
        assert Counter(letters(found)) == sum((Counter(t * n) for t, n in expected.items()), Counter())
        (gave,) = found.given
        assert gave.documents == sum(n > 0 for n in expected.values()) and gave.ran_out
        assert gave.repeated == sum(max(0, n - 1) for n in expected.values())
        assert found.accounting.documents.read == len(texts), "a document is counted once, however often it is drawn"
        assert found.accounting.tokens.trained == gave.tokens == sum(len(t) * n for t, n in expected.items())
        found.accounting.check()
        del found


def test_a_share_that_one_pass_cannot_fill_is_filled_by_more(tmp_path):
    few = Counted([f"a{i:05d}" for i in range(20)], epochs=3.0)
    many = Counted([f"b{i:05d}" for i in range(2000)])
    a, b = packed(tmp_path, few, many, length=60, steps=10).given
    assert (a.documents, a.repeated) == (20, 30) and abs(a.tokens - b.tokens) <= 6 and not a.ran_out


def test_what_is_read_ahead_is_no_duplicate_of_what_another_corpus_gives(tmp_path):
    """Both corpora hold the same texts; each is taken from the one that the mix draws it from first."""
    same = [f"{i:04d}ab" for i in range(50)]
    a, b = packed(tmp_path, Counted(same), Counted(same[::-1]), length=6, steps=20).given
    assert (a.documents, b.documents) == (10, 10)


def test_what_was_seen_before_is_not_tokenised_again(tmp_path, monkeypatch):
    tokenised: list[str] = []
    plain = spelt

    def counted(documents: list[Document]) -> list[Sequence_]:
        tokenised.extend(d.text for d in documents)
        return plain(documents)

    monkeypatch.setitem(globals(), "spelt", counted)
    monkeypatch.setattr(tokenising, "MOST", tokenising.FIRST)
    texts = [f"a{i:05d}" for i in range(20_000)]
    found = packed(tmp_path, Counted(texts + texts))
    assert len(tokenised) < 1.4 * len(texts), "but for what is read ahead"
    assert found.accounting.documents.dropped == {"exact duplicate": 20_000}


# --- what is too long ---


def test_a_document_that_is_too_long_is_split_and_what_is_too_long_by_itself_is_dropped_by_name(tmp_path):
    corpus = Counted(["abcd efgh", "kkkk llllllllllll", "mmmmmmmmmm", "123", "pq"])
    found = packed(tmp_path, corpus, whole=True, split=at_spaces)
    assert sorted(letters(found)) == sorted("abcdefghkkkkpq")
    assert found.accounting.tokens.dropped == {TOO_LONG_PART: 12 + 10, "nothing to learn": 3}
    assert found.accounting.documents.dropped == {TOO_LONG_PART: 1, "nothing to learn": 1}
    assert found.accounting.documents.kept == 3 and found.given[0].split == 3
    found.accounting.check()


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

    endless_ = SimpleNamespace(source=lambda: Source(label="x", read=endless), bytes=1, screen=None)
    with pytest.raises(Interrupted, match="stopped in stage adapt"):
        packed(tmp_path, endless_, stop=stop)


# --- running text ---


def test_a_text_begins_with_a_token_that_is_given_and_ends_with_one_that_is_learnt():
    (sequence,) = text_sequences([Document(id="", text="ab")], Letters(1, 2), Encoder(Letters(1, 2)))
    assert list(sequence.ids) == [1, 97, 98, 2] and list(sequence.learn) == [False, True, True, True]


def test_a_tokenizer_without_begin_and_end_tokens_gives_the_text_alone():
    (sequence,) = text_sequences([Document(id="", text="ab")], Letters(), Encoder(Letters()))
    assert list(sequence.ids) == [97, 98] and list(sequence.learn) == [True, True]


def test_dialogues_can_be_read_as_running_text():
    dialogue = Document(id="", messages=(Message(role="user", content="a"), Message(role="assistant", content="b")))
    (sequence,) = text_sequences([dialogue], Letters(), Encoder(Letters()))
    assert "".join(map(chr, sequence.ids)) == "a\nb"
