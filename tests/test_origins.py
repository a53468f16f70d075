"""Where documents are from, as the data say: counted in bounded memory, and told in the model card."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langadapt.corpus import origins
from langadapt.corpus.origins import Origins, site
from langadapt.corpus.preparing import Accounting, Source, clean
from langadapt.corpus.reading import read_documents


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://www.Esempio.it/pagina?x=1", "esempio.it"),
        ("http://esempio.it", "esempio.it"),
        ("http://nome:parola@esempio.it:8080/a", "esempio.it"),
        ("http://esempio.it?x=http://altro.it/", "esempio.it"),
        ("//esempio.it/a", "esempio.it"),
        ("esempio.it/a", ""),
        ("", ""),
    ],
)
def test_the_site_of_an_address(url, host):
    assert site(url) == host


@given(
    st.lists(
        st.fixed_dictionaries(
            {}, optional={kind: st.sampled_from("abcdefgh") for kind in ("language", "licence", "revision", "id")}
        )
    )
)
def test_documents_are_counted_by_what_they_say(given_):
    counted = Origins()
    for origin in given_:
        counted.add(origin)
    expected = {
        kind: Counter(origin[kind] for origin in given_ if kind in origin)
        for kind in ("language", "licence", "revision")
    }
    assert {k: Counter(v) for k, v in counted.to_json().items()} == {k: v for k, v in expected.items() if v}
    assert Origins.from_json(json.loads(json.dumps(counted.to_json()))).to_json() == counted.to_json()


@given(st.lists(st.integers(0, 40), max_size=200))
def test_of_many_sites_the_frequent_ones_stay_and_the_sum_is_right(numbers):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(origins, "_KEPT", 4)
        patch.setattr(origins, "SHOWN", 3)
        counted = Origins()
        for number in (*numbers, *[99] * 300):
            counted.add({"url": f"http://s{number}.it/"})
            assert len(counted.counts["site"]) <= 9
        said = counted.to_json()["site"]
    assert next(iter(said)) == "s99.it" and 280 <= said["s99.it"] <= 300
    assert sum(said.values()) == len(numbers) + 300 and len(said) <= 4


def test_an_account_holds_the_origins_of_what_was_kept(write):
    rows = [
        {"text": f"Il testo numero {n}.", "language": "ita", "url": f"https://{'ab'[n % 2]}.it/{n}"} for n in range(5)
    ]
    path = write("a.jsonl", "".join(json.dumps(row) + "\n" for row in [*rows, rows[0]]))
    account = Accounting()
    assert len(list(clean(Source(label="a", read=lambda: read_documents(str(path))), account))) == 5
    assert account.to_json()["origins"] == {"language": {"ita": 5}, "site": {"a.it": 3, "b.it": 2}}
    assert Accounting.from_json(account.to_json()).to_json() == account.to_json()


def test_data_that_say_nothing_leave_nothing_in_the_account():
    account = Accounting()
    account.keep(10, {})
    assert "origins" not in account.to_json()


def test_a_file_cut_short_is_told_as_soon_as_it_is_noticed(write):
    import gzip

    whole = gzip.compress("".join(json.dumps({"text": f"Testo {n}."}) + "\n" for n in range(50)).encode())
    path = write("a.jsonl.gz", whole[:-9])
    told: list[str] = []
    account = Accounting()
    list(clean(Source(label="web", read=lambda: read_documents(str(path))), account, say=told.append))
    (line,) = told
    assert line.startswith("web: a.jsonl.gz:") and line.endswith(
        "file cut short; what follows in this file is not read"
    )
    assert account.documents.dropped == {"file cut short": 1}
