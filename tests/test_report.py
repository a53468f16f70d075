"""The report page and the model card: true to the rows, harmless, and readable whatever a run did or did not do."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub import ModelCard

from langadapt import Recipe, artifacts
from langadapt.evaluation import pairing
from langadapt.inputs import Input
from langadapt.plugins import registry
from langadapt.recipe import CorpusRef
from langadapt.report import card, figures, findings, write_report
from langadapt.report.answers import OTHER, UNREAD, asked, confusions
from langadapt.report.page import flows, frontier, page

EVIL = "<script>alert(1)</script>"
RECIPE = """
schema = 1
name = "trial"
description = "A trial & <script>alert(1)</script>."
language = "it"
base_model = "{model}"
requires = ["langadapt-italian>=0.1"]

[evaluation]
suites = []

[[stage]]
id = "adapt"
kind = "cpt"
corpus = [{{ name = "clean-mc4-it", path = "{text}" }}]
[stage.peft]
method = "qlora"

[[stage]]
id = "chat"
kind = "sft"
prompt = "chatml"
corpus = [{{ path = "{chat}" }}]

[[stage]]
id = "release"
kind = "merge"
from = "adapt"
"""
TOKENS = {"read": 100, "trained": 60, "held_out": 10, "learnt": 59, "dropped": {"not reached in max_steps": 30}}
ACCOUNTING = {
    "documents": {"read": 10, "kept": 9, "dropped": {"exact duplicate": 1}},
    "bytes": {"read": 1000, "kept": 900, "dropped": {"exact duplicate": 100}},
    "tokens": TOKENS,
}
TRAINED = {
    "steps": 3,
    "tokens_per_second": 12.5,
    "peak_memory": 2**31,
    "peak_gpu_memory": 0,
    "trainable_parameters": 77,
}
WINDOWS = {"window": 1024, "stride": 512, "bytes": 900, "tokens": 300}  # of a row of bits per byte
CERTIFICATE = {
    "adapters": 1, "bits_per_byte_merged": 2.5, "bits_per_byte_sixteen_bit": 2.25, "bits_per_byte_as_trained": 2.75,
    "kl_sixteen_bit": 0.001, "kl_max_sixteen_bit": 0.02, "same_top_sixteen_bit": 0.99,
    "kl_as_trained": 0.3, "kl_max_as_trained": 2.5, "same_top_as_trained": 0.55,
}  # fmt: skip


@pytest.fixture
def plan(write, model_folder):
    """A plan whose stages read files that the test wrote; nothing of it was run."""
    text = write("text.jsonl", json.dumps({"text": "Il porto si sveglia prima della città."}) + "\n")
    turns = [{"role": "user", "content": "Ciao?"}, {"role": "assistant", "content": "Ciao!"}]
    chat = write(f"{EVIL.replace('/', '')}.jsonl", json.dumps({"messages": turns}) + "\n")
    recipe = write("recipe.toml", RECIPE.format(model=model_folder, text=text, chat=chat))
    made = Recipe.load(recipe).plan(recipe.parent / "run")
    made.folder.mkdir()
    return made


@pytest.fixture
def state(plan):
    """What `run.json` says of a finished run of `plan`."""
    facts = {
        "cpt": (ACCOUNTING, TRAINED),
        "sft": (ACCOUNTING, TRAINED),
        "merge": ({}, CERTIFICATE),
        "evaluate": ({}, {}),
    }
    environment = {"python": "3.11.7", "platform": "Linux", "machine": "a machine", "bf16": True}
    return {
        "schema": 1, "name": "trial", "status": "done", "rehearsal": False, "started": "2026-11-23T21:26:32+00:00",
        "seconds": 113.4, "changes": [], "environment": environment | {"packages": {"langadapt": "0.1.0"}},
        "stages": [
            {"id": s.id, "kind": s.kind, "from": s.parent, "status": "done", "digest": "d" * 64, "seconds": 5.5,
             "reason": "", "accounting": facts[s.kind][0], "metrics": facts[s.kind][1], "artifact": f"stages/{s.id}"}
            for s in plan.stages
        ],
    }  # fmt: skip


def row(stage, task, value, *, metric="bits_per_byte", suite="held-out", language="it", n=1000, change=None, **more):
    moved = {}
    if change is not None:
        low, high = more.pop("interval")
        relative = metric.endswith("bits_per_byte")
        moved = {
            "baseline": "base",
            "change": change,
            "change_ci_low": low,
            "change_ci_high": high,
            "change_is_relative": relative,
            "p_adjusted": more.pop("p_adjusted", 0.002 if low > 0 or high < 0 else 0.4),
        }
    return {
        "stage": stage, "suite": suite, "task": task, "split": "held_out", "metric": metric, "value": value, "n": n,
        "ci_low": value - 0.01, "ci_high": value + 0.01, "higher_is_better": not metric.endswith("bits_per_byte"),
        "unit": "", "language": language, "limited": False, **moved, **more,
    }  # fmt: skip


@pytest.fixture
def rows(plan):
    """Italian gained, English lost, the chat stage's own answers did not move for sure, and a task got worse."""
    own = plan.stage("chat").inputs[0].label
    task = {"metric": "macro_f1", "suite": "exams", "undecoded": 3}
    return [
        row("base", "clean-mc4-it", 0.91234567),
        row("base", "english", 0.7112, language="en", suite="english"),
        row("base", own, 1.5, metric="answer_bits_per_byte", language="", n=40),
        row("base", "quiz", 0.5123, n=50, **task),
        row("adapt", "clean-mc4-it", 0.62987654, change=-0.3096, interval=(-0.3141, -0.3049)),
        row("adapt", "english", 0.7345, language="en", suite="english", change=0.0328, interval=(0.029, 0.036)),
        row("adapt", "quiz", 0.4001, n=50, change=-0.1122, interval=(-0.2, -0.05), **task),
        row(
            "chat", own, 1.49, metric="answer_bits_per_byte", language="", n=40, change=-0.0067, interval=(-0.02, 0.01)
        ),
        row("release", "certificate", 0.001, metric="kl_sixteen_bit", suite="merge")
        | {"ci_low": None, "ci_high": None},
    ]


class Reader(HTMLParser):
    """Tags, attributes and text of a page, as a browser would see them."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.texts, self._open = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.texts.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def text(self):
        return " ".join(" ".join(self.texts).replace("\xa0", " ").split())


@pytest.fixture
def read(plan, state, rows):
    """The page of the run, read; keyword arguments take the place of what the run has."""

    def read_page(**other):
        given = {"plan": plan, "state": state, "rows": rows} | other
        return Reader(page(given["plan"], given["state"], given["rows"]))

    return read_page


def log(plan, *events):
    (plan.folder / "events.jsonl").write_text("".join(json.dumps(e) + "\n" for e in events), encoding="utf-8")


def step(number, loss, stage="adapt", **more):
    return {"event": "step", "stage": stage, "step": number, "steps": 9, "loss": loss, "learning_rate": 1e-4} | more


def answers(plan, stage, *items):
    folder = plan.folder / "stages" / stage
    folder.mkdir(parents=True)
    lines = [json.dumps({"suite": "exams", "task": "quiz", "method": "task"} | item) for item in items]
    (folder / "items.jsonl").write_text("\n".join(lines), encoding="utf-8")


# --- true to the rows -------------------------------------------------------------------------------------------------


def test_page_shows_every_row_with_its_exact_value(read, rows):
    shown = Counter(float(d["value"]) for d in read().all("data"))
    assert shown == Counter(r["value"] for r in rows)


def test_report_json_and_page_agree_when_rows_are_collected_from_the_folder(plan, state):
    text = {"suite": "held-out", "task": "clean-mc4-it", "method": "text"}
    for model, factor in (("base", 1.0), ("adapt", 0.8)):
        folder = plan.folder / "stages" / f"evaluate-{model}"
        folder.mkdir(parents=True)
        artifacts.write_json(folder / "stage.json", {"rows": [row(model, "clean-mc4-it", 1.1 * factor, n=8)]})
        items = [text | {"id": str(i), "nll": factor * (50 + i), "bytes": 60, "tokens": 20} for i in range(8)]
        (folder / "items.jsonl").write_text("\n".join(map(json.dumps, items)), encoding="utf-8")
    rows = write_report(plan, state)
    assert rows == json.loads((plan.folder / "report.json").read_text())
    found = Reader((plan.folder / "report.html").read_text(encoding="utf-8"))
    assert sorted(float(d["value"]) for d in found.all("data")) == sorted(r["value"] for r in rows)
    assert "20.0 % fewer bits per byte" in found.text and "significant gain" in found.text
    assert "20.0" in (plan.folder / "MODEL_CARD.md").read_text(encoding="utf-8")


def test_verdict_says_in_words_what_was_gained_lost_and_not_moved(read):
    text = read().text
    assert (
        "After stage adapt, Italian text (clean-mc4-it) takes 31.0 % fewer bits per byte than with the base model "
        "(0.912 → 0.630; 95 % interval −31.4 to −30.5 %, n = 1,000): significant gain." in text
    )
    assert "source-language text (english, en) takes 3.3 % more" in text and "significant loss" in text
    assert "not distinguishable from no change" in text


@pytest.mark.parametrize(
    "interval, p_value, n, better, expected",
    [
        ((-0.3, -0.1), 0.01, 100, False, "better"),
        ((0.1, 0.3), 0.01, 100, False, "worse"),
        ((0.1, 0.3), 0.01, 100, True, "better"),
        ((0.1, 0.3), 0.05, 100, True, "unclear"),
        ((0.1, 0.3), float("nan"), 100, True, "unclear"),
        ((0.1, 0.3), None, 100, True, "unclear"),
        ((-0.1, 0.1), 0.01, 100, True, "unclear"),
        ((0.0, 0.0), 1.0, 100, True, "unclear"),
        ((float("nan"), float("nan")), 0.01, 100, True, "unclear"),
        ((0.1, 0.3), 0.01, 5, True, "few"),
        ((None, None), 0.01, 100, True, "unclear"),
    ],
)
def test_a_change_is_sure_only_when_its_test_its_interval_and_its_items_say_so(interval, p_value, n, better, expected):
    low, high = interval
    change = 0.0 if low is None else (low + high) / 2
    found = {"n": n, "higher_is_better": better, "change": change, "change_ci_low": low, "change_ci_high": high}
    assert findings.tone(found | {"p_adjusted": p_value}) == expected


def test_figures_of_one_suite_are_corrected_together_and_page_and_card_say_how(plan, state):
    texts = ["text-0", "text-1", "text-2"]
    for model in ("base", "adapt"):
        folder = plan.folder / "stages" / f"evaluate-{model}"
        folder.mkdir(parents=True)
        measured = [row(model, task, 1.0, n=8) for task in texts] + [row(model, "alone", 1.0, suite="other", n=8)]
        artifacts.write_json(folder / "stage.json", {"rows": measured})
        items = [
            {"suite": r["suite"], "task": r["task"], "method": "text", "id": str(i), "bytes": 60, "tokens": 20,
             "nll": 50 + i + (model == "adapt") * (1 - 2 * (r["task"] == "text-0" and i < 2))}
            for r in measured for i in range(8)
        ]  # fmt: skip
        (folder / "items.jsonl").write_text("\n".join(map(json.dumps, items)), encoding="utf-8")
    found = {r["task"]: r for r in write_report(plan, state) if r["stage"] == "adapt"}
    # All 8 documents moved alike: 2 of 256 swaps are as far; with two against, 2 · (1 + 8 + 28).
    assert [found[task]["p_value"] for task in found] == pytest.approx([74 / 256, 2 / 256, 2 / 256, 2 / 256])
    assert [found[t]["p_adjusted"] for t in found] == pytest.approx([74 / 256, 6 / 256, 6 / 256, 2 / 256])
    assert findings.tone(found["text-0"]) == "unclear" and findings.tone(found["text-1"]) == "worse"
    assert found["text-1"]["detectable"] >= 0 and "normalised_gain" not in found["text-1"]
    for file in ("report.html", "MODEL_CARD.md"):
        text = (plan.folder / file).read_text(encoding="utf-8")
        assert "permutation test" in text and "Holm" in text


def test_a_second_report_compares_nothing_anew_unless_a_scorer_changed(plan, state, monkeypatch):
    for model, nats in (("base", 50), ("adapt", 40)):
        folder = plan.folder / "stages" / f"evaluate-{model}"
        folder.mkdir(parents=True)
        artifacts.write_json(folder / "stage.json", {"rows": [row(model, "text", 1.0, n=8)]})
        about = {"suite": "held-out", "task": "text", "method": "text", "bytes": 60, "tokens": 20}
        items = [about | {"id": str(i), "nll": nats + i} for i in range(8)]
        (folder / "items.jsonl").write_text("\n".join(map(json.dumps, items)), encoding="utf-8")
    first = write_report(plan, state)
    assert first[-1]["change"] < 0
    compared = []
    monkeypatch.setattr(pairing, "changes", lambda key, before, after: compared.append(key) or {})
    assert write_report(plan, state) == first and not compared
    monkeypatch.setattr(pairing, "values", lambda key, items: {"bits_per_byte": 7.0})
    assert "change" not in write_report(plan, state)[-1] and compared


def test_a_base_model_that_was_not_measured_is_not_compared_with(read, rows):
    alone = [{k: v for k, v in r.items() if not k.startswith("change")} for r in rows if r["stage"] != "base"]
    assert "the base model was not measured on it" in read(rows=alone).text


def test_what_was_not_measured_is_said(read, rows):
    assert "source language (en) was not measured" in read(rows=[r for r in rows if r["language"] != "en"]).text
    assert "was not measured, so" not in read().text


def test_data_flows_add_up_or_the_page_says_that_they_do_not(read, state):
    assert "100 tokens read = 60 + 10 + 30 ✓ the sum agrees" in read().text
    state["stages"][1]["accounting"] = {"tokens": TOKENS | {"read": 101}}
    assert "✗ the sum does not agree" in read(state=state).text
    assert not all(flow.adds_up for counted in flows(state).values() for flow in counted)


def test_certificate_stands_in_words(read):
    text = read().text
    assert "mean KL divergence of 0.001 nats, where 0.01 is allowed" in text
    assert "they take 2.500 bits per byte" in text and "2.250, and the model as it was trained 2.750" in text


# --- harmless and whole -----------------------------------------------------------------------------------------------


def test_page_asks_nothing_of_anyone(read, plan, monkeypatch):
    log(plan, step(1, 3.0), step(2, 2.5))
    monkeypatch.setattr(socket, "socket", lambda *_, **__: pytest.fail("the report touched the network"))
    found = read()
    assert not {"script", "link", "img", "iframe", "object", "embed", "base"} & {tag for tag, _ in found.tags}
    for tag, attributes in found.tags:
        assert "src" not in attributes and "srcset" not in attributes
        outside = [k for k, v in attributes.items() if v and "http" in v.replace("http-equiv", "")]
        assert not outside or (tag == "a" and attributes["href"].startswith("https://huggingface.co/")), (
            tag,
            attributes,
        )
    style = "".join(found.texts) + json.dumps(found.tags)
    assert "@import" not in style and not re.search(r"url\((?!#)", style)


def test_the_card_tells_where_the_text_is_from_as_far_as_the_data_say(plan, state):
    assert "What the data say" not in card.model_card(plan, state, [])
    counts = {"language": {"ita": 3}, "site": {"a_b.it": 2, "c.it": 1, "": 1}}
    state["stages"][1]["accounting"] = ACCOUNTING | {"origins": counts}
    text = card.model_card(plan, state, [])
    of = f"of {ACCOUNTING['documents']['kept']} documents name their"
    assert f"3 {of} language: ita 100.0 %." in text.replace("\\", "")
    assert f"4 {of} site: a_b.it 50.0 %, c.it 25.0 %, others 25.0 %." in text.replace("\\", "")


def test_text_of_corpora_and_models_stays_text(read, plan, state):
    answers(plan, "evaluate-base", {"id": EVIL, "gold": EVIL, "text": f"{EVIL}\n\n{EVIL}", "prediction": EVIL})
    state["stages"][-1].update(status="failed", reason=EVIL)
    state["changes"] = [{"key": EVIL, "before": EVIL, "after": EVIL, "why": EVIL}]
    dropped = {"documents": {"read": 1, "kept": 0, "dropped": {EVIL: 1}}}
    state["stages"][1]["accounting"] = dropped
    plan.warnings, plan.stage("chat").notes = [EVIL], [EVIL]
    found = read(plan=plan, state=state)
    assert "script" not in {tag for tag, _ in found.tags}
    assert found.text.count(EVIL) >= 12
    text = card.model_card(plan, state, [])
    assert "<script" not in re.sub(r"`[^`]*`", "", text)


def test_page_is_small_however_long_the_training_was(read, plan):
    log(plan, *(step(10 * i, 2 + 1 / i) for i in range(1, 5001)))
    assert "loss 3.000 at step 10, 2.000 at step 50000" in read().text
    figure = figures.curves("long", "", figures.read_steps(plan.folder / "events.jsonl")["adapt"])
    assert len(figure) < 40_000


def test_page_of_many_items_stays_under_three_megabytes(plan, state, rows):
    long = [{"id": f"q{i}", "gold": "sì", "text": "parola " * 500, "prediction": None} for i in range(300)]
    answers(plan, "evaluate-base", *long)
    assert len(page(plan, state, rows).encode("utf-8")) < 300_000


def test_same_run_gives_the_same_page(plan, state, rows):
    log(plan, step(1, 3.0), step(2, 2.5))
    assert page(plan, state, rows) == page(plan, state, rows)


def test_page_can_be_read_by_everyone(read, plan, state):
    state["changes"] = [{"key": "seed", "before": None, "after": 2, "why": "--set"}]
    log(plan, step(1, 3.0), step(2, 2.5))
    answers(plan, "evaluate-base", {"id": "q1", "gold": "sì", "text": "no", "prediction": "no"})
    found = read(state=state)
    assert found.all("html")[0]["lang"] == "en"
    assert {"header", "nav", "main", "footer"} <= {tag for tag, _ in found.tags}
    assert len(found.all("table")) == len(found.all("caption"))
    assert all("scope" in th for th in found.all("th"))
    assert all(svg["role"] == "img" and svg["aria-label"] for svg in found.all("svg")) and found.all("svg")
    levels = [int(tag[1]) for tag, _ in found.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    ids = [attributes["id"] for _, attributes in found.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = [a["href"][1:] for a in found.all("a") if a["href"].startswith("#")]
    assert set(links) <= set(ids)


def test_figures_take_the_colours_of_the_page(plan):
    figure = figures.curves("a", 'say "hi" & <go>', [step(1, 3.0), step(2, 2.0)])
    assert "var(--accent)" in figure and not re.search(r"#[0-9a-f]{6}\b", figure)
    assert 'aria-label="say &#34;hi&#34; &amp; &lt;go&gt;"' in figure and "http" not in figure


# --- whatever a run did -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("counts", "said"), [([1], "1 item"), ([1, 1], "1 item"), ([1, 2000], "1 to 2,000 items"), ([8], "8 items")]
)
def test_how_many_items_a_part_has_is_said_in_words(read, rows, counts, said):
    assert findings.items(counts) == said
    limited = [r | {"limited": True, "n": n} for r, n in zip(rows, counts, strict=False)]
    assert f"figures come from {said} each." in " ".join(read(rows=limited).text.split())


def test_a_sample_stands_for_the_set_on_the_hub_or_for_the_whole_and_never_for_itself():
    corpora = registry().corpora
    of_hub = next(one for one in corpora.values() if one.source and one.sample and not one.complete)
    brought = replace(of_hub, source=None)
    said = [
        findings._source(Input(label=one.name, where="sample", ref=CorpusRef(name=one.name), record=one)).stands_for
        for one in (of_hub, brought, replace(of_hub, complete=True))
    ]
    assert said == [f"{of_hub.source.repo_id} ({of_hub.licence})", f"the whole corpus ({of_hub.licence})", ""]


def test_rehearsal_and_parts_are_marked_as_a_sign_of_life(read, plan, state, rows):
    sign = "sign of life and not a measurement"
    assert sign not in read().text
    assert sign in read(rows=[r | {"limited": True} for r in rows]).text
    state["rehearsal"] = True
    state["changes"] = [{"key": "adapt.training.max_steps", "before": 25000, "after": 6, "why": "rehearsal"}]
    text = read(state=state).text
    assert sign in text and "adapt.training.max_steps 25000 6 rehearsal" in text
    body = ModelCard(card.model_card(plan, state, rows)).text.strip()
    assert "Rehearsal" in body.splitlines()[0] and sign in body.splitlines()[0]


def test_page_and_card_of_a_run_that_measured_nothing(read, plan, state):
    assert "Nothing was measured in this run." in read(rows=[]).text
    assert "Nothing was measured" in card.model_card(plan, state, [])


def test_page_of_a_run_without_training(plan, state, rows):
    plan.stages = [s for s in plan.stages if s.kind == "evaluate"]
    state["stages"] = [s for s in state["stages"] if s["kind"] == "evaluate"]
    measured = [r for r in rows if r["stage"] == "base"]
    found = Reader(page(plan, state, measured))
    assert "training" not in {a.get("id") for a in found.all("section")}
    assert card.model_card(plan, state, measured)


def test_failed_stage_is_named_with_its_reason(read, plan, state, rows):
    state["status"] = "failed"
    state["stages"][-1].update(status="failed", reason="the loss became nan", seconds=None, accounting={}, metrics={})
    text = read(state=state, rows=[]).text
    assert f"The run did not finish. {state['stages'][-1]['id']}: the loss became nan" in text
    assert card.model_card(plan, state, rows)


def test_stages_without_steps_or_with_broken_losses_have_no_curve(read, plan):
    log(plan, step(1, float("nan")), {"event": "stage", "stage": "", "id": "chat", "status": "done"})
    with (plan.folder / "events.jsonl").open("a", encoding="utf-8") as events:
        events.write('{"event": "step", "stage": "chat", "st')  # a run was killed here
    assert "Losses of different stages" not in read().text


def test_values_that_are_no_numbers_are_called_so(read, plan, state, rows):
    odd = [r | {"value": float("nan"), "ci_low": float("nan"), "ci_high": float("nan")} for r in rows]
    assert "not a number" in read(rows=odd).text
    assert ModelCard(card.model_card(plan, state, odd)).data.eval_results is None


def test_curve_shows_what_was_trained_last(plan):
    begin = {"event": "stage", "stage": "", "id": "adapt", "status": "running", "digest": "one"}
    log(plan, begin, step(1, 3.0), step(2, 2.5), begin, step(2, 2.4), step(3, 2.2))
    assert [s["loss"] for s in figures.read_steps(plan.folder / "events.jsonl")["adapt"]] == [3.0, 2.4, 2.2]
    log(plan, begin, step(1, 3.0), step(2, 2.5), begin | {"digest": "two"}, step(1, 1.0))
    assert [s["loss"] for s in figures.read_steps(plan.folder / "events.jsonl")["adapt"]] == [1.0]


def test_answers_stand_side_by_side(read, plan):
    item = {"id": "q1", "gold": {"tokens": ["Oreste", "dipinge"], "tags": ["B-PER", "O"]}}
    answers(plan, "evaluate-base", item | {"text": "una\n\n\nriga", "prediction": None})
    answers(plan, "evaluate-adapt", item | {"text": "due", "prediction": item["gold"]})
    text = read().text
    assert "Gold answer: tokens: Oreste dipinge; tags: B-PER O" in text
    assert "base too short to tell its language una riga no answer can be read in it" in text
    assert "adapt too short to tell its language due read as: tokens:" in text and "✓" in text


ENGLISH = "The harbour wakes up long before the city, and the fishermen are already on their way home."
ITALIAN = "Il porto si sveglia molto prima della città, e i pescatori sono già sulla via di casa."


def test_answers_bear_the_language_that_they_are_in(read, plan, rows):
    item = {"id": "q1", "gold": "sì", "prediction": None}
    answers(plan, "evaluate-base", item | {"text": ENGLISH})
    answers(plan, "evaluate-adapt", item | {"text": ITALIAN})
    answers(plan, "evaluate-chat", item | {"text": "12 + 30 = 42; 5 × 7 = 35; 1 + 2 + 3 = 6; 100 − 1 = 99"})
    found = read()
    for said in (f"base in en, not it {ENGLISH}", f"adapt in it {ITALIAN}", "chat too short to tell its language"):
        assert said in found.text
    shown = [a.get("lang") for tag, a in found.tags if tag == "dd" and a.get("class") == "text"]
    assert shown == ["en", "it", "it"]  # a screen reader reads an English answer as English


def test_what_was_taken_for_what_is_counted_for_the_first_and_the_last_model(plan):
    golds, written = ["sì", "sì", "no", "no", "no"], ["sì", "no", "no", None, "forse"]
    before = [{"id": str(i), "gold": gold, "text": "", "prediction": None} for i, gold in enumerate(golds)]
    after = [item | {"prediction": answer} for item, answer in zip(before, written, strict=True)]
    for stage, items in (("base", before), ("adapt", before), ("chat", after)):
        answers(plan, f"evaluate-{stage}", *items)
    first, last = confusions(asked(plan))["quiz"]
    assert (first.model, first.columns, first.counts) == (
        "base",
        ["no", "sì", UNREAD],
        {"no": [0, 0, 3], "sì": [0, 0, 2]},
    )
    assert (last.model, last.columns) == ("chat", ["no", "sì", OTHER, UNREAD])
    assert last.counts == {"no": [1, 0, 1, 1], "sì": [1, 1, 0, 0]}
    assert (first.right, last.right, last.total) == (0, 2, 5)


@pytest.mark.parametrize("golds", [["sì"] * 9, list("abcdef"), [{"a": 1}, {"a": 2}] * 9, [0.5, 1.5] * 9, range(40)])
def test_tasks_without_a_few_classes_have_no_table_of_them(plan, golds):
    items = [{"id": str(i), "gold": gold, "text": "", "prediction": gold} for i, gold in enumerate(golds)]
    answers(plan, "evaluate-base", *items)
    assert confusions(asked(plan)) == {}


# --- what it cost, and what went wrong ----------------------------------------------------------------------------------


def test_energy_is_counted_or_estimated_or_not_known(read, plan, state):
    assert "Energy is not known: no counter of the machine could be read" in read().text
    plan.recipe = Recipe.load(plan.recipe.source, ["compute.watts=3600"])
    done = len(state["stages"])
    estimated = read().text
    assert "Energy is an estimate: time × the 3600 W that the recipe states." in estimated
    assert "5.5 Wh" in estimated and f"{5.5 * done:.1f} Wh" in estimated
    state["stages"][1]["joules"] = {"processors": 3600.0, "gpus": 7200.0}
    counted = read().text
    assert "Energy was counted by the processors and the GPUs, with whatever else ran on them" in counted
    assert (
        counted.count("3.0 Wh") == 2 and "5.5 Wh" not in counted
    )  # the stage and the sum; nothing is guessed beside it


def test_the_sum_of_stages_is_what_they_took(read, state):
    for number, stage in enumerate(state["stages"]):
        stage["seconds"] = 70 if number < 3 else None
    assert state["stages"][1]["id"] == "adapt"  # the only one of these three that learns
    assert "All stages, also those from earlier 4 min 60 " in read(state=state).text


def test_troubles_of_a_run_are_told_on_top(read, plan, state, rows):
    plan.warnings = ["memory is short"]
    state["stages"][0]["metrics"] = {"skipped": {"quiz: no items": 1}}
    state["stages"][2]["metrics"] = {"skipped": {"quiz: no items": 1}}
    begin = {"event": "stage", "stage": "", "id": "adapt", "status": "running"}
    warn = {"event": "warning", "stage": "adapt"}
    digest = next(s["digest"] for s in state["stages"] if s["id"] == "adapt")
    log(
        plan,
        begin | {"digest": "another"},
        warn | {"message": "of another adapt"},
        begin | {"digest": digest},
        begin | {"digest": digest},
        warn | {"message": "checkpoint-10 cannot be used: it was cut short"},
    )
    text = read(state=state, rows=[r | {"value": float("nan")} for r in rows if r["task"] == "quiz"]).text
    first, third = (state["stages"][place]["id"] for place in (0, 2))
    for said in (
        "Warnings memory is short adapt: checkpoint-10 cannot be used: it was cut short.",
        "adapt was started 2 times before it was done",
        f"Not measured: quiz: no items (1 in {first}, {third}).",
        "macro f1 of base on quiz is not a number.",
    ):
        assert said in text
    assert "of another adapt" not in text


def test_figures_come_with_what_they_may_be_compared_with(read, plan, rows):
    plan.recipe = Recipe.load(plan.recipe.source, ["evaluation.max_items=40"])
    measured = [r | WINDOWS for r in rows]
    found = read(rows=measured)
    assert "Bits per byte (L 1,024, S 512): a model read windows" in found.text
    assert "bits per byte (L 1,024, S 512), lower is better" in found.text  # on the figures' axes
    assert "without examples (0 shots), and answers are greedy" in found.text
    assert "At most 40 items of a task were measured" in found.text
    assert f"trained once, with seed {plan.recipe.table.seed}" in found.text
    assert "Italian text (clean-mc4-it) 900 300 3.00" in found.text
    assert "L 1,024" not in read().text  # rows of earlier versions do not say


def test_gain_stands_against_forgetting_with_the_signs_that_are_drawn(plan, rows):
    figure, said = frontier(plan, rows)
    assert said == [
        "adapt: Italian text (clean-mc4-it) −31.0\u00a0% (−31.4 to −30.5\u00a0%), "
        "source-language text (english, en) +3.3\u00a0% (+2.9 to +3.6\u00a0%)"
    ]
    assert all(words in figure for words in ("% fewer bits per byte of Italian text", "% more of source-language text"))
    assert frontier(plan, [r for r in rows if r["language"] != "en"]) is None


def test_names_beside_a_figure_keep_apart_and_in_order():
    heights = figures._apart([0.9, 0.9, 0.9, 0.5, -0.2, -0.2], 0.08)
    assert all(above - below >= 0.08 - 1e-9 for above, below in pairwise(heights))
    assert heights[0] == 0.9 and min(heights) >= 0
    assert figures._apart([0.8, 0.3], 0.08) == [0.8, 0.3]


def test_the_recipe_stands_in_the_page_and_runs_as_it_stands(read, plan, write):
    code = next(text for text in read().texts if "schema = 1" in text)
    assert Recipe.load(write("again.toml", code)).filled() == plan.recipe.filled()


# --- in a browser -----------------------------------------------------------------------------------------------------


def browser_lacks():
    """Why pages cannot be looked at here, or ""; CONTRIBUTING.md says how to get what is needed."""
    modules = os.environ.get("LANGADAPT_NODE_MODULES", "")
    if not modules:
        return "LANGADAPT_NODE_MODULES names no folder with axe-core and puppeteer-core"
    lacking = [m for m in ("axe-core", "puppeteer-core") if not (Path(modules) / m).is_dir()]
    lacking += [] if shutil.which("node") else ["node"]
    lacking += [] if shutil.which("chromium") else ["chromium"]
    return f"not installed: {', '.join(lacking)}" if lacking else ""


def of_everything(plan, state, rows, *, models=2, tasks=2):
    """A plan, a state and rows of a run that shows all that a page can show, with so many more models and tasks."""
    models = [f"adapt-{number}" for number in range(models)]
    many = [
        row(model, f"task-{task}", 0.4 + 0.01 * task, metric="macro_f1", suite="exams", undecoded=2, n=80, **moved)
        for task in range(tasks)
        for model, moved in [("base", {}), *((m, {"change": 0.02, "interval": (0.01, 0.03)}) for m in models)]
    ]
    moved = [(n, sign * 0.01 * n) for n in range(len(models)) for sign in (-1, 1)]
    texts = [
        row(
            models[n],
            task,
            0.8 + change,
            suite="english" if tag == "en" else "held-out",
            language=tag,
            change=change,
            interval=(change - 0.02, change + 0.02),
        )
        for n, change in moved
        for task, tag in [("english", "en") if moved.index((n, change)) % 2 else ("clean-mc4-it", "it")]
    ]
    stage = plan.stage("adapt")
    plan.stages += [replace(stage, id=model) for model in models]
    entry = next(s for s in state["stages"] if s["id"] == "adapt")
    row_found = {
        "items": 9,
        "found": 1,
        "documents": 1,
        "longest": 20,
        "example": {"text": "a b", "item": "q", "document": "d"},
    }
    given = {
        "corpus": "clean-mc4-it",
        "share": 0.5,
        "drawn": 50,
        "documents": 5,
        "tokens": 50,
        "repeated": 1,
        "ran_out": True,
    }
    more = {
        "contamination": {"action": "report", "documents": 1, "evaluations": {"quiz": row_found}},
        "mix": [given, given | {"corpus": "english"}],
    }
    state["stages"] += [entry | {"id": m, "accounting": ACCOUNTING | more, "joules": {"gpus": 1e6}} for m in models]
    state["stages"][-1] |= {"status": "failed", "reason": "the loss became nan"}
    state["changes"] = [{"key": "adapt.training.max_steps", "before": 25000, "after": 6, "why": "--set"}]
    plan.warnings = ["memory is short"]
    for number, model in enumerate(["base", *models]):
        told = ITALIAN if number else ENGLISH
        golds = [{"id": str(i), "gold": "sì" if i % 3 else "no", "text": told, "prediction": "no"} for i in range(30)]
        evaluation = plan.stage("evaluate-base")
        plan.stages += [replace(evaluation, id=f"evaluate-{model}", parent=model)] if number else []
        answers(plan, f"evaluate-{model}", *({"task": f"task-{t}"} | g for t in range(tasks) for g in golds))
    log(plan, *(step(n, 4 - n / 300, stage=m) for m in models for n in range(1, 500)))
    return (
        plan,
        state,
        [r | {"window": 1024, "stride": 512, "bytes": 900, "tokens": 300} for r in [*rows, *texts, *many]],
    )


def test_page_of_many_models_and_tasks_stays_under_three_megabytes(plan, state, rows):
    text = page(*of_everything(plan, state, rows, models=11, tasks=30))
    assert len(text.encode("utf-8")) < 3_000_000
    assert all(f'id="{name}"' in text for name in ("gain", "results", "answers", "confusion", "training", "data"))


@pytest.mark.skipif(bool(browser_lacks()), reason=browser_lacks() or "all is there")
def test_everyone_can_read_the_page_in_a_browser(plan, state, rows):
    file = plan.folder / "report.html"
    file.write_text(page(*of_everything(plan, state, rows)), encoding="utf-8")
    command = ["node", str(Path(__file__).parent / "browser/look.cjs"), shutil.which("chromium"), str(file)]
    environment = os.environ | {"NODE_PATH": os.environ["LANGADAPT_NODE_MODULES"]}
    looked = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=600)
    views = json.loads(looked.stdout)
    assert [view["view"] for view in views] == ["light", "dark", "phone", "phone-dark"]
    for view in views:
        assert view["passes"] > 20, view
        assert not view["violations"] and not view["errors"] and not view["requests"], view
        assert view["beyond"] <= 0, "the page is wider than its window"


# --- the card ---------------------------------------------------------------------------------------------------------


def test_card_metadata_is_what_the_hub_reads(plan, state, rows):
    data = ModelCard(card.model_card(plan, state, rows)).data
    assert data.language == ["it", "en"]
    assert data.license == "unknown"  # nobody knows the licence of a local folder
    assert data.base_model is None and data.datasets == ["gsarti/clean_mc4_it"]
    assert {"langadapt", "cpt", "sft", "merge"} <= set(data.tags) and "rehearsal" not in data.tags
    measured = {(r.metric_type, r.metric_value) for r in data.eval_results}
    assert measured == {(r["metric"], r["value"]) for r in rows if r["stage"] != "base" and r["suite"] != "merge"}


def test_card_metadata_comes_back_from_the_hub_library_as_it_was_written(plan, state, rows):
    """The rules of `ModelCard.validate` that need no network: what is required is there, and nothing is lost."""
    twice = [*rows, row("adapt", "quiz", 0.5, metric="macro_f1", suite="other", limited=True)]
    text = card.model_card(plan, state, twice)
    data = ModelCard(text).data
    index = data.to_dict()["model-index"]
    assert [model["name"] for model in index] == ["trial"]
    for result in index[0]["results"]:
        assert result["task"]["type"] and result["dataset"]["type"] and result["dataset"]["name"]
        assert all(isinstance(m["value"], float) and m["type"] for m in result["metrics"])
    again = ModelCard(f"---\n{data.to_yaml()}\n---\n").data
    assert again.to_dict() == data.to_dict()
    told = {
        (r.dataset_name, r.dataset_config, r.metric_type, r.metric_value, r.metric_args["ci_low"])
        for r in data.eval_results
    }
    measured = [r for r in twice if r["stage"] != "base" and r["suite"] != "merge"]
    assert told == {(r["task"].rpartition("/")[2], r["suite"], r["metric"], r["value"], r["ci_low"]) for r in measured}
    assert sum(r.metric_name.endswith(", of a part") for r in data.eval_results) == 1


def test_card_tells_cost_conditions_and_the_recipe(plan, state, rows):
    state["stages"][1]["joules"] = {"gpus": 7.2e6}
    text = card.model_card(plan, state, [r | WINDOWS for r in rows])
    assert "120 tokens trained on, 2.00 kWh, on a machine. Energy was counted by the GPUs" in text
    assert "Bits per byte (L 1,024, S 512)" in text
    code = re.search(r"```toml\n(.*?)\n```", text, flags=re.DOTALL)[1]
    assert 'base_model = "model"' in code and "/" not in re.search(r'path = "(.*text.*)"', code)[1]


def test_card_carries_the_licence_and_id_of_a_hub_model_along(plan, state, rows):
    known = {"reference": "meta-llama/Llama-2-7b-hf", "kind": "hub", "licence": "llama2", "shape": None}
    plan.base = SimpleNamespace(**known)
    plan.lock["model"] = {"meta-llama/Llama-2-7b-hf@main": "0123456789abcdef"}
    text = card.model_card(plan, state, rows)
    data = ModelCard(text).data
    assert (data.license, data.base_model) == ("llama2", "meta-llama/Llama-2-7b-hf")
    assert "at commit `0123456789abcdef`" in text
    found = Reader(page(plan, state, rows))
    assert "https://huggingface.co/meta-llama/Llama-2-7b-hf" in [a["href"] for a in found.all("a")]


def test_card_tells_nobody_where_files_lie(plan, state, rows):
    text = card.model_card(plan, state, rows)
    assert str(plan.folder.parent) not in text and "`model`" in text


def test_card_tells_the_chain_and_its_measured_limits(plan, state, rows):
    text = card.model_card(plan, state, rows).replace("\xa0", " ")
    assert "1. **adapt** (cpt, qlora), from base: done, 3 steps on 60 tokens of `clean-mc4-it`" in text
    assert "30.0 % of the tokens read were not trained on" in text
    assert "adapt: significantly worse than the base model in 1 of 1 task metrics" in text and "3 of 50 texts" in text
    assert re.search(r"\| clean-mc4-it \(held out\), bits per byte ↓ \| 1,000 \| 0.912 \| 0.630<br>▲ −31.0 %", text)


def test_tables_of_the_card_have_as_many_cells_as_columns(plan, state, rows):
    text = card.model_card(plan, state, rows)
    for table in re.findall(r"(?:^\|.*\|\n)+", text, flags=re.MULTILINE):
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(widths) == 1, table


def test_commands_make_the_run_again(plan, state, write):
    assert findings.commands(plan, state)[-1] == "langadapt run recipe.toml --out again"
    source = str(write("with space.toml", (plan.folder.parent / "recipe.toml").read_text()))
    plan.recipe = Recipe.load(source, ["seed=3", "description=two words"]).rehearse()
    install, run = findings.commands(plan, state)
    assert install == "pip install langadapt==0.1.0 langadapt-italian"
    assert run == f"langadapt run '{source}' --rehearse --set seed=3 --set 'description=two words'"
