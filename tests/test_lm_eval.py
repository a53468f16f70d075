"""The bridge to lm-evaluation-harness: names, data and shots in a plan, and, where it is installed, what it finds."""

from __future__ import annotations

import json
import math
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from conftest import HEAD, STAGE

from langadapt import Recipe, harness, hub
from langadapt.errors import RecipeError, UserError
from langadapt.evaluation.methods import Items, Measure, Subject, lm_eval, rows
from langadapt.inputs import Input
from langadapt.plugins import registry
from langadapt.recipe import CorpusRef, EvaluationTable
from langadapt.testing import tiny_model

# What langadapt reads of the definitions of these names.
INDEX: Mapping[str, Mapping[str, Any]] = {
    "arc_it": {
        "file": "okapi/arc_multilingual/arc_it.yaml", "dataset": "alexandrainst/m_arc", "config": "it", "options": {},
        "version": "2.0", "evaluated": "test", "shots": "train", "num_fewshot": None, "problem": "",
    },
    "evalita-mp_sa_prompt-1": {
        "file": "evalita_llm/_evalita-mp_sa_p1.yaml", "dataset": "evalitahf/sentiment_analysis", "config": "",
        "options": {}, "version": "1", "evaluated": "test", "shots": "train", "num_fewshot": None, "problem": "",
    },
    "wikitext": {
        "file": "wikitext/wikitext.yaml", "dataset": "EleutherAI/wikitext_document_level",
        "config": "wikitext-2-raw-v1", "options": {}, "version": "2.0", "evaluated": "test", "shots": "train",
        "num_fewshot": None, "problem": "",
    },
    "fixed": {
        "file": "x.yaml", "dataset": "a/b", "config": "", "options": {}, "version": "1", "evaluated": "test",
        "shots": "train", "num_fewshot": 0, "problem": "",
    },
    "code": {
        "file": "y.yaml", "dataset": "a/b", "config": "", "options": {}, "version": "1", "evaluated": "test",
        "shots": "", "num_fewshot": None, "problem": "it runs code that the model writes; name another task",
    },
    "evalita-mp_sa": {"members": ["evalita-mp_sa_tasks"]},
    "evalita-mp_sa_tasks": {"members": ["evalita-mp_sa_prompt-1"]},
    "both": {"members": ["arc_it", "evalita-mp_sa"]},
}  # fmt: skip

ADAPT = """
[[stage]]
id = "adapt"
kind = "cpt"
corpus = [{{ path = "{text}", held_out = 0 }}]
[stage.peft]
r = 4
[stage.training]
max_steps = 2
max_length = 32
per_device_train_batch_size = 1
"""

INSTALLED = pytest.mark.skipif(
    find_spec("lm_eval") is None, reason="lm-evaluation-harness is not installed: pip install 'langadapt[lm-eval]'"
)


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch) -> None:
    """A harness of a few tasks."""
    monkeypatch.setattr(harness, "_index", lambda: INDEX)
    monkeypatch.setattr(harness, "version", lambda: "0.4.13")


def arc(number: int) -> list[dict[str, Any]]:
    """Rows as the data set of `arc_it` has them."""
    return [
        {
            "id": str(i), "instruction": f"Quanto fa {i} più uno?", "option_a": str(i), "option_b": str(i + 1),
            "option_c": str(i + 2), "option_d": "non si sa", "option_e": None, "answer": "B",
        }
        for i in range(number)
    ]  # fmt: skip


def lines(found: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in found)


def recipe(write: Callable[..., Path], more: str, *, base: str = "someone/model") -> Recipe:
    return Recipe.load(write("recipe.toml", HEAD.replace("someone/model", base) + more + STAGE))


def problems(write: Callable[..., Path], more: str) -> str:
    with pytest.raises(RecipeError) as refused:
        recipe(write, more)
    return str(refused.value)


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("index")
def test_names_that_the_harness_does_not_have_are_refused_wherever_they_stand(write) -> None:
    said = problems(
        write,
        '[evaluation]\nsuites = ["lm-eval/arc_itt"]\nnum_fewshot = { "lm-eval/bot" = 1, "wic-ita" = 2 }\n'
        '[data]\n"lm-eval/wikitxt" = "x"\n[decontamination]\nagainst = ["lm-eval/cod"]\n',
    )
    for wrong, right in (("arc_itt", "arc_it"), ("bot", "both"), ("wikitxt", "wikitext"), ("cod", "code")):
        assert f'no task, group or tag "{wrong}"; did you mean "lm-eval/{right}"?' in said
    assert "evaluation.num_fewshot.wic-ita: examples stand before questions of lm-evaluation-harness only" in said


def test_without_the_harness_names_pass_and_the_plan_says_what_to_install(write, model_folder, monkeypatch) -> None:
    monkeypatch.setattr(harness, "version", lambda: "")
    loaded = recipe(write, '[evaluation]\nsuites = ["lm-eval/arc_it"]\n', base=str(model_folder))
    said = [p for p in loaded.plan().problems if "harness" in p]
    assert said == ["lm-evaluation-harness is not installed; pip install 'langadapt[lm-eval]'"]


@pytest.mark.usefixtures("index")
def test_groups_stand_for_their_tasks_each_once_and_the_nearest_name_says_the_shots() -> None:
    found = harness.tasks(["arc_it", "both"], {"lm-eval/both": 3, "lm-eval/evalita-mp_sa": 2, "lm-eval": 1})
    assert [(t.name, t.num_fewshot) for t in found] == [("arc_it", 1), ("evalita-mp_sa_prompt-1", 2)]
    assert found[1].named == (
        "lm-eval/evalita-mp_sa_prompt-1", "lm-eval/evalita-mp_sa_tasks", "lm-eval/evalita-mp_sa", "lm-eval/both",
        "lm-eval",
    )  # fmt: skip


@pytest.mark.usefixtures("index")
def test_tasks_that_cannot_be_asked_are_in_the_way_of_the_run(write, model_folder) -> None:
    names = '["lm-eval/code", "lm-eval/fixed"]'
    loaded = recipe(
        write,
        f'[evaluation]\nsuites = {names}\nnum_fewshot = {{ "lm-eval/fixed" = 5 }}\n[data]\n"lm-eval/arc_it" = "none"\n',
        base=str(model_folder),
    )
    said = "\n".join(loaded.plan().problems)
    assert "lm-eval/code: it runs code that the model writes" in said
    assert "lm-eval/fixed: its definition fixes num_fewshot at 0" in said


# --- data -------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("index")
def test_a_copy_is_a_file_or_a_folder_with_a_file_for_each_split_or_a_clone(write) -> None:
    (plain,), (shots,) = harness.tasks(["arc_it"], {}), harness.tasks(["arc_it"], {"lm-eval": 2})
    file = write("arc/test.jsonl", lines(arc(3)))
    assert harness.copy_of(plain, str(file)).files == {"test": file}
    assert harness.copy_of(plain, str(file.parent)).files == {"test": file}
    with pytest.raises(UserError, match=r"its 2 examples are drawn from the split train; give a folder"):
        harness.copy_of(shots, str(file))
    with pytest.raises(UserError, match=r"arc has no train\.jsonl"):
        harness.copy_of(shots, str(file.parent))
    train = write("arc/train.parquet", b"x")
    with pytest.raises(UserError, match=r"test\.jsonl and train\.parquet must be of one kind"):
        harness.copy_of(shots, str(file.parent))
    train.unlink()
    train = write("arc/train.json", "x")
    assert harness.copy_of(shots, str(file.parent)).files == {"test": file, "train": train}
    before = harness.copy_of(plain, str(file.parent)).digest
    write("arc/README.md", "a clone")
    assert harness.copy_of(shots, str(file.parent)).files == {}
    assert harness.copy_of(shots, str(file.parent)).digest != before
    with pytest.raises(UserError, match=r"nowhere has no test\.jsonl"):
        harness.copy_of(plain, str(file.parent / "nowhere"))


@pytest.mark.usefixtures("index")
def test_shots_and_data_are_in_the_digest_and_the_plan_says_what_comes_from_the_hub(write, model_folder) -> None:
    file = write("arc.jsonl", lines(arc(3)))

    def planned(more: str = "") -> Any:
        text = f'[evaluation]\nsuites = ["lm-eval/both"]\n{more}[data]\n"lm-eval/arc_it" = "{file}"\n'
        return recipe(write, text, base=str(model_folder)).plan().stage("evaluate-base")

    stage = planned()
    asked = {m.task: m for m in stage.work if m.suite == "lm-eval"}
    assert {t: (m.input.where, m.input.label) for t, m in asked.items()} == {
        "arc_it": ("local", "alexandrainst/m_arc/it"),
        "evalita-mp_sa_prompt-1": ("hub", "evalitahf/sentiment_analysis"),
    }
    assert stage.ingredients["measure arc_it"] == "lm-eval, lm_eval, version 2.0, 0 shots, lm_eval 0.4.13"
    assert not stage.digest  # the commit on the hub is not known yet
    shots = planned('num_fewshot = { "lm-eval/evalita-mp_sa" = 4 }\n')
    assert "4 shots" in shots.ingredients["measure evalita-mp_sa_prompt-1"]
    before = asked["arc_it"].input.fingerprint
    write("arc.jsonl", lines(arc(4)))
    assert {m.task: m for m in planned().work}["arc_it"].input.fingerprint != before


@pytest.mark.usefixtures("index")
def test_what_is_trained_on_is_compared_with_the_items_whatever_the_shots(write, model_folder) -> None:
    test, text = write("arc/test.jsonl", lines(arc(3))), write("text.jsonl", lines([{"text": "Uno."}] * 9))
    write("arc/train.jsonl", lines(arc(5)))

    def planned(more: str, place: Path = test.parent) -> Any:
        table = f'[evaluation]\nsuites = ["lm-eval/arc_it"]\n{more}[data]\n"lm-eval/arc_it" = "{place}"\n'
        training = f'[[stage]]\nid = "a"\nkind = "cpt"\ncorpus = [{{ path = "{text}" }}]\n'
        head = HEAD.replace("someone/model", str(model_folder))
        return Recipe.load(write("recipe.toml", head + table + training)).plan().stage("a")

    plain = planned("")
    assert "text that holds items of lm-eval/arc_it is dropped" in plain.notes
    assert planned("", test).digest == plain.digest, "the items are the same"
    assert planned('num_fewshot = { "lm-eval" = 2 }\n').digest == plain.digest, "examples are no items"
    write("arc/test.jsonl", lines(arc(4)))
    assert planned("").digest != plain.digest
    elsewhere = planned('[decontamination]\nagainst = ["lm-eval/code"]\n')
    assert elsewhere.notes[-1] == "items are not looked for of evaluations without a copy at hand: lm-eval/code"


@pytest.mark.usefixtures("index")
def test_a_rehearsal_fetches_nothing_and_says_so(write) -> None:
    stage = recipe(write, '[evaluation]\nsuites = ["lm-eval/arc_it"]\n').rehearse().plan().stage("evaluate-base")
    assert not [m for m in stage.work if m.suite == "lm-eval"]
    assert any("a rehearsal fetches nothing: lm-eval/arc_it" in note for note in stage.notes)


def test_the_plugin_of_the_language_says_what_its_suite_holds() -> None:
    assert {"arc_it", "hellaswag_it", "m_mmlu_it", "xcopa_it", "belebele_ita_Latn"} < set(
        registry().languages["it"].lm_eval
    )


def test_nothing_reaches_the_network_in_a_block_without_connection() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Here)
    Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}/"
    try:
        with hub.unconnected(), pytest.raises(OSError, match="nothing may be fetched"):
            urllib.request.urlopen(address, timeout=5)
        assert urllib.request.urlopen(address, timeout=5).read() == b"here"
    finally:
        server.shutdown()
        server.server_close()


class _Here(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"here")

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


# --- figures ----------------------------------------------------------------------------------------------------------


def item(number: int, *, aggregation: str = lm_eval.MEAN, **values: Any) -> dict[str, Any]:
    metrics = {m: {"value": v, "higher_is_better": True, "aggregation": aggregation} for m, v in values.items()}
    shared = {"num_fewshot": 5, "task_version": "2.0", "prompt_sha256": f"p{number}"}
    return {"id": str(number), "metrics": metrics, **shared}


def test_values_are_means_with_intervals_and_a_model_compared_with_itself_has_not_changed() -> None:
    items = [item(i, acc=float(i % 4 == 0)) for i in range(40)]
    found = lm_eval.METHOD.figures.intervals(items, "arc_it")["acc"]
    assert found.value == 0.25 and 0.05 < found.low < 0.25 < found.high < 0.45
    same = lm_eval.METHOD.figures.changes([items], [items], "arc_it")["acc"]
    assert (same.value, same.low, same.high) == (0, 0, 0)
    better = [item(i, acc=1.0) for i in range(40)]
    assert lm_eval.METHOD.figures.changes([items], [better], "arc_it")["acc"].value == 0.75


def test_rows_say_shots_version_and_prompts() -> None:
    measure = Measure(method="lm_eval", task="arc_it", suite="lm-eval", split="test", input=None)  # type: ignore[arg-type]
    (row,) = rows(measure, Items(items=[item(i, acc=1.0) for i in range(3)], limited=False))
    (other,) = rows(measure, Items(items=[item(i + 1, acc=1.0) for i in range(3)], limited=False))
    assert (row["metric"], row["num_fewshot"], row["task_version"], row["n"]) == ("acc", 5, "2.0", 3)
    assert row["prompt_sha256"] != other["prompt_sha256"]


def test_metrics_of_some_items_only_and_of_nameless_functions_are_left_out() -> None:
    items = [item(0, acc=1.0, rare=1.0), item(1, acc=0.0)]
    items += [item(2, acc=1.0, aggregation="module:<lambda>")]
    assert lm_eval._unfit(items) == {
        "rare": "is there for 1 of 3 items only",
        "acc": "is aggregated by a function without a name",
    }


def test_bits_per_byte_of_the_harness_change_in_proportion() -> None:
    def scored(nats: float) -> list[dict[str, Any]]:
        return [item(i, aggregation=f"{__name__}:per_byte", bits_per_byte=[-nats * (i + 1), 10]) for i in range(5)]

    assert lm_eval.METHOD.figures.changes([scored(4.0)], [scored(3.0)], "wikitext")[
        "bits_per_byte"
    ].value == pytest.approx(-0.25)


def per_byte(values: list[Any]) -> float:
    return -sum(v[0] for v in values) / math.log(2) / sum(v[1] for v in values)


def test_without_the_harness_its_own_aggregations_give_no_change() -> None:
    items = [item(0, odd=1.0, aggregation="lm_eval_that_is_gone:odd")]
    assert lm_eval.METHOD.figures.changes([items], [items], "x") == {}


@dataclass
class Measured:
    """A model with what came of asking it."""

    model: Any
    tokenizer: Any
    rows: list[dict[str, Any]]
    items: Sequence[Mapping[str, Any]]


# --- with the harness -------------------------------------------------------------------------------------------------


@pytest.fixture
def run(
    write, tmp_path: Path, index: None, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[list[Any], list[Any]]]:
    """Measures a tiny model, before and after it learnt something; rows and items of the harness."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    write(
        "text.jsonl", lines([{"text": f"Il numero {i} viene prima di {i + 1}, e lo sanno tutti."} for i in range(40)])
    )

    def done(evaluation: str, data: str) -> tuple[list[Any], list[Any]]:
        base = tiny_model(tmp_path / "base")
        stage = ADAPT.format(text=tmp_path / "text.jsonl")
        head = HEAD.replace("someone/model", str(base))
        file = write(
            "recipe.toml", f"{head}[evaluation]\n{evaluation}[decontamination]\nenabled = false\n[data]\n{data}{stage}"
        )
        found = Recipe.load(file).execute(tmp_path / "run")
        items = [
            json.loads(line)
            for model in ("base", "adapt")
            for line in (tmp_path / "run/stages" / f"evaluate-{model}" / "items.jsonl").read_text().splitlines()
        ]
        return found.rows, items

    return done


@INSTALLED
def test_a_task_is_asked_before_and_after_and_its_rows_and_items_are_like_our_own(write, run) -> None:
    folder = write("arc/test.jsonl", lines(arc(30))).parent
    write("arc/train.jsonl", lines(arc(50)[30:]))
    found, items = run(
        'suites = ["lm-eval/arc_it"]\nmax_items = 12\nnum_fewshot = { "lm-eval/arc_it" = 2 }\n',
        f'"lm-eval/arc_it" = "{folder}"\n',
    )
    assert {(r["stage"], r["metric"]) for r in found} == {
        (s, m) for s in ("base", "adapt") for m in ("acc", "acc_norm")
    }
    assert {(r["suite"], r["task"], r["n"], r["num_fewshot"], r["split"], r["limited"]) for r in found} == {
        ("lm-eval", "arc_it", 12, 2, "test", True)
    }
    assert len({r["prompt_sha256"] for r in found}) == len({r["data"] for r in found}) == 1
    assert all("change_ci_low" in r for r in found if r["stage"] == "adapt")
    before, after = items[:12], items[12:]
    assert [i["id"] for i in before] == [i["id"] for i in after] != [str(n) for n in range(12)]
    for one in before:  # an item's number, question, answer and judgement belong together
        assert one["asked"] == f"Question: Quanto fa {one['id']} più uno?\nAnswer:" and one["gold"] == 1
        assert one["metrics"]["acc"]["value"] == (one["text"] == str(int(one["id"]) + 1))


@pytest.fixture
def measured(tmp_path: Path, index: None, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Measured]:
    """Asks a tiny model the items of a file, without a run around it."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))

    def done(name: str, file: Path, **config: Any) -> Measured:
        import torch

        from langadapt.loading import load_tokenizer, load_weights

        folder = tiny_model(tmp_path / "base", **config)
        model, tokenizer = load_weights(str(folder), torch.float32).eval(), load_tokenizer(folder)
        (task,) = harness.tasks([name], {})
        data = Input(label=name, where="local", path=file, ref=CorpusRef(name=name))
        measure = Measure(
            method="lm_eval", task=task.name, suite="lm-eval", split=task.evaluated, input=data, harness=task
        )
        subject = Subject(model=model, tokenizer=tokenizer, settings=EvaluationTable(), prompts={})
        made = lm_eval.prepare(subject, measure).take()
        return Measured(model, tokenizer, rows(measure, made), made.items)

    return done


@INSTALLED
def test_values_and_choices_are_those_of_the_models_own_probabilities(write, measured) -> None:
    import torch

    made = measured("arc_it", write("arc.jsonl", lines(arc(8))))

    def total(question: str, answer: str) -> float:
        start, whole = (made.tokenizer(text)["input_ids"] for text in (question, question + answer))
        assert whole[: len(start)] == start
        with torch.no_grad():
            log_p = made.model(torch.tensor([whole])).logits[0].log_softmax(-1)
        return sum(log_p[i - 1, whole[i]].item() for i in range(len(start), len(whole)))

    assert len(made.items) == 8
    for one in made.items:
        n = int(one["id"])
        choices = [str(n), str(n + 1), str(n + 2), "non si sa"]
        best = max(choices, key=lambda choice: total(one["asked"], f" {choice}"))
        assert one["text"] == best


@INSTALLED
def test_a_tasks_own_aggregation_has_an_interval_too(write, measured) -> None:
    from sklearn.metrics import f1_score

    gold = [("1", "0"), ("0", "1"), ("0", "0"), ("1", "1")] * 4
    file = write("sa.jsonl", lines([{"text": f"Messaggio {i}", "opos": p, "oneg": n} for i, (p, n) in enumerate(gold)]))
    made = measured("evalita-mp_sa", file)
    (row,) = made.rows
    labels = ["Positivo", "Negativo", "Neutrale", "Misto"]
    chosen = [labels.index(i["text"]) for i in made.items]

    def part(numbers: list[int], which: int) -> list[int]:
        return [int((p, n)[which]) for p, n in (gold[k] for k in numbers)]

    expected = sum(f1_score(part(range(16), w), part(chosen, w), average="macro") for w in (0, 1)) / 2
    assert row["metric"] == "f1" and row["value"] == pytest.approx(expected) and row["ci_low"] <= row["value"]


@INSTALLED
def test_running_text_has_the_bits_per_byte_of_our_own_measure(write, measured) -> None:
    from langadapt.evaluation.bits_per_byte import score_text

    pages = ["Perché l'acqua bolle? " * 23, "Una barca torna al porto e nessuno sa perché."]
    file = write("wiki.jsonl", lines([{"page": page} for page in pages]))
    made = measured("wikitext", file, max_position_embeddings=32)
    row = next(r for r in made.rows if r["metric"] == "bits_per_byte")
    scored = [score_text(made.model, made.tokenizer, page, length=32, stride=32) for page in pages]
    ours = sum(s.nll for s in scored) / math.log(2) / sum(s.bytes for s in scored)
    assert row["value"] == pytest.approx(ours, abs=1e-4) and row["higher_is_better"] is False


@INSTALLED
@pytest.mark.nightly
def test_every_task_of_the_italian_suite_is_in_the_installed_harness() -> None:
    found = harness.tasks(registry().languages["it"].lm_eval, {})
    assert len(found) > 40 and not [t.name for t in found if t.problem or not t.evaluated or not t.path.is_file()]
    for name in ("arc_it", "evalita-mp_sa_prompt-1", "wikitext"):
        (task,) = harness.tasks([name], {})
        assert harness._index()[name] == INDEX[name] and task.path.is_file()


@INSTALLED
def test_items_that_are_looked_for_are_those_that_are_asked(write, index, monkeypatch, tmp_path: Path) -> None:
    from langadapt.evaluation.harness_run import items

    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))

    def of(name: str, file: Path) -> list[Any]:
        (task,) = harness.tasks([name], {})
        return list(items(task, Input(label=name, where="local", path=file, ref=CorpusRef(name=name))))

    asked = of("arc_it", write("arc.jsonl", lines(arc(3))))
    assert [i.messages[0].content for i in asked] == [f"Question: Quanto fa {n} più uno?\nAnswer:" for n in range(3)]
    assert [(i.choices, i.gold) for i in asked] == [
        ((str(n), str(n + 1), str(n + 2), "non si sa"), 1) for n in range(3)
    ]
    (page,) = of("wikitext", write("page.jsonl", lines([{"page": "Una pagina intera."}])))
    assert page.text == "Una pagina intera."


@INSTALLED
def test_text_that_holds_an_item_of_the_harness_is_not_trained_on(write, index, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    question = "Quale pianta dei prati di montagna chiude i suoi fiori bianchi poco prima che arrivi il temporale?"
    rows = [row | {"instruction": question} if row["id"] == "2" else row for row in arc(6)]
    texts = [f"Il numero {i} viene prima di {i + 1}, e lo sanno tutti." for i in range(40)]
    texts[7] = f"Un indovinello di paese: {question.lower()} Nessuno lo sa."
    write("text.jsonl", lines([{"text": text} for text in texts]))
    file = write(
        "recipe.toml",
        HEAD.replace("someone/model", str(tiny_model(tmp_path / "base")))
        + f"""
[evaluation]
automatic = false
[decontamination]
against = ["lm-eval/arc_it"]
[data]
"lm-eval/arc_it" = "{write("arc.jsonl", lines(rows))}"
"""
        + ADAPT.format(text=tmp_path / "text.jsonl"),
    )
    (stage,) = Recipe.load(file).execute(tmp_path / "run").state["stages"]
    assert stage["accounting"]["documents"]["dropped"] == {"contaminated: lm-eval/arc_it": 1}
    assert stage["accounting"]["contamination"]["evaluations"]["lm-eval/arc_it"]["found"] == 1
