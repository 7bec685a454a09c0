"""Our answers against the golden tables, and the tables against the libraries that made them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import native_c

FOLDER = Path(__file__).parent
TABLES = sorted(path.stem for path in FOLDER.glob("*.json"))


def table(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
    return found


@pytest.mark.parametrize(
    "node", table("ucb1_selection")["nodes"], ids=lambda node: f"{len(node['visits'])} children"
)
def test_ucb1_chooses_the_child_that_treequest_chooses(node: dict[str, Any]) -> None:
    found = native_c.mcts.ucb1_selection(
        [node["visits"]], [node["value_sums"]], [sum(node["visits"])], node["exploration"]
    )
    np.testing.assert_array_equal(found["chosen"], [node["chosen"]])


@pytest.mark.oracle
@pytest.mark.parametrize("name", TABLES)
def test_a_table_made_again_is_the_same(name: str) -> None:
    maker = pytest.importorskip(f"tests.oracles.{name}", exc_type=ModuleNotFoundError)
    assert json.loads(json.dumps(maker.make())) == table(name)


def test_every_table_has_its_maker() -> None:
    makers = {path.stem for path in FOLDER.glob("*.py")} - {"__init__", "__main__", "test_tables"}
    assert makers == set(TABLES)
