"""Decontamination: what of the evaluations is found in documents, what is not, and what becomes of it."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import HEAD
from hypothesis import given
from hypothesis import strategies as st

from langadapt import Document, Item, Message, Recipe, RecipeError, Rejected
from langadapt.corpus import contamination
from langadapt.corpus.contamination import Findings, Index, in_words, judge
from langadapt.corpus.preparing import prepared
from langadapt.corpus.questions import Asked, build
from langadapt.corpus.words import Words, grams, runs
from langadapt.plugins import registry
from langadapt.recipe import Decontamination
from langadapt.testing import tiny_model

ASK = "Leggi il testo che segue e di' se l'autore è contento oppure no: rispondi solo con sì o no."
LETTERS = "abcdefghilmnopqrstuvz"


def made_up(seed: int, words: int) -> str:
    """So many words that nobody else writes."""
    random = np.random.default_rng(seed)
    return " ".join("".join(random.choice(list(LETTERS), size=random.integers(3, 9))) for _ in range(words))


def item(name: str, context: str, ask: str = ASK, gold: object = "sì") -> Item:
    return Item(id=name, messages=(Message(role="user", content=ask, context=context),), gold=gold)


def asked(question: Item) -> str:
    return "\n".join(part for m in question.messages for part in (m.content, m.context) if part)


ITEMS = [item(f"test/{n}", made_up(n, 20)) for n in range(30)]
Look = Callable[[str], list[tuple[str, int]]]


def index(folder: Path, items: Iterable[Item | Document], **options: object) -> Path:
    return build([Asked(evaluation="umore", items=items)], Decontamination.model_validate(options), folder)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Index:
    return Index(index(tmp_path_factory.mktemp("index"), ITEMS))


def found(where: Index, text: str) -> list[tuple[str, int]]:
    return [(leak.item, leak.words) for leak in where.leaks(Words.of(text))]


# --- words ------------------------------------------------------------------------------------------------------------


GOLDEN_WORDS = [3068573957981253916, 9212921001976874067, 13795826027196191747]
GOLDEN_GRAMS = [17328281261495397570, 3291298944207546128]


def hashes(text: str) -> list[int]:
    return Words.of(text).hashes.tolist()


def test_hashes_are_the_same_in_every_process_and_on_every_machine() -> None:
    assert hashes("L'acqua, più") == GOLDEN_WORDS
    assert grams(Words.of("uno due tre").hashes, 2).tolist() == GOLDEN_GRAMS


@pytest.mark.parametrize(
    ("written", "plain"),
    [
        ("L’ACQUA – «più» chiara…", "l'acqua più chiara"),
        (unicodedata.normalize("NFD", "perché la città è così"), "perché la città è così"),
        ("conta\u00admi\u200bnazione \ufeffnulla", "contaminazione nulla"),
        ("ﬁne ｕｎｏ ²", "fine uno 2"),
        ("İSTANBUL Işık", "istanbul işık"),
        ("كِتَابٌ", "كتاب"),
        ("riga\r\nuna\ttab\u00a0due", "riga una tab due"),
    ],
)
def test_writing_does_not_hide_words(written: str, plain: str) -> None:
    assert hashes(written) == hashes(plain)


def test_scripts_without_blanks_have_a_word_in_every_character() -> None:
    assert len(Words.of("日本語 です, ok")) == 6
    assert len(Words.of("สวัสดี")) == 4, "vowels above and below belong to their letter"


@given(st.text(), st.text())
def test_texts_apart_have_the_words_of_the_texts_one_after_the_other(left: str, right: str) -> None:
    assert hashes(f"{left}\n{right}") == hashes(left) + hashes(right)


@given(st.text(alphabet="ab'. \n\u0301ßİ日1", max_size=60))
def test_long_texts_are_cut_without_a_trace(text: str) -> None:
    from langadapt.corpus import words

    whole = Words.of(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(words, "PIECE", 7)
        if all(len(part) < 7 for part in text.split()):  # a longer word is cut within
            cut = Words.of(text)
            assert cut.hashes.tolist() == whole.hashes.tolist()
            assert [cut.passage(n, 1) for n in range(len(cut))] == [whole.passage(n, 1) for n in range(len(whole))]


@given(st.lists(st.sampled_from(["a", "b", "ab", "ba"]), max_size=40), st.integers(1, 6))
def test_runs_are_equal_where_their_words_are(words: list[str], length: int) -> None:
    made = grams(Words.of(" ".join(words)).hashes, length).tolist()
    expected = [tuple(words[n : n + length]) for n in range(len(words) - length + 1)]
    assert len(made) == len(expected)
    assert len(set(made)) == len(set(expected))
    assert [made.index(one) for one in made] == [expected.index(one) for one in expected]


def test_a_run_has_the_same_hash_wherever_it_stands_in_a_very_long_text() -> None:
    words = Words.of(" ".join(f"p{n % 977}" for n in range(40_000))).hashes
    made = grams(words, 8)
    assert len(made) == 40_000 - 7
    assert made[5] == made[5 + 977 * 40] == grams(words[5:13], 8)[0]


@given(st.integers(0, 90), st.lists(st.integers(1, 12), min_size=1, max_size=4, unique=True))
def test_every_run_of_a_long_text_comes_once(count: int, lengths: list[int]) -> None:
    from langadapt.corpus import words

    hashes = Words.of(" ".join(f"p{n}" for n in range(count))).hashes
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(words, "_MOST_WORDS", 16)
        made = [(length, place + n) for length, place, found in runs(hashes, lengths) for n in range(len(found))]
    assert sorted(made) == sorted((length, n) for length in lengths for n in range(count - length + 1))


# --- what is found ----------------------------------------------------------------------------------------------------

MARKS = st.sampled_from([" ", "  ", "\n", ", ", " — ", "\u00a0", "… ", " «", "'"])
DISGUISES: list[Callable[[str], str]] = [
    str.upper,
    str.title,
    lambda text: unicodedata.normalize("NFD", text),
    lambda text: unicodedata.normalize("NFKD", text),
    lambda text: text.replace("'", "’"),
    lambda text: "".join(f"\u200b{c}" for c in text),
]


@given(st.integers(0, 29), st.lists(MARKS, min_size=19, max_size=19), st.sampled_from(DISGUISES), st.booleans())
def test_no_way_of_writing_hides_an_item(
    whole: Index, number: int, marks: list[str], disguise: Callable[[str], str], with_question: bool
) -> None:
    words = ITEMS[number].messages[0].context.split()
    text = "".join(word + mark for word, mark in zip(words, [*marks, " "], strict=True))
    text = f"{ASK}\n{text}" if with_question else text
    document = f"{made_up(1000, 40)}\n{disguise(text)} {made_up(1001, 40)}"
    assert found(whole, document) == [(f"test/{number}", 20)]


def test_an_instruction_that_the_questions_share_is_no_item(whole: Index) -> None:
    assert found(whole, f"{ASK}\n{made_up(2000, 30)}") == []
    assert found(whole, ASK) == []


@pytest.mark.parametrize("items", [2, 3, 5, 9])
def test_an_instruction_is_told_from_few_questions_too(tmp_path: Path, items: int) -> None:
    few = Index(index(tmp_path, ITEMS[:items]))
    assert found(few, f"{ASK}\n{made_up(2000, 30)}") == []
    assert found(few, asked(ITEMS[0])) == [("test/0", 20)]


def test_a_label_at_the_start_of_lines_belongs_to_the_instruction(tmp_path: Path) -> None:
    texts = [(made_up(n, 6), made_up(n + 100, 6)) for n in range(20)]
    two = [item(f"test/{n}", f"L'autore si descrive così: {a}\nTesto: {b}") for n, (a, b) in enumerate(texts)]
    where = Index(index(tmp_path, two))
    assert found(where, f"{ASK}\nL'autore si descrive così: {made_up(500, 6)}\nTesto: {made_up(501, 6)}") == []
    assert found(where, f"{texts[3][0]} e poi {texts[3][1]}") == [("test/3", 6)], "both parts, without their labels"
    assert found(where, f"{texts[3][0]} e poi {texts[4][1]}") == []


def test_an_instruction_too_short_for_runs_is_no_item_either(tmp_path: Path) -> None:
    material = {n: made_up(n, 5 if n % 2 else 20) for n in range(6)}
    asked = [item(f"test/{n}", text, ask="Scrivi in italiano quello che segue.") for n, text in material.items()]
    where = Index(index(tmp_path, asked))
    assert found(where, f"Scrivi in italiano quello che segue.\n{made_up(500, 5)}") == []
    assert found(where, f"{made_up(501, 9)} {material[3]} {made_up(502, 9)}") == [("test/3", 5)]
    assert found(where, material[4]) == [("test/4", 20)]


def test_material_that_several_questions_are_about_is_no_instruction(tmp_path: Path) -> None:
    passage = made_up(7, 60)
    questions = [item(f"test/{n}", passage, ask=f"{made_up(n, 9)}?") for n in range(10)]
    where = Index(index(tmp_path, questions))
    assert {name for name, _ in found(where, passage)} == {f"test/{n}" for n in range(10)}
    assert found(where, made_up(4, 9)) == [("test/4", 9)]


def test_the_longest_match_decides_in_a_long_text(tmp_path: Path) -> None:
    text = made_up(1, 100).split()
    where = Index(index(tmp_path, [item("test/1", " ".join(text)), *ITEMS[5:9]]))
    assert found(where, f"x {' '.join(text[30:42])} y") == []
    assert found(where, f"x {' '.join(text[30:43])} y") == [("test/1", 13)]


def test_coverage_decides_in_pieces(tmp_path: Path) -> None:
    text = made_up(1, 40).split()
    where = Index(index(tmp_path, [item("test/1", " ".join(text)), *ITEMS[5:9]]))

    def pieces(count: int) -> str:
        return " ".join(f"{' '.join(text[n * 10 : n * 10 + 9])} x" for n in range(count))

    assert found(where, pieces(3)) == [], "27 of 40 words"
    (leak,) = where.leaks(Words.of(pieces(4)))
    assert (leak.words, leak.coverage) == (9, 36 / 40)


def test_short_questions_are_looked_for_whole(tmp_path: Path) -> None:
    short = ["domani forse pioverà sul mare", "che bella giornata", "no"]
    bare = [
        Item(id=f"test/{n}", messages=(Message(role="user", content=text),), gold="") for n, text in enumerate(short)
    ]
    where = Index(index(tmp_path, [*bare, *ITEMS]))
    assert found(where, "Disse: domani forse, pioverà sul mare! E andò via.") == [("test/0", 5)]
    assert found(where, "domani forse sul mare pioverà") == []
    assert found(where, "Ecco:\nChe bella giornata!\nDavvero.") == [("test/1", 3)]
    assert found(where, "Ah, che bella giornata!") == [], "a few words within a line are anybody's"
    assert found(where, "no, grazie\nforse no") == []


def test_a_few_words_are_no_question_without_their_instruction(tmp_path: Path) -> None:
    where = Index(index(tmp_path, [item("test/short", "No"), *ITEMS]))
    assert found(where, "Vieni?\nNo.\nPeccato.") == []
    assert found(where, f"{ASK}\nNo") == [("test/short", 21)]


def test_answers_are_looked_for_where_they_are_texts(tmp_path: Path) -> None:
    summary = made_up(900, 15)
    summaries = [item(f"test/{n}", made_up(n, 40), gold=summary if n == 3 else "sì") for n in range(9)]
    where = Index(index(tmp_path, summaries))
    assert found(where, f"Insomma, {summary}.") == [("test/3", 15)]
    assert found(where, "sì\nsì") == []


def test_text_that_is_scored_is_looked_for_document_by_document(tmp_path: Path) -> None:
    scored = [Document(id=f"d{n}", text=made_up(n, 200)) for n in range(5)]
    where = Index(index(tmp_path, [*scored, Rejected(reason="empty", where="d9")]))
    part = " ".join(scored[2].text.split()[100:120])
    assert found(where, f"come si legge: {part}") == [("d2", 20)]


def test_no_more_text_is_read_than_is_indexed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from langadapt.corpus import questions

    def scored() -> Iterator[Document]:
        for number in range(3):
            yield Document(id=f"d{number}", text=made_up(number, 30))
        raise AssertionError("a corpus of terabytes would be read to its end")

    monkeypatch.setattr(questions, "MOST_TEXT", 2 * len(made_up(0, 30)) - 50)
    where = Index(index(tmp_path, scored()))
    assert found(where, made_up(1, 30)) == [("d1", 30)]


def test_every_item_of_a_dump_is_found(whole: Index) -> None:
    dump = "\n".join(asked(question) for question in ITEMS)
    assert {name for name, _ in found(whole, dump)} == {question.id for question in ITEMS}


def test_an_evaluation_can_be_left_out(tmp_path: Path) -> None:
    folder = index(tmp_path, ITEMS)
    assert Index(folder, skip=["umore"]).leaks(Words.of(asked(ITEMS[0]))) == []


@given(st.lists(st.sampled_from(["uno", "due", "tre", "quattro"]), min_size=1, max_size=60), st.data())
def test_the_longest_match_is_that_of_a_plain_comparison(
    tmp_path_factory: pytest.TempPathFactory, words: list[str], data: st.DataObject
) -> None:
    """Few different words, so that matches overlap and repeat."""
    question = data.draw(st.lists(st.sampled_from(["uno", "due", "tre", "quattro"]), min_size=8, max_size=30))
    folder = tmp_path_factory.mktemp("index")
    one = item("test/1", " ".join(question), ask="Che cosa?")
    where = Index(index(folder, [one], ngram=3, longest=3, coverage=1.0))
    longest = max(
        n
        for n in range(len(question) + 1)
        if any(words[a : a + n] == question[b : b + n] for a in range(len(words)) for b in range(len(question) - n + 1))
    )
    assert found(where, " ".join(words)) == ([("test/1", longest)] if longest >= 3 else [])


# --- what becomes of a document ---------------------------------------------------------------------------------------

PAGE = f"Una pagina qualunque.\n{ITEMS[2].messages[0].context.upper()}!\nE un'altra riga, che resta."


def test_drop_names_the_evaluation(tmp_path: Path) -> None:
    judged = judge(index(tmp_path, ITEMS))(Document(id="x", text=PAGE))
    assert judged.outcome == "contaminated: umore"
    assert contamination.step(tmp_path)(Document(id="x", text=PAGE)) == "contaminated: umore"


def test_what_holds_nothing_stays_as_it_is(tmp_path: Path) -> None:
    document = Document(id="x", text=made_up(3000, 50))
    judged = judge(index(tmp_path, ITEMS))(document)
    assert judged.outcome is document and judged.found == ""


def test_mask_cuts_lines_out_of_running_text(tmp_path: Path) -> None:
    masked = judge(index(tmp_path, ITEMS, action="mask"))
    judged = masked(Document(id="x", text=PAGE))
    assert judged.outcome == Document(id="x", text="Una pagina qualunque.\nE un'altra riga, che resta.")
    assert json.loads(judged.found)["umore"]["items"] == ["test/2"]
    assert masked(Document(id="x", text=ITEMS[2].messages[0].context)).outcome == "contaminated: umore", (
        "nothing is left"
    )
    dialogue = Document(
        id="x", messages=(Message(role="user", content="Ciao"), Message(role="assistant", content=PAGE))
    )
    assert masked(dialogue).outcome == "contaminated: umore"


@given(st.lists(st.sampled_from(["", "riga \u2028 strana", "a\r", ITEMS[1].messages[0].context]), max_size=8))
def test_mask_cuts_what_matches_and_nothing_else(tmp_path_factory: pytest.TempPathFactory, lines: list[str]) -> None:
    masked = judge(index(tmp_path_factory.mktemp("index"), ITEMS, action="mask"))
    outcome = masked(Document(id="x", text="\n".join(lines))).outcome
    kept = "\n".join(line for line in lines if line != ITEMS[1].messages[0].context)
    if isinstance(outcome, Document):
        assert outcome.text == kept
    else:
        assert not kept.strip()


def test_report_keeps_and_counts(tmp_path: Path) -> None:
    document = Document(id="x", text=PAGE)
    judged = judge(index(tmp_path, ITEMS, action="report"))(document)
    assert judged.outcome is document
    assert json.loads(judged.found)["umore"]["words"] == 20


# --- the table --------------------------------------------------------------------------------------------------------


def test_the_table_counts_items_and_documents_and_shows_the_longest_match(tmp_path: Path) -> None:
    folder = index(tmp_path, [*ITEMS, item("test/none", "")])
    judged, findings = judge(folder), Findings(folder)
    texts = [PAGE, f"x {asked(ITEMS[2])}\n{asked(ITEMS[4])}", made_up(4000, 30), " ".join(asked(ITEMS[5]).split()[:-5])]
    for number, text in enumerate(texts):
        findings.add(f"web.jsonl:{number}", judged(Document(id="x", text=text)).found)
    table = findings.to_json()
    row = table["evaluations"]["umore"]
    assert table["documents"] == row["documents"] == 3
    assert (row["items"], row["found"], row["longest"]) == (31, 3, 20)
    assert row["not_indexed"] == 1, "one of them is nothing but the instruction"
    assert row["example"]["item"] == "test/2" and row["example"]["document"] == "web.jsonl:0"
    assert row["example"]["text"] == ITEMS[2].messages[0].context.upper()
    assert in_words(table)[0] == "decontamination: 3 documents with items of umore (3 of 31): dropped"


def test_much_of_an_evaluation_in_a_corpus_is_worth_a_warning(tmp_path: Path) -> None:
    folder = index(tmp_path, ITEMS)
    judged, findings = judge(folder), Findings(folder)
    for question in ITEMS[:15]:
        findings.add("x", judged(Document(id="x", text=asked(question))).found)
    assert in_words(findings.to_json())[1].startswith("50% of the items of umore are in the corpora")


def test_nothing_found_is_said_too(tmp_path: Path) -> None:
    said = in_words(Findings(index(tmp_path, ITEMS)).to_json())
    assert said == ["decontamination: none of the 30 items of umore is in what was read"]
    assert in_words(Findings(None).to_json()) == []


# --- the recipe and the plan ------------------------------------------------------------------------------------------

RECIPE = (
    HEAD.replace('"someone/model"', '"{model}"')
    + """
{more}
[evaluation]
suites = {suites}
[[stage]]
id = "adapt"
kind = "cpt"
corpus = [{{ path = "{text}", held_out = 0.2 }}]
[stage.training]
max_steps = 2
max_length = 64
per_device_train_batch_size = 1
[data]
"evalita-2023{part}" = "{evalita}{part}"
"""
)
WIC = Path(__file__).parents[1] / "plugins/italian/src/langadapt_italian/samples/evalita-2023/wic-ita"


@pytest.fixture
def recipe(write: Callable[..., Path], model_folder: Path) -> Callable[..., Recipe]:
    """A recipe on a text of which one document holds a question of WiC-ITA."""
    question = next(i for i in registry().evaluations["wic-ita"].items(WIC) if isinstance(i, Item))
    texts = [f"La barca numero {n} torna in porto con {3 * n} casse di pesce azzurro e molto vento." for n in range(60)]
    texts[1] += "\n" + question.messages[0].context
    text = write("text.jsonl", "".join(json.dumps({"text": line}) + "\n" for line in texts))

    def load(more: str = "", suites: str = '["wic-ita"]', part: str = "") -> Recipe:
        chosen = {"more": more, "suites": suites, "part": part}
        filled = RECIPE.format(model=model_folder, text=text, evalita=WIC.parent, **chosen)
        return Recipe.load(write("recipe.toml", filled))

    return load


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ('action = "burn"', "decontamination.action"),
        ("longest = 5", "decontamination.longest: 5 words in a row cannot be told by n-grams of 8"),
        ('against = ["wic-itta"]', 'decontamination.against: no plugin offers the suite or evaluation "wic-itta"'),
        ("coverage = 1.5", "decontamination.coverage"),
        ("n_gram = 8", 'did you mean "ngram"?'),
    ],
)
def test_wrong_words_are_refused_with_their_line(recipe: Callable[..., Recipe], table: str, message: str) -> None:
    with pytest.raises(RecipeError) as refused:
        recipe(f"[decontamination]\n{table}")
    assert message in str(refused.value) and "recipe.toml:7" in str(refused.value)


def digests(recipe: Recipe, folder: Path) -> dict[str, str]:
    return {stage.id: stage.digest for stage in recipe.plan(folder).stages}


def test_every_choice_is_part_of_the_digests(recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    tables = ["", "action = 'mask'", "ngram = 6", "longest = 20", "coverage = 0.5", "enabled = false", "against = []"]
    made = [digests(recipe(f"[decontamination]\n{table}"), tmp_path / "run")["adapt"] for table in tables]
    assert len(set(made)) == len(tables) - 1, "nothing is looked for in both of the last two"
    assert made[-1] == made[-2]
    more = digests(recipe(suites='["wic-ita", "wic-ita-ranking"]'), tmp_path / "run")["adapt"]
    assert more != made[0]
    same = digests(
        recipe("[decontamination]\nagainst = ['wic-ita']", suites='["wic-ita", "wic-ita-ranking"]'), tmp_path
    )
    assert same["adapt"] == made[0], "an evaluation that is asked but not looked for changes nothing in training"


def test_the_plan_says_what_is_not_looked_for(recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    stage = recipe(suites='["wic-ita", "acti-a"]', part="/wic-ita").plan(tmp_path / "run").stage("adapt")
    assert "text that holds items of wic-ita is dropped" in stage.notes
    assert "items are not looked for of evaluations without a copy at hand: acti-a" in stage.notes


def test_text_that_is_trained_on_is_not_compared_with_itself(write: Callable[..., Path], tmp_path: Path) -> None:
    made = HEAD + '[evaluation]\nsuites = ["english"]\n[[stage]]\nid = "a"\nkind = "cpt"\ncorpus = ["replay-en"]\n'
    (input,) = Recipe.load(write("recipe.toml", made)).rehearse().plan(tmp_path / "run").stage("a").inputs
    assert input.preparation.skip == ("english",)
    assert any(not isinstance(document, Rejected) for document in input.documents())


def test_a_run_drops_what_it_measures_on_and_says_so(recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    tiny_model(tmp_path / "model")
    run = recipe().execute(tmp_path / "run")
    stage = next(stage for stage in run.state["stages"] if stage["id"] == "adapt")
    assert stage["accounting"]["documents"]["dropped"] == {"contaminated: wic-ita": 1}
    row = stage["accounting"]["contamination"]["evaluations"]["wic-ita"]
    assert row["found"] == 1 and row["documents"] == 1 and row["example"]["document"].endswith("2")
    page = run.report.read_text(encoding="utf-8")
    assert "1 document with items of an evaluation: dropped" in page
    assert "(1 of 24): dropped" in (tmp_path / "run" / "events.jsonl").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("action = 'report'", "adapt was trained on items of wic-ita, whose figures are flattered by that."),
        ("enabled = false", "Nobody looked whether the training text holds what the model is measured on."),
        ("", ""),
    ],
)
def test_the_card_says_what_speaks_against_the_figures(
    recipe: Callable[..., Recipe], tmp_path: Path, table: str, said: str
) -> None:
    from langadapt.report.findings import limitations

    planned = recipe(f"[decontamination]\n{table}").plan(tmp_path / "run")
    row = {"found": 1}
    found = {"action": planned.recipe.table.decontamination.action, "documents": 1, "evaluations": {"wic-ita": row}}
    accounting = {"mix": [{"corpus": "text"}], "contamination": found}
    state = {"stages": [{"id": "adapt", "kind": "cpt", "accounting": accounting}]}
    assert [line for line in limitations(planned, state, []) if "trained on" in line or "looked" in line] == (
        [said] if said else []
    )


def test_workers_and_the_cache_give_what_this_process_gives(
    recipe: Callable[..., Recipe], write: Callable[..., Path], tmp_path: Path
) -> None:
    lines = [json.dumps({"text": made_up(n, 100) * 160}) + "\n" for n in range(60)]
    write("text.jsonl", (tmp_path / "text.jsonl").read_text(encoding="utf-8") + "".join(lines))
    planned = recipe("[decontamination]\naction = 'report'").plan(tmp_path / "run")
    (input,) = planned.stage("adapt").inputs

    def read(workers: int) -> list[object]:
        return list(prepared(input.source(), workers))

    here = list(replace(input.source(), shared=None).read())
    alone, shared, kept = read(1), read(2), read(2)
    assert alone == shared == kept and len(alone) == len(here) == 120
    assert [json.loads(item.found)["wic-ita"]["words"] for item in kept if item.found] == [9]


@given(st.text(max_size=300))
def test_any_text_can_be_looked_at(whole: Index, text: str) -> None:
    words = Words.of(text)
    assert whole.leaks(words) == []
    assert len(words) == len(words.starts) == len(words.ends) == len(words.lines())
    assert "".join(words.passage(n, 1) for n in range(len(words))).count("\n") == 0
