"""Translation engines: the real Apertium, tiny trained models, a stand-in server; whatever goes in, as much comes out."""

from __future__ import annotations

import difflib
import io
import json
import os
import shutil
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hub_stand_in import HubStandIn, Repo, environment
from hub_stand_in import serving as hub_serving
from hypothesis import given, settings
from hypothesis import strategies as st

from langadapt.errors import RunError, UserError
from langadapt.plugins import registry
from langadapt.translation.engines import apertium, batching, codes, memory, openai
from langadapt.translation.engines import ctranslate2 as ct2
from langadapt.translation.engines import transformers as seq2seq

ITALIAN = {
    "The boat leaves the harbour at dawn.": "La barca lascia il porto all'alba.",
    "We ate bread and olives.": "Abbiamo mangiato pane e olive.",
    "Why does water boil?": "Perché l'acqua bolle?",
    "The train was late again, so we walked along the river.": "Il treno era in ritardo, perciò abbiamo camminato.",
}
SPANISH = {"We ate bread and olives.": "Comimos pan y aceitunas.", "Why does water boil?": "¿Por qué hierve el agua?"}


def test_the_registry_offers_every_engine_and_each_says_what_it_lacks():
    found = registry().translators
    assert set(found) >= {"apertium", "ctranslate2", "transformers", "openai", "memory"}
    for name in ("ctranslate2", "transformers", "openai"):
        said = found[name].problem(found[name].options(), "en", "it")
        assert "model" in said or "pip install" in said, name
    for translator in found.values():
        for key, field in translator.options.model_fields.items():
            assert field.description, f"{translator.name}.{key} is not described"


# --- language codes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tag", "vocabulary", "token"),
    [
        ("it", ["ita_Latn", "eng_Latn", "▁it", "it"], "ita_Latn"),
        ("it", ["__it__", "__is__", "__itx__"], "__it__"),
        ("it", ["<2it>", "<2is>"], "<2it>"),
        ("it-CH", ["it_IT", "fr_XX"], "it_IT"),
        ("cat", [">>cat<<", ">>ita<<"], ">>cat<<"),
        ("sq", ["als_Latn", "aln_Latn"], "als_Latn"),  # NLLB has the member in place of the macrolanguage
        ("zh-Hant", ["zho_Hans", "zho_Hant"], "zho_Hant"),
        ("pt", [">>pt<<", ">>pt_BR<<"], ">>pt<<"),
        ("pt-BR", [">>pt<<", ">>pt_BR<<"], ">>pt_BR<<"),
    ],
)
def test_a_tag_finds_its_token_in_a_vocabulary(tag, vocabulary, token):
    assert codes.language_token(tag, vocabulary, "target_code") == token


def test_a_tag_that_fits_no_token_or_several_is_refused_with_the_option_that_decides():
    with pytest.raises(UserError, match="zho_Hans, zho_Hant; choose one by target_code"):
        codes.language_token("zh", ["zho_Hans", "zho_Hant"], "target_code")
    with pytest.raises(UserError, match='no token for "it"; it has spa_Latn; see source_code'):
        codes.language_token("it", ["spa_Latn", "it"], "source_code")


@given(st.lists(st.integers(1, 40), max_size=30), st.integers(1, 100))
def test_batches_hold_every_text_once_and_no_more_than_they_may(lengths, most):
    found = list(batching.batches(lengths, range(len(lengths)), most))
    assert sorted(i for batch in found for i in batch) == list(range(len(lengths)))
    assert all(len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= most for batch in found)


# --- apertium ----------------------------------------------------------------------------------------------------------

ADVERSARIAL = [
    "The cat is on the table.",
    "a [b] ^c$ \\d @home <i>big</i> {name} x/y ~z",
    "[][][] \\\\\\ ^^^$$$ <<>> {}{}",
    "^a/b<n><sg>$ [[t:b:12]]bold[[/]] <STREAMCMD:FLUSH>",
    "end with [",
    "end with \\",
    "",
    "   ",
    "  leading and trailing  ",
    "zero \x00 byte, \x01\x02\x1b controls, \x0b\x0c\x7f",
    "line\nbreak, \r\n both, \x85 \u2028 \u2029",
    "not a character: \uffff \ufffe, half a character: \ud83d",
    "😀 smile 👩‍👩‍👧 and ⟦0⟧ or ⟦12⟧, \ufeff \u200b",
    "[u41] [ua] \\[u0]",
    "a" * 5000,
]
KEPT = set("[]^$\\@<>{}/~⟦⟧😀👩👧") | set(
    "\x00\x01\x02\x1b\x0b\x0c\x7f\n\r\x85\u2028\u2029\uffff\ufffe\ud83d\ufeff\u200b"
)


def english_to_italian() -> bool:
    return not apertium.problem(apertium.Options(), "en", "it")


needs_apertium = pytest.mark.skipif(not english_to_italian(), reason="apertium has no way from English to Italian here")


@given(st.text() | st.text(alphabet="[]u0a\\^$\n\x00\uffff"))
def test_apertiums_stream_format_is_undone_exactly(text):
    stream = apertium.to_stream(text)
    assert apertium.from_stream(stream) == text
    assert not set(stream) & set("\0\n\uffff")


@needs_apertium
def test_apertium_loses_no_character_and_no_text_whatever_they_are():
    translate = apertium.open_engine(apertium.Options(), "en", "it")
    found = translate(ADVERSARIAL)
    assert len(found) == len(ADVERSARIAL)
    for text, translation in zip(ADVERSARIAL, found, strict=True):
        for mark in KEPT & set(text):
            assert translation.count(mark) == text.count(mark), (mark, text, translation)
    assert found[0].startswith("Il gatto")
    assert found[6] == ""
    assert found[14] == "a" * 5000  # no word that it knows, and no mark for that


@needs_apertium
@settings(max_examples=3)
@given(st.lists(st.text(max_size=30), min_size=1, max_size=40))
def test_apertium_gives_as_many_texts_as_it_gets_and_each_as_if_it_were_alone(texts):
    translate = apertium.open_engine(apertium.Options(), "en", "it")
    together = translate(texts)
    assert len(together) == len(texts)
    assert together[-1:] == translate(texts[-1:])


@needs_apertium
def test_the_way_is_the_shortest_and_of_equals_the_first_or_the_one_asked_for():
    modes = ["cat-ita", "eng-cat", "eng-cat_valencia", "eng-spa", "spa-ita", "spa-eng", "eng-glg", "glg-spa"]
    way = apertium.chain
    assert way(apertium.Options(), "en", "it", modes) == ["eng-cat", "cat-ita"]
    assert way(apertium.Options(via=["es"]), "en", "it", modes) == ["eng-spa", "spa-ita"]
    assert way(apertium.Options(via=["gl"]), "en", "it", modes) == ["eng-glg", "glg-spa", "spa-ita"]
    assert way(apertium.Options(mode="eng-cat_valencia"), "en", "ca", modes) == ["eng-cat_valencia"]
    assert way(apertium.Options(), "it", "en", modes) == []
    options = apertium.Options(via=["es"])
    assert apertium.fingerprint(options, "en", "it") != apertium.fingerprint(apertium.Options(), "en", "it")


@needs_apertium
@pytest.mark.parametrize(
    ("options", "target", "said"),
    [
        ({}, "eu", "apt install apertium-eu-en"),
        ({}, "ja", "use another engine"),
        ({"mode": "eng-spaa"}, "es", 'did you mean "eng-spa"'),
        ({"mode": "eng-spa"}, "it", "does not translate from en to it"),
        ({"mode": "eng-spa", "via": ["ca"]}, "es", "leave one of them out"),
    ],
)
def test_a_way_that_apertium_does_not_have_is_named_with_what_to_do(options, target, said):
    assert said in apertium.problem(apertium.Options(**options), "en", target)


def test_without_apertium_the_problem_says_which_packages_lead_there(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    said = apertium.problem(apertium.Options(), "en", "it")
    assert "apt install apertium apertium-eng-cat apertium-cat-ita" in said


def impostor(
    folder: Path, monkeypatch: pytest.MonkeyPatch, script: str, timeout: float = 60
) -> Callable[[Sequence[str]], Sequence[str]]:
    """An engine whose program is a script of the test's, listed as translating from English to Italian."""
    program = folder / "apertium"
    program.write_text(f'#!/bin/sh\n[ "$1" = -l ] && echo "  eng-ita" && exit 0\n{script}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return apertium.open_engine(apertium.Options(timeout=timeout), "en", "it")


def test_a_program_that_crashes_at_everything_ends_the_run_with_its_own_words(monkeypatch, tmp_path):
    translate = impostor(tmp_path, monkeypatch, "cat > /dev/null; echo 'transfer: no such rule' >&2; exit 3")
    with pytest.raises(RunError, match=r"ended with code 3: transfer: no such rule; try it by hand"):
        translate(["one", "two", "three"])


def test_a_program_that_breaks_at_one_text_leaves_that_one_untranslated(monkeypatch, tmp_path):
    crash = "python3 -c \"import sys; s = sys.stdin.read(); sys.exit(9) if 'poison' in s else sys.stdout.write(s)\""
    translate = impostor(tmp_path, monkeypatch, crash)
    assert translate(["one", "two", "poison", "four"]) == ["one", "two", "", "four"]


def test_a_program_that_loses_texts_without_a_word_is_found_out(monkeypatch, tmp_path):
    translate = impostor(tmp_path, monkeypatch, "head -c 2")
    with pytest.raises(RunError, match="gave 0 texts back for 1"):
        translate(["a rather long text", "another one"])


def test_a_program_that_hangs_is_ended_with_its_children(monkeypatch, tmp_path):
    translate = impostor(tmp_path, monkeypatch, f"(sleep 2; touch {tmp_path}/survived) & sleep 60", timeout=0.5)
    started = time.monotonic()
    with pytest.raises(RunError, match=r"had not answered after 0.5 s.*translator.timeout"):
        translate(["one"])
    assert time.monotonic() - started < 30
    time.sleep(2)
    assert not (tmp_path / "survived").exists()


# --- memory ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        (
            "made.jsonl",
            (
                '{"en": "Hello.", "it": "Ciao."}',
                "",
                '{"en": "A \\"b\\"", "it": "Una \\"b\\""}',
                '{"en": "Hello.", "it": "Salve."}',
            ),
        ),
        ("made.tsv", ("id\ten\tit", "1\tHello.\tCiao.", '2\tA "b"\tUna "b"', "3\tHello.\tSalve.")),
    ],
)
def test_memory_gives_what_the_file_holds_and_nothing_for_the_rest(write, name, rows):
    options = memory.Options(path=str(write(name, "\n".join(rows) + "\n")))
    assert memory.problem(options, "en", "it") == ""
    translate = memory.open_engine(options, "en", "it")
    assert translate(["Good night.", " Hello. ", 'A "b"']) == ["", "Ciao.", 'Una "b"']
    assert memory.open_engine(options, "it", "en")(["Salve."]) == ["Hello."]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"en": "Hello.", "fr": "Salut."}', r'made.jsonl:1: there is no text under "it"; keys: en, fr'),
        ("[1]", r"made.jsonl: cannot be read as JSONL \(\[1\] is no JSON object\)"),
        ("Hello", r"made.jsonl: cannot be read as JSONL"),
    ],
)
def test_memory_says_what_is_wrong_with_a_file(write, content, said):
    problem = memory.problem(memory.Options(path=str(write("made.jsonl", content))), "en", "it")
    with pytest.raises(UserError, match=said):
        raise UserError(problem)


def test_memory_without_a_path_is_the_sample_of_the_target_language():
    sample = registry().languages["it"].parallel_sample
    assert "no plugin brings sample translations" in memory.problem(memory.Options(), "en", "xx")
    if sample is None:
        pytest.skip("the Italian plugin brings no sample translations")
    assert memory.problem(memory.Options(), "en", "it") == ""
    first = json.loads(sample.read_text(encoding="utf-8").splitlines()[0])
    assert memory.open_engine(memory.Options(), "en", "it")([first["en"]]) == [first["it"]]


# --- openai ------------------------------------------------------------------------------------------------------------

Reply = tuple[int, Any]


class Server:
    """A stand-in for an OpenAI-compatible server: `reply` answers each text, called with how often it was asked."""

    def __init__(self, reply: Callable[[str, int], Reply]):
        self.reply, self.asked, self.counts = reply, list[dict[str, Any]](), dict[str, int]()
        self.keys, self.lock, self.url = set[str](), threading.Lock(), ""


def completion(content: str | None, finish_reason: str = "stop") -> Reply:
    return 200, {"choices": [{"message": {"role": "assistant", "content": content}, "finish_reason": finish_reason}]}


@contextmanager
def serving(reply: Callable[[str, int], Reply]) -> Iterator[Server]:
    server = Server(reply)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            text = body["messages"][-1]["content"]
            with server.lock:
                server.asked.append(body | {"path": self.path})
                server.keys.add(self.headers.get("Authorization", ""))
                server.counts[text] = server.counts.get(text, 0) + 1
            status, content = server.reply(text, server.counts[text])
            self.send_response(status)
            if status in (429, 503):
                self.send_header("Retry-After", "0.05")
            if status == 307:
                self.send_header("Location", "/elsewhere/chat/completions")
            self.end_headers()
            self.wfile.write(content if isinstance(content, bytes) else json.dumps(content).encode())

        def log_message(self, *args: Any) -> None:
            pass

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *args: Any) -> None:
            pass  # the client went away, which is what some tests are about

    with Quiet(("127.0.0.1", 0), Handler) as http:
        server.url = f"http://127.0.0.1:{http.server_address[1]}/v1"
        thread = threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server
        http.shutdown()


def client(server: Server, **options: Any) -> Callable[[Sequence[str]], Sequence[str]]:
    return openai.open_engine(openai.Options(base_url=server.url, model="m", **options), "en", "it")


def test_a_server_gets_each_text_with_our_prompt_and_answers_keep_their_order(monkeypatch):
    monkeypatch.setenv("TRIAL_KEY", "secret-key")

    def reply(text: str, count: int) -> Reply:
        time.sleep(0.05 if text == "one" else 0)  # the first is the slowest
        return completion(f" «{text}»\n")

    with serving(reply) as server:
        texts = ["one", "two", "  ", "three"]
        assert client(server, api_key_env="TRIAL_KEY")(texts) == ["«one»", "«two»", "  ", "«three»"]
    assert {body["messages"][1]["content"] for body in server.asked} == {"one", "two", "three"}
    first = server.asked[0]
    assert first["path"] == "/v1/chat/completions" and first["temperature"] == 0 and first["model"] == "m"
    assert "to Italian (it)" in first["messages"][0]["content"] and "{target}" not in first["messages"][0]["content"]
    assert server.keys == {"Bearer secret-key"}


def test_a_busy_server_is_asked_again_until_it_answers():
    def reply(text: str, count: int) -> Reply:
        return (429, {"error": {"message": "slow down"}}) if count < 3 else completion(text.upper())

    with serving(reply) as server:
        assert client(server)(["one", "two"]) == ["ONE", "TWO"]
    assert server.counts == {"one": 3, "two": 3}


def test_a_server_that_stays_busy_ends_the_run_and_says_so():
    with serving(lambda text, count: (503, {"error": {"message": "overloaded"}})) as server:
        with pytest.raises(
            RunError, match=r"still failing after 3 tries \(503 overloaded\).*what is translated is kept"
        ):
            client(server, max_retries=2)(["one"])
        assert server.counts == {"one": 3}


def test_a_server_that_does_not_answer_in_time_is_asked_again():
    def reply(text: str, count: int) -> Reply:
        time.sleep(1.0 if count == 1 else 0)
        return completion("uno")

    with serving(reply) as server:
        assert client(server, timeout=0.3)(["one"]) == ["uno"]
        assert server.counts == {"one": 2}
    too_late = r"still failing after 2 tries \(.*timed out"
    with (
        serving(lambda text, count: time.sleep(1.0) or completion("late")) as server,
        pytest.raises(RunError, match=too_late),
    ):
        client(server, timeout=0.2, max_retries=1)(["one"])


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (401, {"error": {"message": "bad key secret-key"}}, r"answers 401 .*\(bad key …\); check the key in TRIAL_KEY"),
        (403, {"error": "forbidden"}, r"answers 403 .*\(forbidden\); check the key"),
        (404, b"<html>", r"answers 404 .*often ends with /v1"),
        (400, {"error": {"message": "no temperature here"}}, r"answers 400 .*\(no temperature here\); check the options"),
        (429, {"error": {"message": "pay", "code": "insufficient_quota"}}, r"answers 429 .*\(pay\)"),
        (307, b"", r"answers 307"),
    ],
)  # fmt: skip
def test_a_server_that_refuses_is_not_asked_again_and_no_key_is_shown(monkeypatch, status, body, said):
    monkeypatch.setenv("TRIAL_KEY", "secret-key")
    with serving(lambda text, count: (status, body)) as server:
        with pytest.raises(UserError, match=said) as caught:
            client(server, api_key_env="TRIAL_KEY")(["one"])
        assert len(server.asked) == 1
    assert "secret-key" not in str(caught.value)


def test_answers_that_cannot_be_the_translation_come_back_empty():
    replies = {
        "cut off": completion("tagliat", "length"),
        "chatty": completion("Tradotto\n\nNota: è una traduzione."),
        "silent": completion(None),
        "filtered": (400, {"error": {"message": "no", "code": "content_filter"}}),
        "fine": completion("bene"),
    }
    with serving(lambda text, count: replies[text]) as server:
        assert client(server)(list(replies)) == ["", "", "", "", "bene"]


def test_a_server_that_is_no_such_server_is_told_apart():
    with (
        serving(lambda text, count: (200, b"<html>hello")) as server,
        pytest.raises(RunError, match=r"no JSON.*base_url"),
    ):
        client(server)(["one"])
    with (
        serving(lambda text, count: (200, {"ok": True})) as server,
        pytest.raises(RunError, match="no chat completion"),
    ):
        client(server)(["one"])
    with pytest.raises(UserError, match=r"cannot be reached .*start the server"):
        client(server)(["one"])  # it is closed by now


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "give the server in base_url"),
        ({"base_url": "localhost:8000", "model": "m"}, "is no address"),
        ({"base_url": "http://h/v1", "model": "m", "api_key_env": "sk-abc123"}, "never the key"),
        ({"base_url": "http://h/v1", "model": "m", "api_key_env": "NOT_SET_HERE"}, "export NOT_SET_HERE=…"),
        ({"base_url": "http://h/v1", "model": "m"}, ""),
    ],
)
def test_the_table_of_a_server_is_checked_offline(options, said):
    problem = openai.problem(openai.Options(**options), "en", "it")
    assert said in problem and bool(said) == bool(problem)
    assert "sk-abc123" not in problem


def test_the_fingerprint_of_a_server_holds_what_translations_depend_on():
    def of(**options: Any) -> str:
        return openai.fingerprint(openai.Options(base_url="http://h/v1", model="m", **options), "en", "it")

    assert of() == of(timeout=3.0, concurrency=1, api_key_env="X")
    assert len({of(), of(temperature=0.5), of(system_prompt="Translate."), of(max_tokens=9)}) == 4


# --- neural models, tiny and trained by heart --------------------------------------------------------------------------

Example = tuple[list[str], list[str]]


def need(*packages: str) -> None:
    for package in packages:
        pytest.importorskip(package, reason=f"{package} is not installed: pip install 'langadapt[ctranslate2]'")


def cutter(*symbols: str) -> tuple[bytes, Any]:
    """A SentencePiece model of all texts here, which never cuts the symbols."""
    import sentencepiece

    out = io.BytesIO()
    texts = [*ITALIAN, *ITALIAN.values(), *SPANISH.values()]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts), model_writer=out, vocab_size=90, hard_vocab_limit=False, bos_id=-1, pad_id=-1,
        character_coverage=1.0, user_defined_symbols=list(symbols), minloglevel=2,
    )  # fmt: skip
    return out.getvalue(), sentencepiece.SentencePieceProcessor(model_proto=out.getvalue())


def learn(model: Any, examples: Sequence[Example], number: dict[str, int], end: int, pad: int, start: int) -> Any:
    """Trains until the model says every translation by heart, which takes a few seconds."""
    import torch
    from torch.nn.utils.rnn import pad_sequence

    def rows(lists: Sequence[Sequence[int]], filler: int) -> Any:
        return pad_sequence([torch.tensor(ids) for ids in lists], batch_first=True, padding_value=filler)

    sources = [[number[t] for t in source] for source, _ in examples]
    targets = [[*(number[t] for t in target), end] for _, target in examples]
    # Which language a translation begins with is said and not guessed, so there is nothing to learn in it.
    labels = [[-100 if t.startswith("__") else number[t] for t in target] + [end] for _, target in examples]
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    model.train()
    for _ in range(300):
        inputs = rows(sources, pad)
        loss = model(
            input_ids=inputs,
            attention_mask=(inputs != pad).long(),
            decoder_input_ids=rows([[start, *ids[:-1]] for ids in targets], pad),
            labels=rows(labels, -100),
        ).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        model.get_input_embeddings().weight.data[pad] = 0  # as in Marian's own models
        if loss.item() < 0.005:
            break
    return model.eval()


SIZES = dict(
    d_model=64, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2,
    encoder_ffn_dim=128, decoder_ffn_dim=128, max_position_embeddings=128, dropout=0.0, attention_dropout=0.0,
)  # fmt: skip


@pytest.fixture(scope="session")
def marian(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Marian checkpoint that knows the texts above, plain and with the target language before them as MADLAD has it."""
    need("sentencepiece", "ctranslate2")
    import torch
    from transformers import MarianConfig, MarianMTModel, MarianTokenizer

    folder = tmp_path_factory.mktemp("marian")
    proto, pieces = cutter("<2it>", "<2es>")
    for name in ("source.spm", "target.spm"):
        (folder / name).write_bytes(proto)
    words = ["</s>", "<unk>", *(pieces.id_to_piece(i) for i in range(len(pieces))), "<pad>"]
    number = {word: i for i, word in enumerate(dict.fromkeys(words))}
    (folder / "vocab.json").write_text(json.dumps(number))
    tokenizer = MarianTokenizer(
        source_spm=str(folder / "source.spm"), target_spm=str(folder / "target.spm"), vocab=str(folder / "vocab.json")
    )
    torch.manual_seed(0)
    pad = number["<pad>"]
    config = MarianConfig(
        vocab_size=len(number), pad_token_id=pad, eos_token_id=0, decoder_start_token_id=pad, forced_eos_token_id=0,
        activation_function="swish", static_position_embeddings=True, scale_embedding=True, **SIZES,
    )  # fmt: skip
    fed = [*ITALIAN.items(), *((f"<2es> {text}", spanish) for text, spanish in SPANISH.items())]
    fed += [(f"<2it> {text}", italian) for text, italian in list(ITALIAN.items())[:2]]
    examples = [([*pieces.encode(a, out_type=str), "</s>"], pieces.encode(b, out_type=str)) for a, b in fed]
    model = learn(MarianMTModel(config), examples, number, end=0, pad=pad, start=pad)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def m2m100(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An M2M100 checkpoint that knows the texts above; it begins source and translation with their languages' tokens."""
    need("sentencepiece", "ctranslate2")
    import torch
    from transformers import M2M100Config, M2M100ForConditionalGeneration, M2M100Tokenizer

    folder = tmp_path_factory.mktemp("m2m100")
    proto, pieces = cutter()
    (folder / "sentencepiece.bpe.model").write_bytes(proto)
    words = ["<s>", "<pad>", "</s>", "<unk>", *(pieces.id_to_piece(i) for i in range(len(pieces)))]
    number = {word: i for i, word in enumerate(dict.fromkeys(words))}
    (folder / "vocab.json").write_text(json.dumps(number))
    tokenizer = M2M100Tokenizer(str(folder / "vocab.json"), str(folder / "sentencepiece.bpe.model"))
    size = len(number) + len(tokenizer.lang_token_to_id) + tokenizer.num_madeup_words
    number |= tokenizer.lang_token_to_id
    torch.manual_seed(0)
    config = M2M100Config(
        vocab_size=size, pad_token_id=1, eos_token_id=2, bos_token_id=0, decoder_start_token_id=2,
        encoder_layerdrop=0.0, decoder_layerdrop=0.0, activation_dropout=0.0, **SIZES,
    )  # fmt: skip
    examples = [
        (["__en__", *pieces.encode(text, out_type=str), "</s>"], [token, *pieces.encode(translation, out_type=str)])
        for pairs, token in ((ITALIAN, "__it__"), (SPANISH, "__es__"))
        for text, translation in pairs.items()
    ]
    learn(M2M100ForConditionalGeneration(config), examples, number, end=2, pad=1, start=2).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def converted(marian: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same in CTranslate2's format, without SentencePiece models."""
    from ctranslate2.converters import TransformersConverter

    folder = tmp_path_factory.mktemp("converted") / "model"
    TransformersConverter(str(marian)).convert(str(folder))
    return folder


@pytest.fixture
def opus_mt(converted: Path, marian: Path, tmp_path: Path) -> Path:
    """A folder as conversions of OPUS-MT models look."""
    folder = shutil.copytree(converted, tmp_path / "opus-mt")
    for name in ("source.spm", "target.spm"):
        shutil.copy(marian / name, folder / name)
    return folder


@pytest.fixture
def madlad(converted: Path, marian: Path, tmp_path: Path) -> Path:
    """A folder as conversions of MADLAD models look: one SentencePiece model, and languages in the vocabulary."""
    folder = shutil.copytree(converted, tmp_path / "madlad")
    shutil.copy(marian / "source.spm", folder / "spiece.model")
    return folder


def argos(folder: Path, file: Path, root: str = "translate-en_it-1_0/", **about: str) -> Path:
    """An Argos package: the library itself adds the end of a source text, because Argos does not."""
    config = json.loads((folder / "config.json").read_text()) | {"add_source_eos": True}
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(f"{root}metadata.json", json.dumps({"from_code": "en", "to_code": "it"} | about))
        archive.write(folder / "source.spm", f"{root}sentencepiece.model")
        archive.writestr(f"{root}model/config.json", json.dumps(config))
        for name in ("model.bin", "shared_vocabulary.json"):
            archive.write(folder / name, f"{root}model/{name}")
    return file


def check(translate: Callable[[Sequence[str]], Sequence[str]], known: dict[str, str]) -> None:
    """Every text that was learnt, in an order that is not by length, and texts that must come back empty."""
    texts = [*known, "", " ", *reversed(known), "We ate bread and olives. " * 80]
    answers = [*known.values(), "", "", *reversed(known.values()), ""]
    assert list(translate(texts)) == answers


EXACT = {"compute_type": "float32"}  # what 8 bits make of so small a model differs from processor to processor


@pytest.mark.parametrize("settings", [EXACT, EXACT | {"beam_size": 1, "batch_tokens": 1}])
def test_ctranslate2_reads_opus_mt(opus_mt, settings):
    options = ct2.Options(model=str(opus_mt), **settings)
    assert ct2.problem(options, "en", "it") == ""
    check(ct2.open_engine(options, "en", "it"), ITALIAN)


@pytest.mark.parametrize(("target", "known"), [("it", dict(list(ITALIAN.items())[:2])), ("es", SPANISH)])
def test_ctranslate2_tells_madlad_the_target(madlad, target, known):
    check(ct2.open_engine(ct2.Options(model=str(madlad), **EXACT), "en", target), known)


def test_ctranslate2_tells_models_of_nllbs_kind_both_languages(m2m100, tmp_path, monkeypatch):
    from ctranslate2.converters import TransformersConverter, transformers

    def vocabulary(loader: Any, model: Any, tokenizer: Any) -> list[str]:
        """What the converter makes itself with the tokenizers of transformers 4."""
        return [str(tokenizer.convert_ids_to_tokens(i)) for i in range(model.config.vocab_size)]

    monkeypatch.setattr(transformers.M2M100Loader, "get_vocabulary", vocabulary)
    folder = tmp_path / "model"
    TransformersConverter(str(m2m100), copy_files=["sentencepiece.bpe.model"]).convert(str(folder))
    options = ct2.Options(model=str(folder), beam_size=1)
    for target, known in (("it", ITALIAN), ("es", SPANISH)):
        assert ct2.problem(options, "en", target) == ""
        check(ct2.open_engine(options, "en", target), known)
    assert 'no token for "tlh"' in ct2.problem(options, "en", "tlh")


def test_ctranslate2_reads_argos_packages_packed_and_unpacked(opus_mt, tmp_path):
    package = argos(opus_mt, tmp_path / "en_it.argosmodel")
    options = ct2.Options(model=str(package), **EXACT)
    assert ct2.problem(options, "en", "it-CH") == ""
    check(ct2.open_engine(options, "en", "it"), ITALIAN)
    assert "translates from en to it, not from en to es" in ct2.problem(options, "en", "es")
    with zipfile.ZipFile(package) as archive:
        archive.extractall(tmp_path / "unpacked")
    check(ct2.open_engine(ct2.Options(model=str(tmp_path / "unpacked"), **EXACT), "en", "it"), ITALIAN)


def test_ctranslate2_computes_in_eight_bits_unless_told_otherwise(opus_mt):
    options = ct2.Options(model=str(opus_mt))
    assert options.compute_type == "int8"
    for translated, text in zip(ct2.open_engine(options, "en", "it")(list(ITALIAN)), ITALIAN.values(), strict=True):
        assert difflib.SequenceMatcher(None, translated, text).ratio() > 0.9


def test_ctranslate2_says_what_is_wrong_with_a_model(write, tmp_path):
    need("sentencepiece", "ctranslate2")

    def problem(model: str | Path, target: str = "it", **options: Any) -> str:
        return ct2.problem(ct2.Options(model=str(model), **options), "en", target)

    assert "give a folder" in problem("")
    assert "there is no such file or folder" in problem("./nowhere")
    assert problem("owner/name") == ""  # it will be fetched
    assert "an .argosmodel file, which is a zip archive" in problem(write("a.argosmodel", b"PK no zip"))
    folder = write("m/config.json", "{}").parent
    assert "holds no model.bin" in problem(folder)
    write("m/model.bin", b"")
    assert "holds no SentencePiece model" in problem(folder)
    write("m/sentencepiece.model", b"")
    assert "set kind to opus-mt, nllb" in problem(folder)
    write("m/shared_vocabulary.json", json.dumps(["</s>", "▁it", "eng_Latn", "spa_Latn"]))
    assert 'no token for "it"; it has eng_Latn, spa_Latn; see target_code' in problem(folder)
    assert problem(folder, target_code="ita_Latn") == problem(folder, "es") == ""
    with pytest.raises(UserError, match="CTranslate2 cannot load the model"):
        ct2.open_engine(ct2.Options(model=str(folder)), "en", "es")


HUB = """
import json, sys
from langadapt.errors import UserError
from langadapt.translation.engines import ctranslate2 as engine
options = engine.Options(model="acme/en-it", compute_type="float32")
told = [engine.problem(options, "en", "it"), engine.fingerprint(options, "en", "it")]
try:
    told += engine.open_engine(options, "en", "it")(["Why does water boil?"])
except UserError as error:
    told.append(str(error))
print(json.dumps([*told, engine.problem(options, "en", "it"), engine.fingerprint(options, "en", "it")]))
"""


def test_a_model_of_the_hub_is_fetched_once_without_what_may_hold_code(opus_mt, tmp_path):
    files = {path.name: path.read_bytes() for path in opus_mt.iterdir()}
    unwanted = {"pytorch_model.bin": b"pickled", "modeling.py": b"raise SystemExit"}

    def ask(url: str) -> list[str]:
        env = environment(url, tmp_path / "hub", OMP_NUM_THREADS="1")
        done = subprocess.run([sys.executable, "-c", HUB], env=env, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        said: list[str] = json.loads(done.stdout.splitlines()[-1])
        return said

    with hub_serving(HubStandIn(models={"acme/en-it": Repo(files | unwanted)})) as hub:
        first = ask(hub.url)
        assert first == [
            "",
            first[1],
            "Perché l'acqua bolle?",
            "",
            first[1],
        ]  # the fingerprint is no other when fetched
        assert {*hub.fetched, "source.spm", "target.spm"} == set(files)  # these two are the same bytes, fetched once
        hub.asked.clear()
        assert ask(hub.url) == first
        assert hub.asked == []  # it is here already
        hub.models.clear()
        shutil.rmtree(tmp_path / "hub")
        assert "the hub knows no acme/en-it" in ask(hub.url)[2]


def test_without_its_packages_ctranslate2_says_how_to_install_them(monkeypatch):
    monkeypatch.setattr(ct2.importlib.util, "find_spec", lambda name: None)
    assert "pip install 'langadapt[ctranslate2]'" in ct2.problem(ct2.Options(model="a/b"), "en", "it")


def test_the_fingerprint_of_a_model_changes_with_its_files_and_options(write):
    folder = write("m/model.bin", b"one").parent
    one = ct2.Options(model=str(folder))
    first = ct2.fingerprint(one, "en", "it")
    assert ct2.fingerprint(one.model_copy(update={"inter_threads": 2}), "en", "it") == first
    assert ct2.fingerprint(one.model_copy(update={"beam_size": 1}), "en", "it") != first
    write("m/model.bin", b"two")
    assert ct2.fingerprint(one, "en", "it") != first


@pytest.mark.parametrize("settings", [{}, {"num_beams": 1, "batch_tokens": 1, "dtype": "float32"}])
def test_transformers_reads_a_model_of_one_pair(marian, settings):
    # `>>` tokens choose among targets; the tokens of the other families in this vocabulary are told by code or prefix.
    options = seq2seq.Options(model=str(marian), prefix="<2it> ", **settings)
    assert seq2seq.problem(options, "en", "it") == ""
    check(seq2seq.open_engine(options, "en", "it"), dict(list(ITALIAN.items())[:2]))


def test_transformers_writes_the_target_before_the_text_where_a_model_wants_it_there(marian):
    translate = seq2seq.open_engine(seq2seq.Options(model=str(marian), target_code="<2es>"), "en", "es")
    check(translate, SPANISH)


def test_a_translation_that_finds_no_end_comes_back_empty(marian):
    options = seq2seq.Options(model=str(marian), prefix="<2it> ", max_new_tokens=3)
    assert seq2seq.open_engine(options, "en", "it")(["We ate bread and olives."]) == [""]


def test_transformers_tells_m2m100_both_languages(m2m100):
    options = seq2seq.Options(model=str(m2m100))
    assert seq2seq.problem(options, "en", "es") == ""
    check(seq2seq.open_engine(options, "en", "it"), ITALIAN)
    check(seq2seq.open_engine(options, "en", "es"), SPANISH)
    with pytest.raises(UserError, match='no token for "tlh"'):
        seq2seq.open_engine(options, "en", "tlh")


def test_transformers_tells_nllb_its_own_codes():
    from transformers import NllbTokenizer

    tokenizer = NllbTokenizer(vocab={"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, "▁a": 4}, merges=[])
    speech = seq2seq._speech(tokenizer, seq2seq.Options(), "en", "it")
    assert tokenizer.src_lang == "eng_Latn"
    assert speech.begins_with == tokenizer.convert_tokens_to_ids("ita_Latn") != tokenizer.unk_token_id
    first = tokenizer("▁a").input_ids[0]
    assert first == tokenizer.convert_tokens_to_ids("eng_Latn")


@pytest.mark.parametrize(
    ("config", "weights", "said"),
    [
        ({"model_type": "llama"}, "model.safetensors", "is no sequence-to-sequence model (model_type llama)"),
        ({"model_type": "t5", "is_encoder_decoder": True}, "pytorch_model.bin", "holds no safetensors"),
        ({"model_type": "t5", "is_encoder_decoder": True}, "model.safetensors", ""),
    ],
)
def test_transformers_says_what_is_wrong_with_a_model(write, config, weights, said):
    write(f"m/{weights}", b"")
    folder = write("m/config.json", json.dumps(config)).parent
    problem = seq2seq.problem(seq2seq.Options(model=str(folder)), "en", "it")
    assert said in problem and bool(said) == bool(problem)
    assert "holds no config.json" in seq2seq.problem(seq2seq.Options(model=str(write("e/x", b"").parent)), "en", "it")
