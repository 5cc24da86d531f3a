"""docs/parts.md: its Python runs from top to bottom, learns what it says, and is as short as promised."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"


@pytest.mark.skipif(not DOCS.exists(), reason="only in a checkout")
def test_parts():
    text = (DOCS / "parts.md").read_text(encoding="utf-8")
    names: dict = {"__name__": "docs"}
    for number, block in enumerate(re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE), start=1):
        assert len([line for line in block.splitlines() if line.strip()]) <= 25
        exec(compile(block, f"docs/parts.md, block {number}", "exec"), names)
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
    text = (DOCS / "language_models.md").read_text(encoding="utf-8")
    names: dict = {"__name__": "docs"}
    for number, block in enumerate(re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE), start=1):
        exec(compile(block, f"docs/language_models.md, block {number}", "exec"), names)
    assert len(capsys.readouterr().out) == 201
    history = names["model"].history_
    assert history[-1]["val_loss"] < history[0]["val_loss"]
    assert names["following"][0][0] == "t" and names["nats"] < 3
    assert len(names["best"]) == 3 and len(names["first"]) == 10
    assert names["name"] in {"anna\n", "otto\n", "emma\n", "ida\n", "hannah\n"}
    losses = [record["val_loss"] for record in names["trainer"].history]
    assert losses[-1] < losses[0]
