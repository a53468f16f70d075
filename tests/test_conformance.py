"""The conformance kit finds each planted fault by the name of its check, and nothing in what is sound."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from conftest import ROOT

from langadapt import hookspecs
from langadapt.errors import UserError
from langadapt.plugins import HOOKS, registry
from langadapt.testing.conformance import Result, all_checks, conform
from langadapt.testing.finding import find

TESTS = Path(__file__).parent
ESPERANTO = ROOT / "examples" / "langadapt-esperanto"

# What is planted in tests/faulty_plugin and tests/faulty_strategies.py: the record, the check that finds it, what is said.
PLANTED = [
    ("Italian", "language-tag", '"Italian" is no BCP-47 tag'),
    ("qab", "language-tag", "its source language is qab itself"),
    ("qac", "language-script", '"Latin" is no ISO 15924 code'),
    ("qad", "language-names", "autonym is empty"),
    ("qae", "language-words-in-order", '"morning" does not stand in'),
    ("qaf", "language-words-in-order", "does not stand in"),
    ("qag", "language-words-in-order", "'' is a word of"),
    ("qah", "language-words-cover", "of the letters of its samples are in words"),
    ("qai", "language-words-in-order", "it raises IndexError"),
    ("qaj", "language-words-cover", " texts have "),
    ("qay", "language-lower", "it gives a list"),
    ("qaz", "language-lower", "something else when it is called again"),
    ("qba", "language-lower", "it changes more than letters"),
    ("qbb", "language-lower", "it leaves capitals in "),
    ("qbc", "language-lower", 'it makes "w" of the small letter v'),
    ("qbd", "language-lower", "it makes w, a letter of the language's own text, of no capital"),
    ("qbe", "language-lower", "it raises IndexError"),
    ("qak", "language-prompts", 'did you mean "chatml"?'),
    ("qal", "language-suites", 'did you mean "faulty"?'),
    ("qam", "language-thresholds", 'there is no filter "fineweb3"; did you mean "fineweb2"?'),
    ("qan", "language-thresholds", "no value for duplicate_lines"),
    ("qao", "language-thresholds", "fineweb2: top_2 = 'a fifth' is no number"),
    ("qdy", "language-thresholds", 'fineweb2: it has no option end_punctation; did you mean "end_punctuation"?'),
    ("qdz", "language-thresholds", "c4-quality: end_marks = 3 is no text"),
    ("qap", "language-phrases", '"And" in function_words is not in lower case'),
    ("qaq", "language-phrases", '"read more" stands in boilerplate 2 times'),
    ("qar", "language-judges", "address gives 'tu'"),
    ("qas", "language-judges", "tell_apart gives 'Neapolitan'"),
    ("qat", "language-replay", 'no plugin offers the corpus "no-such-corpus"'),
    ("qau", "language-replay", 'the evaluation "sound-evaluation" measures on it'),
    ("qav", "language-parallel", "length_ratio of en is 2.0 to 1.0"),
    ("qaw", "language-parallel", "parallel.jsonl:2 has no text in both en and qaw"),
    ("qaw", "language-parallel", "parallel.jsonl:1: the translation is 9.25 times as long"),
    ("No Name", "corpus-name", '"No Name" is no name'),
    ("not-described", "corpus-description", "it has no description"),
    ("no-sentence", "corpus-description", "is not one sentence"),
    ("no-tag", "corpus-language", '"italian" is no BCP-47 tag'),
    ("no-licence", "corpus-licence", "licence is empty"),
    ("sample-without-licence", "corpus-licence", "sample_licence is empty"),
    ("nowhere", "corpus-is-obtainable", "nobody can tell how to get it"),
    ("complete-without-sample", "corpus-is-obtainable", "there is no sample"),
    ("no-layout", "corpus-layout", 'did you mean "alpaca"?'),
    ("lost-sample", "corpus-sample", "lost.jsonl"),
    ("bad-row", "corpus-sample-is-read", "bad.jsonl:2: text is not text"),
    ("no-rows", "corpus-sample-is-read", "there is no document in its sample"),
    ("reads-dicts", "corpus-sample-is-read", "read gives a dict"),
    ("reader-fails", "corpus-sample-is-read", "it raises TypeError"),
    ("same-ids", "corpus-sample-ids", '2 documents have the id "1"'),
    ("twice", "corpus-sample-has-no-duplicates", "2 is the same as 1"),
    ("other-language", "corpus-sample-language", 'declared as "it" and looks like "en"'),
    ("other-script", "corpus-sample-script", "0% of the letters of the sample are Grek"),
    ("no-filter", "corpus-filters", 'did you mean "fineweb-quality"?'),
    ("drops-all", "corpus-filters", "6 nothing is good enough"),
    ("raising-filter", "corpus-filters", "it raises AttributeError: "),
    ("no-thresholds", "corpus-filters", "wrong: filter fineweb2: no value for "),
    ("gives-none", "filter-outcome", "it gives None on an empty text"),
    ("gives-true", "filter-outcome", "it gives True"),
    ("no-reason", "filter-outcome", "it gives an empty reason"),
    ("raises", "filter-outcome", "it raises IndexError: string index out of range on an empty text"),
    ("draws", "filter-repeats", "first and"),
    ("remembers", "filter-repeats", "first and"),
    ("exclaims", "filter-is-idempotent", "a document of"),
    ("counts", "filter-reasons", "are counted apart"),
    ("quotes", "filter-reasons", "quotes the document"),
    ("tells-at-length", "filter-reasons", "has 160 characters"),
    ("renames", "filter-keeps-the-document", "it changes the id"),
    ("marks", "filter-keeps-the-document", "it changes the document itself"),
    ("drops-messages", "filter-keeps-the-document", "it makes 1 messages of 4"),
    ("makes-a-text", "filter-make", "make gives a str and no function"),
    ("changes-options", "filter-make", "make changes the options from {'least': 2} to {'least': 3}"),
    ("no-such-file", "filter-files", '"list" is in files and not in options'),
    ("version-nought", "filter-version", "0 is no version"),
    ("gives-text", "prompt-segments", "it gives a str"),
    ("pads", "prompt-segments", '"pad" is no special token'),
    ("text-and-special", "prompt-segments", "both a text and a special token"),
    ("varies", "prompt-segments", "something else when it is called again"),
    ("looks-ahead", "prompt-prefix", "segment 2 of one question with its answer is"),
    ("one-turn", "prompt-prefix", "it raises ValueError"),
    ("loses-context", "prompt-says-all", "is missing, or out of order, in a question with material"),
    ("loses-system", "prompt-system", "the system prompt that a recipe gives is left out"),
    ("learns-questions", "prompt-loss", "is what the user says, and is learnt"),
    ("learns-no-answers", "prompt-loss", "is an answer and is not learnt"),
    ("learns-half", "prompt-loss", "is an answer and is not learnt, or only in part"),
    ("never-ends", "prompt-end", "nothing ends"),
    ("end-not-learnt", "prompt-end", "is there and is not learnt"),
    ("tagless", "evaluation-language", '"english" is no BCP-47 tag'),
    ("no-corpus", "evaluation-corpus", 'did you mean "sound-corpus"?'),
    ("no-suite", "evaluation-suites", "it is in no suite"),
    ("no-score", "evaluation-method", "generate needs score"),
    ("bare-generation", "evaluation-method", "generate does not use bare"),
    ("text-with-items", "evaluation-method", "bits_per_byte does not use items"),
    ("decodes-choices", "evaluation-method", "choose does not use decode"),
    ("no-items", "evaluation-items", "there is no item in the sample"),
    ("refuses-a-row", "evaluation-items", "numbers:9: no number"),
    ("one-id", "evaluation-ids", '4 items have the id "1"'),
    ("new-ids", "evaluation-ids", "a second reading gives other ids"),
    ("asks-nothing", "evaluation-messages", "0 asks nothing"),
    ("ends-with-an-answer", "evaluation-messages", "0 ends with what the assistant says"),
    ("empty-question", "evaluation-messages", "0 has an empty question"),
    ("gold-is-a-set", "evaluation-gold-is-json", "is not the same after it was written as JSON"),
    ("gold-not-decoded", "evaluation-gold-is-decoded", "gold is 'one', and decode gives 'ONE'"),
    ("second-line", "evaluation-gold-is-decoded", "decode gives 'It is'"),
    ("decode-raises", "evaluation-decodes-any-text", "decode raises IndexError on an empty text"),
    ("decodes-to-a-set", "evaluation-decodes-any-text", "is no JSON value"),
    ("score-raises", "evaluation-scores-any-answers", "score raises ZeroDivisionError"),
    ("other-metric", "evaluation-scores-any-answers", "score gives acc, metrics names accuracy"),
    ("score-is-text", "evaluation-scores-any-answers", "accuracy is 'good'"),
    ("wrong-way", "evaluation-right-answers-score-best", "1 for right answers and 0 for wrong ones, and less is better"),
    ("always-half", "evaluation-right-answers-score-best", "no metric is better for right answers"),
    ("no-number", "evaluation-right-answers-score-best", "accuracy of right answers is not a number"),
    ("odd-signature", "evaluation-signatures", 'there is a signature of "bleu"'),
    ("one-choice", "evaluation-choices", "0 has 1 choices"),
    ("gold-out-of-range", "evaluation-choices", "has 2 choices and gold = 2"),
    ("gold-is-text", "evaluation-choices", "gold = 'yes'"),
    ("same-choice", "evaluation-choices", "has the same choice twice"),
    ("empty-choice", "evaluation-choices", "has an empty choice"),
    ("faulty/lost", "recipe-loads", "lost.toml"),
    ("faulty/misspelt", "recipe-loads", 'misspelt.toml:10: adapt.corpus.0: no plugin offers the corpus "sound-corpse"'),
    ("faulty/misspelt", "recipe-loads", "adapt.prompt: unknown key"),
    ("faulty/needs-nothing", "recipe-requires-the-plugin", "requires does not name faulty-plugin"),
    ("faulty/no-sample", "recipe-can-be-rehearsed", "it has no sample to rehearse with"),
    ("faulty/all-dropped", "recipe-can-be-rehearsed", 'nothing of the corpus "sound-corpus" is left to learn from'),
    ("faulty/all-learnt", "recipe-can-be-rehearsed", 'nothing of the corpus "sound-corpus" is held out'),
    ("faulty/lost-experiment", "experiment-loads", "lost-experiment.toml"),
    ("faulty/misspelt-experiment", "experiment-loads", "unknown key"),
    ("bare-options", "stage-kind-options", "is no subclass of StageOptions"),
    ("makes-adapters", "stage-kind-makes", 'it makes "adapter"'),
    ("heavy-plan", "stage-kind-plans", "planning it imports matplotlib"),
    ("failing-plan", "stage-kind-plans", "planning it fails: RuntimeError: this plan fails"),
    ("drops-one", "translator-keeps-order", "4 texts give 3 translations"),
    ("turns-round", "translator-keeps-order", "come in another order"),
    ("gives-nothing", "translator-keeps-order", "None is no translation"),
    ("no-fingerprint", "translator-fingerprint", "fingerprint gives ''"),
    ("new-fingerprint", "translator-fingerprint", 'first and "'),
    ("dict-options", "translator-options", "is no pydantic model"),
    ("loose-options", "translator-options", "takes keys that it does not know"),
    ("no-problem", "translator-problem", "problem gives None"),
    ("no-batch", "translator-batch", "batch is 0"),
    ("counts-too-few", "peft-strategy-counts", "trainable says 256 and 320 learn"),
    ("nothing-learns", "peft-strategy-prepares", "nothing learns"),
    ("all-learns", "peft-strategy-prepares", "every weight learns"),
    ("no-gradient", "peft-strategy-gradients", "model.spare_norm gets no gradient"),
    ("nan-gradient", "peft-strategy-gradients", "the gradient of model.norm.weight is not finite"),
    ("drifts", "peft-strategy-leaves-the-rest", "lm_head.weight does not learn and has moved"),
    ("forgets", "peft-strategy-is-saved", "standard deviations from those of what was trained"),
    ("words-for-bits", "peft-strategy-weight-bits", "weight_bits gives '16'"),
    ("names-too-few", "peft-strategy-names", "learns, and learning does not name it"),
    ("no-class", "peft-strategy-options", "there is no class peft.tuners.lora.config:LoraConfigg"),
    ("odd-default", "peft-strategy-options", "the default of grid is 'rough'"),
    ("odd-choice", "peft-strategy-options", 'choices names "grid", which is no option'),
    ("gives-a-path", "tokenizer-strategy-adapts", "adapt gives a str"),
    ("loses-specials", "tokenizer-strategy-adapts", "the special token <s> is gone"),
    ("loses-capitals", "tokenizer-strategy-loses-no-text", "becomes"),
    ("another-each-time", "tokenizer-strategy-repeats", "a second call gives another tokenizer"),
    ("says-too-few", "tokenizer-strategy-counts", "tokens says 7"),
    ("dict-tokenizer", "tokenizer-strategy-options", "is no pydantic model"),
    ("too-few-rows", "embedding-initialisation-rows", "the input rows have shape"),
    ("zero-rows", "embedding-initialisation-rows", "an input row is zero"),
    ("nan-rows", "embedding-initialisation-rows", "an input row is not finite"),
    ("two-matrices", "embedding-initialisation-rows", "of a model with one matrix for both it gives other rows"),
    ("random-rows", "embedding-initialisation-repeats", "a second call gives other input rows"),
    ("changes-the-model", "embedding-initialisation-leaves-the-model", "model.embed_tokens.weight has changed"),
    ("a-view", "embedding-initialisation-leaves-the-model", "the rows are a view of the model's matrix"),
    ("no-text", "embedding-initialisation-problem", "problem gives None"),
    ("dict-rows", "embedding-initialisation-options", "is no pydantic model"),
]  # fmt: skip


@contextmanager
def own_path(*folders: Path) -> Iterator[None]:
    """A path of its own, after which everything is as it was: other folders may hold a plugin of the same name."""
    before = set(sys.modules)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [*map(str, folders), *sys.path])
        registry.cache_clear()
        yield
    for name in sys.modules.keys() - before:
        if name.startswith("langadapt_"):
            del sys.modules[name]
    registry.cache_clear()


@cache
def result(plugin: str | Path) -> Result:
    """Everything that the kit finds in a plugin."""
    with own_path(TESTS):
        (subject,) = find(plugin)
        return conform(subject)


def found(plugin: str, check: str, record: str = "") -> str:
    faults = [
        f for f in result(plugin).faults if f.check == check and f.record.endswith(f'"{record}"' if record else "")
    ]
    return "\n".join(map(str, faults))


@pytest.mark.parametrize(("record", "check", "said"), PLANTED, ids=[f"{r} {c}" for r, c, _ in PLANTED])
def test_a_planted_fault_is_found_by_name(record: str, check: str, said: str) -> None:
    strategies = check.split("-")[0] in ("peft", "tokenizer", "embedding")
    assert said in found("faulty_strategies" if strategies else "faulty_plugin", check, record)


@pytest.mark.parametrize("plugin", ["faulty_plugin", "faulty_strategies"])
def test_nothing_is_found_in_records_that_are_sound(plugin: str) -> None:
    faults = [fault for fault in result(plugin).faults if "sound" in fault.record or "qaa" in fault.record]
    assert faults == []


def test_a_fault_says_where_it_is_what_a_right_one_looks_like_and_where_that_is_explained() -> None:
    said = found("faulty_plugin", "corpus-licence", "no-licence").splitlines()
    line = next(
        n
        for n, text in enumerate((TESTS / "faulty_plugin/corpora.py").read_text().splitlines(), 1)
        if '"no-licence"' in text
    )
    assert said[0].endswith(f"faulty_plugin/corpora.py:{line}") and 'of the corpus "no-licence"' in said[0]
    assert said[1:] == [
        "  wrong: licence is empty",
        '  right: licence="CC-BY-SA-4.0", and sample_licence where a sample is bundled',
        "  docs:  docs/plugins.md#langadapt_corpora",
    ]


MADE = {
    "agreement.py": """\
from langadapt import Corpus, Evaluation

PAIRS = Corpus(
    name="qaa-pairs",
    language="qaa",
    licence="",
    description="Pairs.",
    complete=True,
)
AGREEMENT = Evaluation(
    name="qaa-pairs",
    language="qaa",
    description="Pairs",
    corpus="qaa-pairs",
    method="bits_per_byte",
)
def measured(name):
    return Evaluation(name=name, language="qaa", description="", corpus="qaa-pairs", method="bits_per_byte")
ANSWERS = measured(
    "qaa-answers",
)
""",
    "__init__.py": """\
from langadapt import hookimpl
from langadapt_made import agreement

LANGADAPT_CONTRACT = 1
CORPORA = {"qaa-answers": agreement.PAIRS}


@hookimpl
def langadapt_corpora():
    return [agreement.PAIRS]


@hookimpl
def langadapt_evaluations():
    return [agreement.AGREEMENT, agreement.ANSWERS]
""",
}


@pytest.mark.parametrize(
    ("check", "line"),
    [
        ('corpus-licence of the corpus "qaa-pairs"', 4),
        ('evaluation-description of the evaluation "qaa-pairs"', 11),
        ('evaluation-description of the evaluation "qaa-answers"', 20),
    ],
)
def test_a_record_is_found_by_its_kind_where_others_have_its_name(check: str, line: int, tmp_path: Path) -> None:
    (tmp_path / "langadapt_made").mkdir()
    for name, source in MADE.items():
        (tmp_path / "langadapt_made" / name).write_text(source)
    with own_path(tmp_path):
        (subject,) = find("langadapt_made")
        said = "\n".join(map(str, conform(subject).faults))
    assert f"{check}, {tmp_path}/langadapt_made/agreement.py:{line}\n" in said


@pytest.mark.parametrize(
    ("check", "record", "right"),
    [
        ("language-phrases", "qap", 'function_words=("eta", "da", "ez")'),
        ("language-phrases", "qaq", 'boilerplate=("eskubide guztiak erreserbatuta", "irakurri gehiago")'),
        ("language-words-in-order", "qai", "it takes any text, "),
        ("corpus-filters", "no-filter", "names that a plugin or the core offers"),
        ("corpus-filters", "drops-all", "langadapt corpus stats drops-all shows which step drops what"),
        ("corpus-filters", "raising-filter", "a filter takes any document and raises nothing"),
        (
            "corpus-filters",
            "no-thresholds",
            "filters whose options have defaults, or values in the language's thresholds",
        ),
    ],
)
def test_what_is_right_is_about_what_is_wrong(check: str, record: str, right: str) -> None:
    said = found("faulty_plugin", check, record)
    assert f"  right: {right}" in said or f": {right}\n" in said, said


def test_what_a_plugins_function_raises_is_told_with_the_line_that_raised_it() -> None:
    said = found("faulty_plugin", "corpus-sample-is-read", "reader-fails")
    line = next(
        n
        for n, text in enumerate((TESTS / "faulty_plugin/corpora.py").read_text().splitlines(), 1)
        if "reader-fails" in text
    )
    assert f"faulty_plugin/corpora.py:{line}\n" in said


@pytest.mark.parametrize(
    ("plugin", "case", "reason"),
    [
        ("faulty_plugin", "stage-kind-plans needy-kind", "it needs pattern"),
        ("faulty_plugin", "corpus-sample-language sound-corpus", "the detector does not know qaa"),
        ("faulty_strategies", "tokenizer-strategy-adapts needy-tokenizer", "values for file are needed"),
    ],
)
def test_what_cannot_be_checked_is_said_with_the_reason(plugin: str, case: str, reason: str) -> None:
    assert reason in result(plugin).left_out[case]


def test_every_check_is_made_of_something_that_is_planted() -> None:
    planted = {check for _, check, _ in PLANTED} | set(OF_PLUGINS)
    names = [check.name for check in all_checks()]
    of_every_kind = {name for name in names if name.endswith(("-name", "-description", "-version"))}
    assert set(names) - of_every_kind == planted - of_every_kind
    assert len(names) == len(set(names))


def test_every_hook_has_checks_of_its_records() -> None:
    checked = {check.record for check in all_checks()}
    assert checked - {None} == {record for record, _ in HOOKS.values()}


def test_a_language_with_a_dotless_i_that_forgets_its_capitals_is_told_so() -> None:
    """Its own text tells: ı stands there, and no capital becomes it."""
    with own_path():
        (subject,) = find(ROOT / "examples" / "turkish")
        (check,) = (check for check in all_checks() if check.name == "language-lower")
        assert subject.language and list(check.find(subject.language, subject)) == []
        said = list(check.find(replace(subject.language, lower=str.lower), subject))
    assert said == ["it makes ı, a letter of the language's own text, of no capital"]


# --- plugins as a whole ---

CONTRACT = "LANGADAPT_CONTRACT = 1\n"
WAIT = "import time\nuntil = time.process_time() + {seconds}\nwhile time.process_time() < until: pass\n"
HOOK = "@hookimpl\ndef {name}():\n{body}\n"
FILTER = (
    "    yield Filter(name='{name}', description='A step.', make=lambda options, language: lambda document: document)"
)
LOUD = (
    "print('loading the dictionary')\nimport numpy\nfrom langadapt.records import Document\n"
    + WAIT.format(seconds=0.31)
    + HOOK.format(
        name="langadapt_filters", body=textwrap.indent(WAIT.format(seconds=0.11), "    ") + FILTER.format(name="loud")
    )
    + "CALLS = []\n"
    + HOOK.format(
        name="langadapt_prompts",
        body="    CALLS.append(1)\n    yield PromptFormat(name=f'loud-{len(CALLS)}', description='One.', render=list)",
    )
    + "def langadapt_corpora(): return []\n"
)
CONFUSED = CONTRACT + (
    HOOK.format(name="langadapt_corpus", body="    return []")
    + "@hookimpl\ndef langadapt_recipes(folder): return []\n"
    + HOOK.format(name="langadapt_languages", body="    raise KeyError('eu')")
    + HOOK.format(name="langadapt_corpora", body=FILTER.format(name="a-filter"))
    + HOOK.format(
        name="langadapt_filters",
        body="\n".join(FILTER.format(name=name) for name in ("double", "double", "min-length")),
    )
)
SOURCES = {
    "loud": LOUD,
    "confused": CONFUSED,
    "unimportable": CONTRACT + "import no_such_module_at_all\n",
    "unreadable": CONTRACT + "def langadapt_corpora(:\n",
    "misspelt": CONTRACT + "Corpus(name='eu', language='eu', license='CC0-1.0', description='News.')\n",
    "incomplete": CONTRACT + HOOK.format(name="langadapt_corpora", body="    yield Corpus(name='eu')"),
    "tomorrow": "LANGADAPT_CONTRACT = 99\nimport no_such_module_at_all\n",
}
# By check, the plugin that it finds something in, and what it says.
OF_PLUGINS = {
    "entry-point": ("loud", "no installed distribution names loud in an entry point"),
    "imports": ("unimportable", "ModuleNotFoundError: No module named 'no_such_module_at_all' ("),
    "contract": ("tomorrow", "it was written for contract 99, this langadapt ("),
    "requires-langadapt": ("packaged", "the distribution does not require langadapt"),
    "imports-nothing-heavy": ("loud", "it imports numpy in "),
    "imports-quickly": ("loud", "importing it takes "),
    "prints-nothing": ("loud", 'it prints "loading the dictionary"'),
    "hook-names": ("confused", 'there is no hook langadapt_corpus; did you mean "langadapt_corpora"?'),
    "hooks-are-marked": ("loud", "langadapt_corpora has no mark, so nobody calls it"),
    "hooks-take-nothing": ("confused", "langadapt_recipes has the parameter folder"),
    "hooks-answer": ("confused", "langadapt_languages raises KeyError: 'eu'"),
    "hooks-are-quick": ("loud", "langadapt_filters takes "),
    "hook-records": ("confused", "langadapt_corpora gives a Filter where a Corpus is expected"),
    "hooks-repeat": ("loud", "langadapt_prompts gives loud-"),
    "names-are-free": ("confused", 'langadapt_filters gives the filter "double" 2 times'),
    "public-names-alone": ("loud", "imports langadapt.records, which may change without notice"),
}


@pytest.fixture(scope="module")
def plugins(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Result]:
    """The results of the plugins in `SOURCES`, which lie in a folder on the path, and of a folder with a project."""
    folder = tmp_path_factory.mktemp("plugins")
    for name, source in SOURCES.items():
        (folder / f"{name}.py").write_text(f"from langadapt import Corpus, Filter, PromptFormat, hookimpl\n{source}")
    project = folder / "packaged"
    project.mkdir()
    (project / "pyproject.toml").write_text(
        '[project]\nname = "packaged"\ndependencies = ["regex"]\n[project.entry-points.langadapt]\nown = "packaged_module"\n'
    )
    (project / "packaged_module.py").write_text(CONTRACT)

    @cache
    def made(name: str) -> Result:
        with own_path(folder):
            (subject,) = find(project if name == "packaged" else name)
            return conform(subject)

    return made


@pytest.mark.parametrize("check", OF_PLUGINS)
def test_a_fault_of_a_plugin_as_a_whole_is_found_by_name(plugins: Callable[[str], Result], check: str) -> None:
    name, said = OF_PLUGINS[check]
    assert said in "\n".join(str(fault) for fault in plugins(name).faults if fault.check == check)


FIELDS = "Corpus(name=…, language=…, licence=…, description=…), by keyword, and more of its fields as you need them"


@pytest.mark.parametrize(
    ("name", "check", "wrong", "right"),
    [
        (
            "unimportable",
            "imports",
            "ModuleNotFoundError: ",
            "python -c 'import unimportable' works in a fresh environment",
        ),
        ("unreadable", "imports", "SyntaxError: ", "unreadable.py says nothing"),
        ("misspelt", "imports", 'TypeError: Corpus has no field "license"; did you mean "licence"? (', FIELDS),
        ("incomplete", "hooks-answer", "langadapt_corpora raises TypeError: Corpus.__init__() missing 3 ", FIELDS),
        ("confused", "names-are-free", 'langadapt_filters gives the filter "double" 2 times', "each record once, and "),
        (
            "confused",
            "names-are-free",
            'the filter "min-length" is the core\'s',
            "names that begin or end with your lang",
        ),
    ],
)
def test_what_is_right_of_a_plugin_is_about_what_is_wrong(
    plugins: Callable[[str], Result], name: str, check: str, wrong: str, right: str
) -> None:
    (fault,) = (fault for fault in plugins(name).faults if fault.check == check and fault.wrong.startswith(wrong))
    assert right in fault.right


def test_a_plugin_that_takes_a_name_of_the_core_is_told_so(plugins: Callable[[str], Result]) -> None:
    assert 'the filter "min-length" is the core\'s' in "\n".join(map(str, plugins("confused").faults))


def test_a_name_that_another_plugin_offers_is_told_with_that_plugin(tmp_path: Path) -> None:
    for name in ("mine", "theirs"):
        source = f"from langadapt import Filter, hookimpl\n{HOOK}".format(
            name="langadapt_filters", body=FILTER.format(name="shared")
        )
        (tmp_path / f"{name}.py").write_text(CONTRACT + source)
    with own_path(tmp_path):
        find("theirs")
        (subject,) = find("mine")
        (fault,) = (fault for fault in conform(subject).faults if fault.check == "names-are-free")
    assert (
        fault.wrong
        == 'the filter "shared" is offered by theirs (theirs 0) too, so nobody can ask for it; uninstall one of them'
    )


def test_a_plugin_that_cannot_be_imported_has_that_one_fault(plugins: Callable[[str], Result]) -> None:
    assert {fault.check for fault in plugins("unimportable").faults} == {"entry-point", "imports"}
    assert plugins("unimportable").checked < len(all_checks()) / 2, "there is no record to check"


# --- which plugin is meant ---


def test_a_plugin_is_found_by_folder_name_distribution_and_module() -> None:
    with own_path():
        (by_folder,) = find(ESPERANTO)
        assert by_folder.declared and by_folder.plugin.distribution == "langadapt-esperanto"
        for name in ("esperanto", "Langadapt_Esperanto"):
            assert [subject.entry for subject in find(name)] == ["langadapt_esperanto"], name


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("langadapt_italiano", 'did you mean "langadapt_italian"?'),
        (TESTS, "it has no pyproject.toml"),
        (ROOT, "no entry point in the group langadapt"),
    ],
)
def test_what_is_no_plugin_is_refused(target: str | Path, said: str) -> None:
    with own_path(), pytest.raises(UserError) as error:
        find(target)
    assert said in str(error.value)


# --- the command and the class ---


def check_plugin(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "langadapt", "check-plugin", *arguments], capture_output=True, text=True, cwd=TESTS
    )


def test_the_command_has_nothing_to_say_of_the_example() -> None:
    done = check_plugin(str(ESPERANTO), "--json")
    (told,) = json.loads(done.stdout)
    assert (done.returncode, told["plugin"], told["faults"]) == (0, "esperanto", []), done.stderr
    assert told["checked"] > 80


def test_the_command_tells_every_fault_and_ends_with_one(tmp_path: Path) -> None:
    (tmp_path / "quiet.py").write_text("")
    (tmp_path / "pyproject.toml").write_text(
        '[project]\nname = "quiet"\n[project.entry-points.langadapt]\nquiet = "quiet"\n'
    )
    done = check_plugin(str(tmp_path), "--skip", "requires-langadapt")
    assert done.returncode == 1
    assert done.stdout.startswith("contract, ") and "the module has no LANGADAPT_CONTRACT" in done.stdout
    assert "not checked: requires-langadapt: --skip" in done.stdout
    assert done.stdout.endswith("checks, 1 fault\n")


def test_faults_of_a_check_that_are_not_told_are_counted(tmp_path: Path) -> None:
    (tmp_path / "lines.jsonl").write_bytes(b'{"text": "caf\xe9"}\n' * 23)
    (tmp_path / "many.py").write_text(
        "from pathlib import Path\nfrom langadapt import Corpus, hookimpl\nLANGADAPT_CONTRACT = 1\n"
        "LINES = Path(__file__).parent / 'lines.jsonl'\n"
        "@hookimpl\ndef langadapt_corpora():\n    yield Corpus(name='latin-1', language='fr', licence='CC0-1.0', "
        "description='Lines.', sample=LINES, complete=True)\n"
    )
    (tmp_path / "pyproject.toml").write_text(
        '[project]\nname = "many"\ndependencies = ["langadapt>=0.1"]\n[project.entry-points.langadapt]\nmany = "many"\n'
    )
    done = check_plugin(str(tmp_path), "--skip", "corpus-sample-has-no-duplicates")
    told = re.findall(r"(?:wrong: lines.jsonl:(\d)|and (\d+) more)", done.stdout)
    assert told == [("1", ""), ("2", ""), ("3", ""), ("", "20")], done.stdout
    assert done.stdout.endswith("checks, 23 faults\n")
    (found,) = json.loads(check_plugin(str(tmp_path), "--json").stdout)
    assert [fault["more"] for fault in found["faults"]] == [0, 0, 20]


@pytest.mark.parametrize("arguments", [("no-such-plugin",), ("italian", "--skip", "filter-pur")])
def test_the_command_refuses_what_it_does_not_know(arguments: tuple[str, ...]) -> None:
    done = check_plugin(*arguments)
    assert done.returncode == 2 and done.stderr.startswith("langadapt: there is no ") and "Traceback" not in done.stderr


def test_a_class_of_an_authors_makes_a_test_of_every_case(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("LANGADAPT_CONTRACT = 99\n")
    (tmp_path / "test_own.py").write_text(
        "from langadapt.testing import PluginConformance\n\n\n"
        "class TestOwn(PluginConformance):\n    plugin = 'own'\n    leave_out = {'entry-point': 'it is not installed'}\n"
    )
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-v", "-rs", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    lines = [line for line in done.stdout.splitlines() if "test_conforms" in line and "::" in line]
    outcomes = {line.split("[")[1].split("]")[0]: line.split("] ")[1].split()[0] for line in lines if "] " in line}
    assert outcomes["contract"] == "FAILED" and outcomes["imports"] == "PASSED" and outcomes["entry-point"] == "SKIPPED"
    assert "it was written for contract 99" in done.stdout and "it is not installed" in done.stdout
    assert len(outcomes) == sum(check.record is None for check in all_checks())


# --- versions of the contract ---


def test_a_plugin_written_against_the_first_contract_keeps_to_this_one() -> None:
    """It uses every hook, and every field of its records; what is taken away or renamed breaks it."""
    found = result("first_contract")
    assert [str(fault) for fault in found.faults if fault.check != "entry-point"] == []
    assert len(found.plugin.offers) == len(HOOKS)


def test_an_older_contract_is_refused_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hookspecs, "CONTRACT", 3)
    monkeypatch.setattr(hookspecs, "OLDEST", 2)
    with own_path(TESTS):
        (subject,) = find("first_contract")
        (fault,) = (fault for fault in conform(subject).faults if fault.check == "contract")
    assert "it was written for contract 1, this langadapt (" in fault.wrong
    assert "has 3 and takes plugins from 2 on; pip install --upgrade first_contract" in fault.wrong
