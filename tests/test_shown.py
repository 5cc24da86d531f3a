"""What people look at: tables of errors, sentences with their labels, and the command's options that print them."""

import csv
import html.parser
import io
import json
import sys

import numpy as np
import pytest
from costs import seconds_of
from hypothesis import given
from hypothesis import strategies as st
from peers import peer
from test_cli import QUICK, here, model, one_line, piped, tagged  # noqa: F401

import rnncore as rc
from rnncore.cli import main
from rnncore.data.readers import DataError, read_packed
from rnncore.datasets import news_requests
from rnncore.shown import Error, ErrorTable, ShownSentence, ShownSentences, wrong_words
from rnncore.shown.text import aligned, percent, shortened, token_text, visible

NASTY = ["<b>", "&amp;", '"x"', "a\tb", "a\nb", "=1+1", "日本", "e\u0301", "\x1b[31m", "\u202e", "'", ",", "\ud800"]


@pytest.fixture(scope="module")
def sample():
    return news_requests(300)


@pytest.fixture(scope="module")
def fitted(sample):
    return rc.SequenceTagger(hidden_size=16, max_epochs=3).fit(sample[0][:150], sample[1][:150])


def error(**changes):
    fields = {"sentence": 3, "position": 1, "before": "top", "word": "news", "after": "now", "expected": "B-X"}
    fields |= {"predicted": "O", "probability": 0.75, "expected_probability": 0.25, "known": True}
    return Error(**fields | changes)


class Page(html.parser.HTMLParser):
    """Reads a page back: its text, its tags, and whether each that opens closes."""

    def __init__(self, source):
        super().__init__()
        self.text, self.cells, self.stack, self.styles = "", [], [], []
        self.feed(source)
        self.close()
        assert self.stack == []

    def handle_starttag(self, tag, attributes):
        assert tag in {"div", "p", "table", "thead", "tbody", "tr", "th", "td", "b", "span", "br"}
        self.styles.append((tag, dict(attributes).get("style") or ""))
        self.cells += [""] if tag == "td" else []
        self.stack += [tag] if tag != "br" else []

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, data):
        self.text += data
        if "td" in self.stack:
            self.cells[-1] += data


# -- tables of errors -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{}, {"head": "softmax"}, {"constraints": "bio"}, {"class_weight": "balanced"}])
def test_errors_are_all_wrong_words_and_no_others(sample, settings):
    tagger = rc.SequenceTagger(hidden_size=8, max_epochs=2, **settings).fit(sample[0][:100], sample[1][:100])
    sentences, tags = [[], *sample[0][100:], []], [[], *sample[1][100:], []]
    tags[5] = ["Z" for _ in tags[5]]  # a label that nobody has seen
    predicted, sure = tagger.predict(sentences), tagger.predict_proba(sentences)
    column = {label: n for n, label in enumerate(tagger.classes_)}
    knows = tagger.knows(sentences).tolist()
    known = [[knows.pop(0) for _ in words] for words in sentences]
    expected = [
        Error(
            s,
            t,
            " ".join(words[max(0, t - 2) : t]),
            words[t],
            " ".join(words[t + 1 : t + 3]),
            tags[s][t],
            predicted[s][t],
            float(sure[s][t, column[predicted[s][t]]]),
            float(sure[s][t, column[tags[s][t]]]) if tags[s][t] in column else 0.0,
            known[s][t],
        )
        for s, words in enumerate(sentences)
        for t in range(len(words))
        if tags[s][t] != predicted[s][t]
    ]
    found = tagger.errors(sentences, tags, context=2, order="place")

    def plain(one):
        return one._replace(probability=0, expected_probability=0)

    assert len(found) > 20 and [*map(plain, found)] == [*map(plain, expected)]
    for field in ("probability", "expected_probability"):
        np.testing.assert_allclose(
            [getattr(one, field) for one in found], [getattr(one, field) for one in expected], rtol=1e-4, atol=1e-6
        )
    assert found.n_words == sum(map(len, sentences))
    surest = tagger.errors(sentences, tags, context=2)
    assert surest == found.by_confidence() != found and surest.by_place() == found
    assert (np.diff([one.probability for one in surest]) <= 0).all()
    assert {one.known for one in found} == {True, False}
    assert [list(row) for row in found.counts()] == tagger.evaluate(sentences, tags)["confusions"]
    assert tagger.errors(sentences, predicted) == ErrorTable([]) and len(tagger.errors([[]], [[]])) == 0


def test_an_error_table_is_a_list():
    table = ErrorTable([error(position=t, probability=p) for t, p in enumerate((0.5, 0.9, 0.7))], n_words=9)
    assert len(table) == 3 and table[1].position == 1 and table[-1].position == 2
    assert [one.position for one in table] == [0, 1, 2] and table[1] in table
    assert isinstance(table[:2], ErrorTable) and [one.position for one in table[:2]] == [0, 1]
    assert [one.position for one in table.by_confidence()] == [1, 2, 0]
    assert table[:2] != table and table != [*table] and ErrorTable([error()]) == ErrorTable([error()])
    assert str(table).startswith("3 of 9 words wrong\n") and str(table[:2]).startswith("2 words wrong\n")
    assert str(table[:0]) == "0 words wrong" and table[:0]._repr_html_() == "<div><p>0 words wrong</p></div>"
    assert table[:0].counts() == [] and table[:0].to_json() == "[]\n"


def test_a_table_as_text():
    rows = [
        error(),
        error(sentence=12, before="日本", expected="B-LONGER", known=False),
        error(word="x\ty", known=None),
    ]
    title, *lines = str(ErrorTable(rows)).split("\n")
    assert title == "3 words wrong"
    assert lines == [
        "place   sure  expected         predicted  known  context",
        "  3:1  0.750  B-X       0.250  O          yes    top [news] now",
        " 12:1  0.750  B-LONGER  0.250  O          no     日本 [news] now",
        r"  3:1  0.750  B-X       0.250  O                 top [x\ty] now",
    ]
    many = ErrorTable([error(position=t) for t in range(100)])
    assert len(str(many).splitlines()) == 102 and repr(many).splitlines()[-1] == "… and 80 more"
    assert len(repr(many).splitlines()) == 23
    long = str(ErrorTable([error(before="far " * 40, word="w" * 90, after=" away" * 40, expected="L" * 60)]))
    assert max(map(len, long.splitlines())) < 160 and "  [www" in long and "…" in long


def test_a_table_as_html():
    table = ErrorTable([error(before=one, word=one, after=one, expected=one, predicted=f"{one}!") for one in NASTY])
    page = Page(table._repr_html_())
    cells = np.array(page.cells).reshape(len(NASTY), 7)
    for one, row in zip(NASTY, cells.tolist(), strict=True):
        assert row[2] == visible(one) and row[4] == visible(f"{one}!")
        assert row[6] == f"{visible(one)} {visible(one)} {visible(one)}"
    marked = [style for tag, style in page.styles if tag == "b"]
    assert len(marked) == len(NASTY) and all("underline" in style and "bold" in style for style in marked)
    assert not any("color:" in style.replace("background-color", "") for _, style in page.styles)  # the page's own
    page.text.encode()
    many = ErrorTable([error(position=t) for t in range(1000)])
    assert "… and 940 more" in many._repr_html_() and many._repr_html_().count("<tr>") == 61


def test_tables_as_files(tmp_path):
    table = ErrorTable(
        [error(before=one, word=one, after=one, expected=one) for one in NASTY[:-1]] + [error(known=None)]
    )
    for name, separator in (("e.csv", ","), ("e.tsv", "\t"), ("errors", "\t")):
        table.save(tmp_path / name)
        text = (tmp_path / name).read_bytes().decode()
        assert text == table.to_csv(separator=separator)
        head, *rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
        assert head == list(Error._fields)
        for one, row in zip(table, rows, strict=True):
            assert row == ["" if value is None else str(value) for value in one]
    table.save(tmp_path / "e.json")
    assert [Error(**row) for row in json.loads((tmp_path / "e.json").read_text())] == list(table)
    ErrorTable([error(word="\ud800")]).save(tmp_path / "s.tsv")
    assert r"\ud800" in (tmp_path / "s.tsv").read_text()


def test_formulas_are_words_to_a_spreadsheet():
    table = ErrorTable([error(word=one, after=one) for one in ("=1+1", "+1", "-", "@x", "a=b")])
    rows = [*csv.DictReader(io.StringIO(table.to_csv(for_spreadsheet=True)))]
    assert [row["word"] for row in rows] == ["'=1+1", "'+1", "'-", "'@x", "a=b"] == [row["after"] for row in rows]
    assert {row["probability"] for row in rows} == {"0.75"}
    assert next(csv.DictReader(io.StringIO(table.to_csv())))["word"] == "=1+1"


@pytest.mark.parametrize("separator", ["", ", ", '"', "\n"])
def test_separators_that_divide_nothing(separator):
    with pytest.raises(ValueError, match="separator: expected one character"):
        ErrorTable([error()]).to_csv(separator=separator)


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_tables_as_frames(library):
    module = peer(library)
    table = ErrorTable([error(), error(position=2, known=False)])
    frame = table.to_frame(library)
    assert isinstance(frame, module.DataFrame) and list(frame.columns) == list(Error._fields)
    assert frame["position"].to_list() == [1, 2] and frame["known"].to_list() == [True, False]


def test_frames_without_a_library(monkeypatch):
    table = ErrorTable([error()])
    with pytest.raises(ValueError, match="'pandas' or 'polars', got 'dask'"):
        table.to_frame("dask")
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="pip install pandas"):
        table.to_frame("pandas")
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(ImportError, match="pandas or polars"):
        table.to_frame()


@given(st.lists(st.text(max_size=12), min_size=1, max_size=6))
def test_any_word_can_be_shown(words):
    table = ErrorTable([error(before=one, word=one, after=one, expected=one, predicted=one) for one in words])
    assert len(str(table).splitlines()) == len(words) + 2
    Page(table._repr_html_())
    back = [row[3] for row in csv.reader(io.StringIO(table.to_csv(separator="\t"), newline=""), delimiter="\t")]
    assert back[1:] == words
    labels = ["B-X"] * len(words)
    shown = ShownSentences([ShownSentence(words, labels, [0.5] * len(words), words)], chunks=True)
    assert len(str(shown).split("\n")) == 1
    Page(shown._repr_html_())


# -- sentences --------------------------------------------------------------------------------------------------------


def test_sentences_are_shown(fitted, sample):
    shown = fitted.show(sample[0], y=sample[1], most=20)
    lines = str(shown).split("\n")
    assert len(lines) == 21 and lines[-1] == "… and 280 more"
    wrong = sum(map(list.__ne__, fitted.predict(sample[0][:20]), sample[1][:20]))
    assert wrong and sum("✗" in line for line in lines) == wrong
    page = Page(shown._repr_html_())
    assert page.text.count("✗") == str(shown).count("✗") and "… and 280 more" in page.text
    plain = fitted.show(sample[0][:20])
    assert "✗" not in str(plain) and repr(plain) == str(plain)
    assert str(fitted.show(sentences=iter(sample[0]), most=20)).split("\n")[:20] == str(plain).split("\n")
    for words, line in zip(sample[0], str(plain).split("\n"), strict=False):
        assert [*filter(lambda word: word in words, line.replace("[", "").split())] == words


def test_spans_and_colours():
    words, labels = ["from", "New", "York", "to", "Rome", "now"], ["O", "B-LOC", "I-LOC", "O", "B-LOC", "B-TIME"]
    p = [1.0, 0.9, 0.6, 1.0, 0.2, 0.9]
    shown = ShownSentences([ShownSentence(words, labels, p, [*labels[:2], "O", "O", "B-LOC", "O"])], chunks=True)
    assert str(shown) == "from [New York LOC 60% ✗ York: O] to [Rome LOC 20%] [now TIME 90% ✗ O]"
    page = Page(shown._repr_html_())
    grounds = [style for _, style in page.styles if "hsla" in style]
    hues = [style.split("hsla(")[1].split(",")[0] for style in grounds]
    opacity = [float(style.split("50%,")[1].split(")")[0]) for style in grounds]
    assert len(grounds) == 3 and hues[0] == hues[1] != hues[2] and opacity[1] < opacity[0] < opacity[2] < 0.5
    assert ["outline" in style for style in grounds] == [True, False, True]
    assert sum("wavy" in style for _, style in page.styles) == 2
    assert "LOC 60% ✗ York: O" in page.text and "from" in page.text
    missed = ShownSentence(["in", "Rome"], ["O", "O"], [1.0, 0.55], ["O", "B-LOC"])
    assert str(ShownSentences([missed], chunks=True)) == "in [Rome O 55% ✗ B-LOC]"
    assert str(ShownSentences([ShownSentence(["x"], ["B"], [1.0])], chunks=True)) == "[x B 100%]"


def test_words_with_a_label_each():
    one = ShownSentence(["a", "b"], ["N", 7], [0.999, 0.5], ["N", "N"])
    assert str(ShownSentences([one, one._replace(expected=None)], chunks=False)) == "a/N b/7 ✗ N\na/N b/7"
    page = Page(ShownSentences([one], chunks=False)._repr_html_())
    assert sum("hsla" in style for _, style in page.styles) == 2 and "N >99%" in page.text


def test_shown_words_are_escaped():
    shown = ShownSentences([ShownSentence(NASTY, ["<i>"] * len(NASTY), [0.5] * len(NASTY), NASTY)], chunks=False)
    page = Page(shown._repr_html_())
    for word in NASTY:
        assert visible(word) in page.text
    page.text.encode()


def test_tokens_that_are_no_words():
    dicts = [[{"word": "a", "n": 1.5}, {"word": "b"}], [{"word": "a"}]]
    tags = [["X", "Y"], ["X"]]
    tagger = rc.SequenceTagger(hidden_size=4, max_epochs=2).fit(dicts, tags)
    (first, *_) = tagger.errors(dicts, [["Z", "Z"], ["Z"]], order="place")
    assert (first.word, first.after, first.known) == ("a", "b", None)
    assert str(tagger.show(dicts)).startswith("a/")
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal((3, 5)), rng.standard_normal((1, 5))]
    tagger = rc.SequenceTagger(hidden_size=4, max_epochs=2).fit(arrays, [["X", "Y", "X"], ["Y"]])
    table = tagger.errors(arrays, [["Z", "Z", "Z"], ["Z"]])
    assert len(table) == 4 and table[0].word.endswith("5 numbers]") and table[0].expected_probability == 0
    assert "5 numbers]/" in str(tagger.show(arrays, [["X", "Y", "X"], ["Y"]]))
    ids = [np.array([1, 2, 3]), np.array([2])]
    tagger = rc.SequenceTagger(hidden_size=4, max_epochs=2).fit(ids, [np.array([0, 1, 0]), np.array([1])])
    table = tagger.errors(ids, [np.array([5, 5, 5]), np.array([5])], order="place")
    assert [one.word for one in table] == ["1", "2", "3", "2"] and {one.expected for one in table} == {5}
    assert json.loads(table.to_json())[0]["expected"] == 5 and table.counts()[0][0] == 5


def test_arguments(fitted, sample):
    with pytest.raises(ValueError, match="order"):
        fitted.errors(*sample, order="length")
    with pytest.raises(ValueError, match="context"):
        fitted.errors(*sample, context=-1)
    with pytest.raises(ValueError, match="most"):
        fitted.show(sample[0], most=0)
    with pytest.raises(DataError, match="expected as many"):
        fitted.errors(sample[0], sample[1][:-1])
    with pytest.raises(DataError, match="2 words but 1 tags"):
        fitted.show([["a", "b"]], [["O"]])
    assert str(fitted.show([])) == "" and str(fitted.show([[]])) == ""
    for call in (lambda: rc.SequenceTagger().errors(*sample), lambda: rc.SequenceTagger().show(sample[0])):
        with pytest.raises(ValueError, match="not fitted"):
            call()


def test_blocks_make_no_difference(fitted, sample):
    """Of an evaluation, of errors and of the command's chunks: all are found, with their numbers."""
    sentences, tags = sample[0] * 20, sample[1] * 20  # 6000: more than one block
    table = fitted.errors(sentences, tags, order="place")
    once = fitted.errors(*sample, order="place")
    assert len(table) == 20 * len(once)
    assert [one.sentence for one in table] == [one.sentence + 300 * n for n in range(20) for one in once]
    predicted = fitted.predict(sample[0])
    assert [*once][:3] == wrong_words(fitted, *sample, predicted, 0)[:3]
    result = fitted.evaluate(*sample)
    assert result["total"] - result["correct"] == len(once)
    sure = np.concatenate(fitted.label_probabilities(sample[0], predicted))
    assert result["mean_confidence"] == pytest.approx(sure.mean(), rel=1e-6)
    assert sum(row["count"] for row in result["reliability"]) == result["total"]


def test_text():
    assert [percent(p) for p in (0.0, 1e-9, 0.005, 0.994, 0.9951, 1.0)] == ["0%", "<1%", "<1%", "99%", ">99%", "100%"]
    assert aligned([["", "a"]], "  ") == ["  a"]
    assert (
        shortened("日本語", 4) == "日…" and shortened("日本語", 6) == "日本語" and shortened("e\u0301", 1) == "e\u0301"
    )
    assert visible("a\u200cb") == "a\u200cb" and visible("a\u202e") == r"a\u202e" and visible("\ud800") == r"\ud800"
    assert token_text({"w[0]": "x", "bias": 1}) == "w[0]=x bias=1" and token_text(np.int64(3)) == "3"
    assert token_text({"word": 3, "token": "t"}) == "t" and token_text(np.array([1, 2])) == "[1 2]"


# -- the command ------------------------------------------------------------------------------------------------------


def test_errors_are_printed(model, capsys):  # noqa: F811
    assert main(["evaluate", model, "data.txt", "--errors"]) == 0
    out = capsys.readouterr().out
    table = rc.load(model).errors(*read_packed("data.txt"))
    assert len(table) > 20 and repr(table) in out
    own, other, n = table.counts()[0]
    assert any(line.split() == [own, other, f"{n:,}x"] for line in out.splitlines())
    assert "confidence 0." in out and "calibration error 0." in out
    assert main(["evaluate", model, "data.txt"]) == 0
    without = capsys.readouterr().out
    assert out.split("speed")[0] == without.split("speed")[0] and "place" not in without
    assert main(["evaluate", model, "data.txt", "--errors", "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["e.tsv", "e.csv", "e.json", "e"])
def test_errors_are_written(here, model, capsys, name):  # noqa: F811
    assert main(["evaluate", model, "data.txt", "--errors", name, "--report", "r.json"]) == 0
    assert "place" not in capsys.readouterr().out
    table = rc.load(model).errors(*read_packed("data.txt"))
    table.save("own" + name[1:])
    found, own = (here / name).read_text(), (here / ("own" + name[1:])).read_text()
    assert len(found) == len(own) and found.splitlines()[:1] == own.splitlines()[:1]
    evaluation = json.loads((here / "r.json").read_text())["evaluation"]
    assert 0 < evaluation["mean_confidence"] <= 1 and 0 <= evaluation["calibration_error"] <= 1
    assert evaluation["reliability"][0]["from"] == 0


def test_errors_that_cannot_be_written(here, model, capsys):  # noqa: F811
    (here / "folder").mkdir()
    assert main(["evaluate", model, "data.txt", "--errors", "folder"]) == 2
    one_line(capsys, "folder is a folder")
    assert main(["evaluate", model, "data.txt", "--errors", "nowhere/e.tsv"]) == 2
    one_line(capsys, "no folder")
    rc.LanguageModel(hidden_size=4, max_epochs=1).fit("abc " * 50).save("lm")
    assert main(["evaluate", "lm", "data.txt", "--errors"]) == 2
    one_line(capsys, "--errors needs probabilities of labels", "this model: LanguageModel")


def test_predict_with_doubts(here, model, capsys, monkeypatch):  # noqa: F811
    tagger = rc.load(model)
    words = ["top", "news", "from", "kenya"]
    (here / "words").write_text("\n".join([*words, "", "hello", ""]))
    labels = tagger.predict([words, ["hello"]])
    sure = tagger.label_probabilities([words, ["hello"]], labels)
    expected = [
        *(f"{w}\t{label}\t{p:.4f}" for w, label, p in zip(words, labels[0], sure[0], strict=True)),
        "",
        f"hello\t{labels[1][0]}\t{sure[1][0]:.4f}",
    ]
    assert main(["predict", model, "words", "--confidence"]) == 0
    assert capsys.readouterr().out.splitlines() == expected
    n = len(tagger.classes_) + 1
    best = tagger.predict_n_best([words, ["hello"]], n)
    assert main(["predict", model, "words", "--n-best", str(n)]) == 0
    lines = capsys.readouterr().out.splitlines()
    for t, word in enumerate(words):
        assert lines[t].split("\t") == [word, *(cell for path, p in best[0] for cell in (path[t], f"{p:.4f}"))]
    assert lines[5].split("\t")[-2:] == ["_", "_"] and len(lines[5].split("\t")) == 1 + 2 * n
    piped(monkeypatch, "x top O\nx news O\n")
    assert main(["predict", model, "--column", "2", "--confidence", "--out", "found"]) == 0
    assert all(len(line.split(" ")) == 5 for line in (here / "found").read_text().splitlines())
    for wrong in (["--n-best", "0"], ["--n-best", "x"], ["--n-best", "2", "--confidence"]):
        assert main(["predict", model, "words", *wrong]) == 2
        one_line(capsys, "n-best")


def test_a_word_without_end_is_cut_at_once():
    assert shortened("日" * 100_000, 5) == "日日…"
    seconds = seconds_of(lambda: shortened("e\u0301" * 100_000, 3, front=True))
    assert shortened("e\u0301" * 100_000, 3, front=True) == "…e\u0301e\u0301"
    assert seconds < 5  # minutes, where the time grows with the square of the length
