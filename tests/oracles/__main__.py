"""`python -m tests.oracles`: make every golden table anew, with the libraries installed here."""

import importlib
import json
from pathlib import Path

FOLDER = Path(__file__).parent

for maker in sorted(FOLDER.glob("[!_t]*.py")):
    made = importlib.import_module(f"tests.oracles.{maker.stem}").make()
    target = maker.with_suffix(".json")
    # A row a line, so that a change shows as the rows that it changes.
    target.write_text(json.dumps(made).replace("}, {", "},\n{") + "\n")
    print(f"{target.name}: {made['made_by']}")
