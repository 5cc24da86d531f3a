"""Reading tagged files, and turning sequences into numbers."""

import gzip
import io
import subprocess
import sys
import tracemalloc
import unicodedata
from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from peers import peer

from rnncore.data.encoders import (
    FeatureEncoder,
    LabelEncoder,
    Sequences,
    Vocabulary,
    sequence_lengths,
)
from rnncore.data.features import DictFeatures, WordFeatures, encoder_for, encoder_from_json
from rnncore.data.readers import DataError, iter_rows, iter_text, read_packed, read_tagged, read_words
from rnncore.data.tokens import TokenLists, select
from rnncore.data.vectors import read_vectors
from rnncore.train.trainer import minibatches

TWO = ([["top", "news"], ["café"]], [["B-N", "I-N"], ["O"]])


def written(tmp_path, content):
    path = tmp_path / "data.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    "content",
    [
        "top\tB-N\nnews\tI-N\n\ncafé\tO\n",
        "top B-N\nnews   I-N\n\n\n\ncafé O",
        "\n\r\n \ntop\tB-N\r\nnews\tI-N\r\n\t\r\ncafé\tO\r\n\r\n",
        "\ufefftop\tB-N\nnews \t I-N  \n\n café\tO\n",
        gzip.compress("top\tB-N\nnews\tI-N\n\ncafé\tO\n".encode(), mtime=0),
        gzip.compress("\ufefftop\tB-N\r\nnews\tI-N\r\n\r\ncafé\tO\r\n".encode(), mtime=0),
    ],
    ids=["tabs", "blanks", "crlf", "bom", "gzip", "gzip-bom-crlf"],
)
def test_reads_every_form(tmp_path, content):
    path = written(tmp_path, content)
    assert read_tagged(path) == TWO
    assert tuple(map(list, read_packed(path))) == TWO


def test_a_tab_keeps_blanks_within_a_word(tmp_path):
    assert read_tagged(written(tmp_path, "new york\tB-X\n")) == ([["new york"]], [["B-X"]])


def test_a_tab_at_the_end_of_a_line(tmp_path):
    assert read_tagged(written(tmp_path, "a\tO\t\nb\tX\n")) == ([["a", "b"]], [["O", "X"]])


def test_only_ascii_blanks_divide(tmp_path):
    assert read_tagged(written(tmp_path, "a\u00a0b\u2028c O\n")) == ([["a\u00a0b\u2028c"]], [["O"]])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "holds no sentences"),
        ("\n \n\r\n", "holds no sentences"),
        ("a O\n\nb\n", "line 3: expected a word and its label, 'word TAB label', got 1 field: 'b'"),
        ("a O\nb c d\n", "line 2: .* got 3 fields: 'b c d'"),
        ("a\t\tO\n", "line 1: an empty field"),
        ("\tO\n", "line 1: an empty field; expected a word and its label"),
        (b"a O\nb\xff O\n", r"line 2: not UTF-8 text \(byte 0xff at column 2\)"),
        ("a O\n".encode("utf-16"), "line 1: not UTF-8 .*UTF-16"),
        (b"a O\n\0\0\0\n", "line 2: a zero byte"),
        (gzip.compress(b"a O\n" * 9999, mtime=0)[:-20], "damaged or cut off"),
        (gzip.compress(b"a O\n" * 9999, mtime=0)[:-6] + b"123456", "damaged or cut off"),
        (b"\x1f\x8bnot gzip at all", "damaged or cut off"),
        ("x" * 1000 + "\n", "line 1: .* got 1 field: 'x{40}…'"),
    ],
)
def test_complaints_name_the_line(tmp_path, content, message):
    path = written(tmp_path, content)
    for read in (read_tagged, read_packed):
        with pytest.raises(DataError, match=message) as caught:
            read(path)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_complaints_about_paths(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read_tagged(tmp_path / "missing")
    with pytest.raises(DataError, match="is a folder"):
        read_tagged(tmp_path)
    with pytest.raises(DataError, match="null"):
        read_tagged("a\0b")
    with pytest.raises(DataError, match=r"cannot be read \(.*name too long"):
        read_tagged(tmp_path / ("a" * 300))


def test_reads_standard_input(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a O\n\nb X\n")))
    assert read_tagged("-") == ([["a"], ["b"]], [["O"], ["X"]])


def test_words_keep_their_columns(tmp_path):
    assert read_words(written(tmp_path, "a\n\nb X Y\nc\n")) == [[["a"]], [["b", "X", "Y"], ["c"]]]


UNIVERSAL = """\
# newdoc id = weblog-1
# newpar
#sent_id=1
# text = don't you # go
1-2\tdon't\t_\t_\t_\t_\t_\t_\t_\t_
1\tdo\tdo\tAUX\t_\t_\t_\t_\t_\t_
2\tn't\tnot\tPART\t_\t_\t_\t_\t_\t_
2.1\tyou\tyou\tPRON\t_\t_\t_\t_\t_\t_
3\t#\t#\tSYM\t_\t_\t_\t_\t_\t_

# a remark of whatever form
1\t-DOCSTART-\tgo\tVERB\t_\t_\t_\t_\t_\t_
"""


def test_conllu_holds_words_and_no_words(tmp_path):
    path = written(tmp_path, UNIVERSAL)
    expected = ([["do", "n't", "#"], ["-DOCSTART-"]], [["AUX", "PART", "SYM"], ["VERB"]])
    assert read_tagged(path, (1, 3)) == expected
    assert tuple(map(list, read_packed(path, (1, 3)))) == expected
    lines = list(iter_text(path, columns=(1,)))
    assert b"".join(line for line, _ in lines) == UNIVERSAL.encode()
    assert [fields[1] for _, fields in lines if fields] == ["do", "n't", "#", "-DOCSTART-"]
    with pytest.raises(DataError, match=r"line 5: got 10 fields.* --column WORD,LABEL .*2,4"):
        read_tagged(path)


def test_conllu_read_as_its_own_package_reads_it(data):
    conllu = peer("conllu")
    path = data("ewt_dev.conllu")
    with open(path, encoding="utf-8") as file:
        own = [[token for token in row if isinstance(token["id"], int)] for row in conllu.parse_incr(file)]
    sentences, tags = read_tagged(path, (1, 3))
    assert sentences == [[unicodedata.normalize("NFC", token["form"]) for token in row] for row in own]
    assert tags == [[token["upos"] for token in row] for row in own]


@pytest.mark.parametrize(
    ("content", "columns", "words"),
    [
        ("# B-X\n#tag O\n#\tO\n", None, ["#", "#tag", "#"]),
        ("# newpar\n# newdoc id = x\n# newpar id = a b c\n#sent_id=1\n#sent_id = 1\na O\n", None, ["a"]),
        ("#begin document (bc/cctv); part 000\na O\n\n#end document\n", None, ["a"]),
        ("-DOCSTART- O\n\na O\n", None, ["a"]),
        ("-DOCSTART- -X- -X- O\n\n# NN B-NP O\n#x NN B-NP O\n# sent_id = 3\n", (0, 3), ["#", "#x"]),
        ("# SYM X\n#tag=1 SYM X\n#tag=1\n", (0, 2), ["#", "#tag=1"]),
        ("#\tSYM\t=\n", (0, 2), ["#"]),
        ("1990 NN O\n1.5 NN O\n1-2 NN O\n", (0, 2), ["1990", "1.5", "1-2"]),
        ("doc 1 a\ndoc 1-2 b\n", (2, 0), ["a", "b"]),
    ],
)
def test_words_that_look_like_comments_stay_words(tmp_path, content, columns, words):
    assert [*chain.from_iterable(read_tagged(written(tmp_path, content), columns)[0])] == words


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a\tX\tO\n\tX\tO\n", "line 2: an empty field; expected 3 fields as in line 1"),
        ("a\tX\tO\nb\tX\t\n", "line 2: an empty field"),
        ("a X O\n\nb X\n", "line 3: expected 3 fields as in line 1, got 2 fields"),
        ("# id = 1\na X O\nb X Y O\n", "line 3: expected 3 fields as in line 2, got 4 fields"),
        ("a X O\n#remark\n", "line 2: expected 3 fields"),
    ],
)
@pytest.mark.parametrize("columns", [(0, 2), (0, -1), (-3, -1)])
def test_a_row_with_other_fields_shifts_nothing(tmp_path, content, message, columns):
    for read in (read_tagged, read_packed):
        with pytest.raises(DataError, match=message):
            read(written(tmp_path, content), columns)


@pytest.mark.parametrize(("content", "columns"), [("a O\n", (0, 5)), ("a O\nb O\n", (-3, 1)), ("# X\n", (0, 2))])
def test_columns_that_are_not_there(tmp_path, content, columns):
    with pytest.raises(DataError, match=r"line 1: there is no column .*; got 2 fields"):
        read_tagged(written(tmp_path, content), columns)


def test_a_disk_that_fails_while_it_is_read(tmp_path, monkeypatch):
    class Failing(io.BytesIO):
        def read1(self, size=-1):
            if self.tell():
                raise OSError(5, "Input/output error")
            return super().read1(4)

    monkeypatch.setattr("rnncore.data.readers._unzipped", lambda raw: Failing(b"a O\nb O\n"))
    with pytest.raises(DataError, match="after line 1: cannot be read \\(Input/output error\\)"):
        read_tagged(written(tmp_path, "a O\n"))


def test_a_file_of_columns_names_the_option(tmp_path):
    with pytest.raises(DataError, match=r"line 1: .* got 4 fields: .*--column WORD,LABEL"):
        read_tagged(written(tmp_path, "EU NNP B-NP B-ORG\n"))
    with pytest.raises(DataError, match=r"line 1: got 10 fields.*--column"):
        list(iter_rows(written(tmp_path, "\t".join("1abcdefghi") + "\n")))


@pytest.mark.parametrize(
    "content",
    [
        b"top B-N\rnews I-N\r\rcaf\xc3\xa9 O\r",
        b"top B-N\r\r\nnews I-N\r\r\n\r\r\ncaf\xc3\xa9 O\r\r\n",
        b"top B-N\nnews I-N\n\n\xef\xbb\xbfcaf\xc3\xa9 O\n",
        b"top B-N\nnews I-N\n\xef\xbb\xbf\ncafe\xcc\x81 O\n",
    ],
    ids=["cr", "cr-cr-lf", "bom-within", "decomposed"],
)
@pytest.mark.parametrize("chunk", [1, 7, 2**16])
def test_text_is_brought_into_one_form(tmp_path, monkeypatch, content, chunk):
    monkeypatch.setattr("rnncore.data.readers._CHUNK", chunk)
    path = written(tmp_path, content)
    assert read_tagged(path) == TWO
    assert tuple(map(list, read_packed(path))) == TWO


def test_decomposed_words_are_known():
    vocabulary = Vocabulary().fit([["caf\u00e9"]])
    assert vocabulary.encode([["cafe\u0301", "CAFE\u0301"]]).tolist() == [1, 1]
    old = vocabulary.to_json() | {"tokens": ["cafe\u0301"]}
    assert Vocabulary.from_json(old).encode([["cafe\u0301", "caf\u00e9"]]).tolist() == [1, 1]
    words = WordFeatures(Vocabulary(), affixes=2, shapes=True).fit([["caf\u00e9"]])
    assert np.array_equal(words.encode([["caf\u00e9"]]), words.encode([["cafe\u0301"]]))
    dicts = DictFeatures().fit([[{"word": "caf\u00e9"}]])
    assert np.array_equal(dicts.encode([[{"word": "caf\u00e9"}]]), dicts.encode([[{"word": "cafe\u0301"}]]))


def test_a_small_file_of_one_huge_line(tmp_path):
    """Three megabytes that would unpack to three gigabytes: refused after the first of them."""
    path = written(tmp_path, gzip.compress(bytes(30_000_000).replace(b"\0", b"x")))
    tracemalloc.start()
    try:
        for read in (read_packed, read_vectors):
            with pytest.raises(DataError, match="line 1: more than 1,048,576 bytes in one line"):
                read(path)
        assert tracemalloc.get_traced_memory()[1] < 8_000_000
    finally:
        tracemalloc.stop()


@given(st.binary(max_size=60))
def test_any_bytes_give_rows_or_a_complaint(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("fuzz") / "data.txt"
    path.write_bytes(content)
    try:
        rows = list(iter_rows(path))
    except DataError as error:
        assert "\n" not in str(error)
    else:
        assert all(field for sentence in rows for row in sentence for field in row)


def test_vocabulary_orders_by_frequency_and_folds():
    vocabulary = Vocabulary().fit([["b", "A", "a", "10"], ["a", "7", "B", "c"]])
    assert vocabulary.tokens == ["a", "b", "0", "c"]
    assert vocabulary.encode([["C", "1984"], ["never", "A"]]).tolist() == [4, 3, 0, 1]
    strict = Vocabulary(min_count=2, lowercase=False, fold_digits=False).fit([["A", "A", "a", "1"]])
    assert strict.encode([["A", "a", "1"]]).tolist() == [1, 0, 0]


def test_vocabulary_takes_integers():
    vocabulary = Vocabulary().fit([np.array([5, 3]), [5]])
    assert vocabulary.encode([[3, np.int16(5), 4]]).tolist() == [2, 1, 0]


@pytest.mark.parametrize("token", [None, 1.5, ["a"], b"a"])
def test_vocabulary_refuses_other_tokens(token):
    with pytest.raises(DataError, match="strings or integers"):
        Vocabulary().fit([["a"], ["b", token]])
    with pytest.raises(DataError, match=r"strings or integers$"):  # of what can be read once there is no place to name
        Vocabulary().fit([iter(["a", token])])


@pytest.mark.parametrize(
    "encoder", [Vocabulary(2, False, False).fit([["ä", "ä", 3, 3]]), FeatureEncoder().fit([np.zeros((2, 3))])]
)
def test_encoders_come_back_from_json(encoder):
    again = encoder_from_json(encoder.to_json())
    assert type(again) is type(encoder) and again.to_json() == encoder.to_json()


def test_encoder_follows_the_first_sequence():
    assert isinstance(encoder_for([["a"]]), Vocabulary)
    assert isinstance(encoder_for([[1, 2]]), Vocabulary)
    assert isinstance(encoder_for([np.zeros((2, 3))]), FeatureEncoder)
    assert isinstance(encoder_for([[[0.1, 0.2], [0.3, 0.4]]]), FeatureEncoder)
    with pytest.raises(DataError, match="list of float"):
        encoder_for([[0.1, 0.2]])


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.zeros((2, 4)), r"sequence 1: expected a \(T, 3\) array, got shape \(2, 4\)"),
        (np.zeros(3), "got shape"),
        (np.full((2, 3), np.nan), "sequence 1 holds NaN"),
        ([[1, 2, 3], [4, 5]], "sequence 1: expected"),
        ([["a", "b", "c"]], "sequence 1: expected"),
    ],
)
def test_features_are_checked(bad, message):
    encoder = FeatureEncoder().fit([np.zeros((2, 3))])
    with pytest.raises(DataError, match=message):
        encoder.encode([np.zeros((2, 3)), bad])
    assert encoder.knows([np.zeros((2, 3))]) is None


def test_labels_are_sorted_and_checked():
    labels = LabelEncoder().fit([np.array([3, 1]), [2]])
    assert labels.classes == [1, 2, 3] and type(labels.classes[0]) is int
    assert labels.encode([[4, 1]], unknown=-1).tolist() == [-1, 0]
    with pytest.raises(DataError, match="label 4 was not in the training data; known labels: 1, 2, 3"):
        labels.encode([[4]])
    for mixed in ([["a", 1]], [[1.5]], [[None]]):
        with pytest.raises(DataError, match="all strings or all integers"):
            LabelEncoder().fit(mixed)


@pytest.mark.parametrize(
    ("sequences", "message"),
    [
        ("abc", "list of sequences, got str"),
        (3, "list of sequences, got int"),
        (["a b", "c"], "list of lists, got a list of strings"),
        ([["a"], 3], r"sentences\[1\] must be a sequence, got int"),
        ([["a"], {"a": 1}], r"sentences\[1\] must be a sequence, got dict"),
        ({"a": ["b"]}, "list of sequences, got dict"),
    ],
)
def test_sequences_are_checked(sequences, message):
    with pytest.raises(DataError, match=message):
        sequence_lengths(sequences)


def test_sequences_lie_end_to_end():
    data = Sequences(np.array([1, 2, 3, 4, 5, 6]), np.array([0, 1, 0, 1, 0, 1]), np.array([1, 3, 2]))
    at = data.positions(np.array([2, 1]))
    assert at.shape == (3, 2)
    assert data.x[at][:, 1].tolist() == [2, 3, 4] and data.x[at][:2, 0].tolist() == [5, 6]
    part = data.select(np.array([2, 0]))
    assert (part.x.tolist(), part.y.tolist(), part.lengths.tolist()) == ([5, 6, 1], [0, 1, 0], [2, 1])


@given(
    lists=st.lists(st.lists(st.sampled_from(["a", "A", "b", "c7", "c8", "é"]), min_size=1), min_size=1), data=st.data()
)
def test_packed_lists_are_lists(lists, data):
    """Every encoder makes the same of them, to the order of its vocabulary."""
    packed = packed_lists(lists)
    assert list(packed) == lists and len(packed) == len(lists) and packed[-1] == lists[-1]
    rows = data.draw(st.lists(st.integers(0, len(lists) - 1), min_size=1))
    assert list(packed.select(rows)) == select(lists, rows) and list(packed[1:]) == lists[1:]
    own, other = select(lists, rows), select(packed, rows)
    assert other.tokens == list(dict.fromkeys(token for row in own for token in row))
    for make in (
        Vocabulary,
        lambda: WordFeatures(Vocabulary(2), window=1, word_pairs=True, affixes=2, shapes=True),
        LabelEncoder,
    ):
        encoder = make().fit(own)
        again = make().fit(other)
        assert vars(encoder).get("classes") == vars(again).get("classes")
        assert np.array_equal(encoder.encode(own), again.encode(other))
        if make is not LabelEncoder:
            assert encoder.to_json() == again.to_json()
            assert np.array_equal(encoder.encode(lists), encoder.encode(packed))
        else:
            assert np.array_equal(encoder.encode(lists, unknown=-1), encoder.encode(packed, unknown=-1))


def packed_lists(lists):
    ids: dict[str, int] = {}
    flat = [ids.setdefault(token, len(ids)) for row in lists for token in row]
    return TokenLists(list(ids), np.array(flat, dtype=np.int32), np.array([len(row) for row in lists]))


def test_reading_packed_takes_little_memory(tmp_path):
    """Eight bytes for a word and its label, and what growing arrays hold beside; lists of strings take 24 and more."""
    path = written(tmp_path, "top\tB-N\nnews\tI-N\nfrom\tO\nkenya\tO\n\n" * 20_000)
    tracemalloc.start()
    try:
        sentences, tags = read_packed(path)
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    n = 80_000
    assert len(sentences) == len(tags) == 20_000
    assert kept < 16 * n and peak < 32 * n


def test_reading_packed_takes_a_line_apart_once(tmp_path, monkeypatch):
    path = written(tmp_path, "# sent_id = 1\na X O\n\n" * 50 + "b Y O\n")
    taken = []
    monkeypatch.setattr(
        "rnncore.data.readers.split_line", lambda line, *rest: taken.append(line) or line.decode().split()
    )
    sentences, tags = read_packed(path, (0, 1))
    assert (len(sentences), sentences[50], tags[50], tags[0]) == (51, ["b"], ["Y"], ["X"])
    assert taken.count(b"a X O\n") == 2  # once more for the file's form
    monkeypatch.setattr("rnncore.data.readers._LINES_KEPT", 0)
    assert [list(part) for part in read_packed(path, (0, 1))] == [list(sentences), list(tags)]


@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=60),
    batch_size=st.integers(1, 70),
    seed=st.integers(0, 9),
)
def test_minibatches_visit_everything_once(lengths, batch_size, seed):
    batches = list(minibatches(np.array(lengths), batch_size, np.random.default_rng(seed)))
    assert sorted(np.concatenate(batches)) == list(range(len(lengths)))
    assert len(batches) == -(-len(lengths) // batch_size) and max(map(len, batches)) <= batch_size


def test_minibatches_hold_similar_lengths():
    lengths = np.random.default_rng(0).integers(1, 30, size=800)
    spread = [np.ptp(lengths[rows]) for rows in minibatches(lengths, 16, np.random.default_rng(1))]
    assert np.mean(spread) < 8  # about 26 for random batches


def test_the_array_level_stays_light():
    """Neither reading nor generating data, nor files, loads what only estimators and the progress bar need."""
    code = (
        "import sys, rnncore, rnncore.datasets, rnncore.io.files, rnncore.data.readers; rnncore.load; rnncore.Network; "
        "print([name for name in ('sklearn', 'tqdm', 'safetensors', 'pandas') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def test_sequences_of_whole_numbers_are_ids():
    for kind in ("int64", "uint8"):
        data = Sequences.of([np.array([1, 2], kind), np.array([3], kind)], [np.array([0, 1]), np.array([1])])
        assert data.x.dtype == np.int32 and data.x.tolist() == [1, 2, 3]
