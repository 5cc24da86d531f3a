"""docs/: the Python of its pages runs from top to bottom, learns what it says, and is as short as promised."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
from peers import peer

import rnncore as rc

DOCS = Path(__file__).parents[1] / "docs"


def ran(page: str, longest: float = math.inf, fence: str = "python", section: str = "") -> dict:
    """Run a page's Python, blocks of at most so many lines, from top to bottom; return the names it leaves.

    fence : what stands behind the three ticks: "py" is what wants other packages.
    section : of a page whose sections stand alone, which of them: its heading.
    """
    text = (DOCS / page).read_text(encoding="utf-8")
    names: dict = {"__name__": "docs"}
    if section:
        text = text.split(f"\n## {section}\n")[1].split("\n## ")[0]
        names |= {"np": np, "rc": rc}
    for number, block in enumerate(re.findall(rf"^```{fence}\n(.*?)^```", text, re.DOTALL | re.MULTILINE), start=1):
        assert len([line for line in block.splitlines() if line.strip()]) <= longest
        exec(compile(block, f"docs/{page}, block {number}", "exec"), names)
    return names


@pytest.mark.skipif(not DOCS.exists(), reason="only in a checkout")
def test_parts():
    names = ran("parts.md", longest=25)
    inside = names["np"].arange(names["T"])[:, None] < names["lengths"]
    assert (names["paths"] == names["targets"]["slots"])[inside].mean() > 0.95
    assert (names["intents"] == names["targets"]["intent"]).mean() > 0.9
    assert names["huber"][-1] < names["huber"][0]
    assert names["recall"] < 0.3  # of log 4
    assert names["losses"][-1] < 0.3 * names["losses"][0]
    records = [record["val_loss_slots"] for record in names["trainer"].history]
    assert names["keeper"].best == min(records) < 0.5 * records[0]


@pytest.mark.skipif(not DOCS.exists(), reason="only in a checkout")
def test_language_models(capsys):
    names = ran("language_models.md")
    assert len(capsys.readouterr().out) == 201
    history = names["model"].history_
    assert history[-1]["val_loss"] < history[0]["val_loss"]
    assert names["following"][0][0] == "t" and names["nats"] < 3
    assert len(names["best"]) == 3 and len(names["first"]) == 10
    assert names["name"] in {"anna\n", "otto\n", "emma\n", "ida\n", "hannah\n"}
    losses = [record["val_loss"] for record in names["trainer"].history]
    assert losses[-1] < losses[0]


@pytest.mark.skipif(not DOCS.exists(), reason="only in a checkout")
def test_several_answers():
    names = ran("several_answers.md", longest=25)
    assert names["whole"] > 0.95 and names["of_intents"] > 0.95
    assert names["p"].shape == (100, 2) and (names["both"]["sentence"] == names["intents"][200:]).mean() > 0.95
    last = names["last"]
    assert last["val_score"] == pytest.approx((last["val_score_tags"] + last["val_score_sentence"]) / 2)
    assert min(names["accuracies"].values()) > 0.95
    records = [record["val_loss_most"] for record in names["trainer"].history]
    assert records[-1] < 0.5 * records[0]


@pytest.mark.skipif(not DOCS.exists(), reason="only in a checkout")
def test_reservoirs():
    names = ran("reservoirs.md", longest=25)
    assert names["error"] < 0.25 and names["apart"] < 0.05
    assert names["right"] > 0.9 and names["above"] > 0.9
    assert 50 / 3 < names["remembered"] <= 50


@pytest.mark.skipif(not DOCS.exists(), reason="only in a checkout")
def test_uncertainty(capsys):
    names = ran("uncertainty.md", longest=25)
    assert names["marginals"].shape == (4, len(names["tagger"].classes_)) and 0 < names["sure"] <= 1
    assert len(names["best"]) == 3 and names["best"][0][0] == names["tagger"].predict([names["words"]])[0]
    assert names["surest"] > names["rest"]
    assert names["doubtful"][0][0] < 0.1 and len(names["doubtful"]) == 10
    out = capsys.readouterr().out
    assert (
        " words wrong\nplace   sure  expected" in out
        and "0.8 to 1.0: " in out
        and "catch up on the" in out.splitlines()[-1]
    )


@pytest.mark.skipif(not DOCS.exists(), reason="only in a checkout")
def test_captions():
    names = ran("captions.md", longest=25)
    assert names["said"] == ["a cow moos", "dogs bark"]
    assert names["measured"]["exact"] > 0.6 and names["measured"]["error_rate"] < 0.1
    assert len(names["best"]) == 5 and len(names["three"]) == 3 and names["words"][-1] == "end"
    assert names["weights"].shape == (len(names["words"]), 16)
    requests, _ = names["rc"].datasets.strokes(200, "pairs", random_state=1)
    found = [names["rc"].datasets.told_by(one) for one in names["artist"].predict(requests)]
    assert np.mean([one == other for one, other in zip(found, requests, strict=True)]) > 0.6
    assert names["paper"][0].shape == (3, 16, 16)


@pytest.mark.skipif(not DOCS.exists(), reason="only in a checkout")
def test_tagging():
    names = ran("tagging.md")
    chosen = names["tagger"].chosen_
    assert chosen["hidden_size"] == 32 and chosen["affixes"] == 4 and len(chosen) == 8
    assert names["accurate"].effort == "high" and names["accurate"].cell == "gru"
    assert names["spelled"].score(names["sentences"][400:], names["tags"][400:]) > 0.9


@pytest.mark.skipif(not DOCS.exists(), reason="only in a checkout")
def test_ensembles():
    names = ran("ensembles.md")
    assert names["together"] > max(names["alone"].values())
    assert 0.3 < names["weighed"].weights_[1] < 0.7
    assert len(names["five"].estimators_) == 5 and len(names["snapshots"].estimators_) == 4
    assert names["gain"] > 0
    assert abs(names["net"].predict(names["x"])[-1, 0] - [0.5, 0.3, 0.2]).max() < 0.02
    assert len(names["written"]) == 20 and names["models"].next_symbols("to b", 1)[0][0] == "e"


@pytest.mark.skipif(not DOCS.exists(), reason="only in a checkout")
def test_transcribing():
    pytest.importorskip("matplotlib")
    names = ran("transcribing.md")
    assert names["score"] > 0.9 and names["score"] == pytest.approx(1 - names["rate"])
    right = {name: sum(map(str.__eq__, names[name], names["test_numbers"])) for name in ("found", "beam", "listed")}
    assert right["listed"] >= right["beam"] >= right["found"] - 2 and set(names["listed"]) <= {*names["known"], ""}
    assert len(names["judged"]) == len(names["hoped"]) == 60 and names["log_p"] <= 0
    assert names["strings"] == names["found"] and len(names["stamps"]) == 60
    assert "".join(span.symbol for span in names["spans"]) == names["test_numbers"][0] and names["seconds"] < 0.5
    assert Path(names["picture"]).stat().st_size > 10_000
    assert [len(one) for one in names["some"]] == [2, 2] and len(names["when"]) == 3


@pytest.mark.skipif(not DOCS.exists(), reason="only in a checkout")
def test_sequence_to_sequence():
    names = ran("sequence_to_sequence.md", longest=15)
    assert names["exact"] > 0.95 and names["edits"] < 0.01
    assert names["written"] == ["2014-03-12"] * 2 and names["three"][0][0] == names["best"][0]
    assert names["weights"].shape == (11, 11) and names["wrote"][-1] == "end" and len(names["read"]) == 11
    assert names["loss"] < 0.2 and names["each"].shape[0] == 64
    right = [np.array_equal(one, row[row >= 0]) for one, row in zip(names["outputs"], names["y"], strict=True)]
    assert np.mean(right) > 0.9
    assert [one.tolist() for one in names["names"]] == [[0, 1], [2], [3, 3, 4], [5, 0, 5]]


@pytest.mark.skipif(not DOCS.exists(), reason="only in a checkout")
def test_memories():
    names = ran("memories.md", longest=10)
    patterns, before, after = names["patterns"], *names["energies"]
    assert (names["recalled"] == patterns).mean() > 0.99 and (after < before).all()
    assert names["way"].energies[-1] < names["way"].energies[0] and names["halfway"].shape == (200,)
    assert names["right"]["hebb"] < 0.9 < 0.98 < names["right"]["storkey"] and names["right"]["projection"] > 0.99
    assert (np.sign(names["outputs"]) == patterns).mean() > 0.99 and names["rise"] <= 1e-9
    assert (names["found"] == names["crowd"][:100]).mean() > 0.99
    assert names["second"].tolist() == names["B"] and names["first"].tolist() == names["A"]


@pytest.mark.skipif(not DOCS.exists(), reason="only in a checkout")
def test_family_trees():
    names = ran("family.md", longest=10, section="Recursive networks on trees")
    assert names["deep_accuracy"] > 0.95 and names["said"].tolist() == ["T"] and names["vectors"].shape == (5, 16)
    numbers = {symbol: n for n, symbol in enumerate("DANVP")}
    wanted = [names["rc"].Trees.of([tree], labelled=False).numbered(numbers).labels for tree in names["phrases"]]
    unfolded = [
        names["rc"].Trees.of([tree], labelled=False).numbered({n: n for n in range(5)}) for tree in names["unfolded"]
    ]
    assert [tree.labels.tolist() for tree in unfolded] == [labels.tolist() for labels in wanted]


@pytest.mark.skipif(not DOCS.exists(), reason="only in a checkout")
def test_family_languages():
    names = ran("family.md", longest=10, section="Second-order networks and the automata in them")
    assert names["right"] == 1 and names["states"] == 4 and names["long"] and names["dot"].startswith("digraph")
    names = ran("family.md", longest=10, section="Sequential cascaded networks")
    assert names["weights"] == 18 and names["parity"] == 1 and names["cycle"].tolist() == [True, False]


@pytest.mark.skipif(not DOCS.exists(), reason="only in a checkout")
def test_family_memories():
    names = ran("family.md", longest=10, section="Neural Turing machines")
    assert names["right"] > 0.98 and names["trace"].memory.shape == (17, 32, 8)
    names = ran("family.md", longest=10, section="History compressors")
    assert names["news"] < 0.06 and names["answered"] >= 0.99 and names["alone"] >= 0.99
    names = ran("family.md", longest=10, section="Pushdown automata")
    assert names["deep"] and names["half"].tolist() == [0.5, 0]


@pytest.mark.skipif(not DOCS.exists(), reason="only in a checkout")
def test_search():
    names = ran("search.md", longest=20)
    assert names["found"].stopped == "target" and names["wrong"](names["net"]) == 0
    assert names["near"].value < 0.01


@pytest.mark.skipif(not DOCS.exists(), reason="only in a checkout")
def test_series():
    names = ran("series.md")
    assert names["accuracy"] > 0.85 and names["p"].shape == (50, 2)
    assert names["r2"] > 0.6
    X = names["X"]
    assert len(names["steps"].predict(X[:1])[0]) == len(X[0])
    assert names["keys"].predict(X[:1])[0].shape == X[0].shape
    assert np.mean(names["which"].argmax(axis=1) == np.array([label == "rising" for label in names["y"][150:]])) > 0.85
    assert names["columns"].classes_[1].tolist() == ["long", "short"] and names["length"].shape == (50, 2)
    assert names["player"].predict_proba(names["before"])[0].shape == (40, 88)
    assert np.abs(names["median"] - names["load"][380:390]).mean() < 2
    assert (names["low"] < names["middle"]).all() and (names["middle"] < names["high"]).all()
    assert names["later"].shape == (5,)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.skipif(not DOCS.exists(), reason="only in a checkout")
def test_series_in_other_packages():
    peer("sktime")
    peer("darts")
    names = ran("series.md", fence="py")
    assert names["backtest"]["test_MeanAbsolutePercentageError"].mean() < 0.06 and len(names["backtest"]) == 3
    assert names["intervals"].shape == (3, 2) and (names["intervals"].diff(axis=1).iloc[:, 1] > 0).all()
    assert names["off"] < 8 and names["paths"].all_values().shape == (12, 1, 200)


@pytest.mark.skipif(not DOCS.exists(), reason="only in a checkout")
def test_control():
    names = ran("control.md", longest=25)
    assert names["one_step_error"] < 0.035 and names["free_error"] < 0.08
    assert (
        names["control_error"] < 0.5 * names["feedback_error"] and names["control_error"] < 0.25 * names["open_error"]
    )


@pytest.mark.skipif(not DOCS.exists(), reason="only in a checkout")
def test_small_weights_are_shown_as_they_are():
    names = ran("small_weights.md", longest=25)
    assert len(names["labels"]) == 40 and names["model"].weight_dtype == "int8"


@pytest.mark.skipif(not DOCS.exists(), reason="only in a checkout")
def test_mixed_precision_is_shown_as_it_is(capsys):
    names = ran("mixed_precision.md", longest=25)
    assert capsys.readouterr().out.split() == ["float32", "bfloat16", "mixed_bfloat16"]
    assert names["losses"][-1] < 0.8 * names["losses"][0] and 0 < names["apart"] < 0.05
    assert names["again"].network_.dtype_policy == "mixed_bfloat16"
    assert np.array_equal(names["again"].predict(names["X"]), names["model"].predict(names["X"]))


@pytest.mark.skipif(not DOCS.exists(), reason="only in a checkout")
def test_family_in_time():
    names = ran("family.md", longest=10, section="Continuous time")
    assert names["period"] == pytest.approx(29, rel=0.005) and names["losses"][-1] < 0.05 * names["losses"][0]
    names = ran("family.md", longest=10, section="Clocks and levels of time")
    assert names["clockwork"].theta.size == 2497 and names["errors"][-1] < 0.02 * names["errors"][0]
    assert np.mean(names["wrong"][-50:]) < 0.02
    names = ran("family.md", longest=10, section="Multiple time scales")
    assert names["alone"].max() < 0.02


@pytest.mark.skipif(not DOCS.exists(), reason="only in a checkout")
def test_processes():
    names = ran("processes.md", longest=25)
    assert len(names["alone"].history_) == 3
