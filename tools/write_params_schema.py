"""Write params.schema.json, which lets an editor explain, complete and check a params.yaml.

Usage: make schema   (or: python tools/write_params_schema.py)

The file is generated from the declarations in src/firstorder/settings/. Run this after changing one of them; a test
fails otherwise.
"""

from __future__ import annotations

from pathlib import Path

from firstorder import settings
from firstorder.settings import json_schema

PATH = Path(__file__).parents[1] / "params.schema.json"
COMMENT = "Made by `make schema` from src/firstorder/settings/; edits here are lost."


def written() -> str:
    """Return the text that the file should have."""
    return json_schema.text(json_schema.document(settings.Project, "Settings of firstorder (params.yaml)", COMMENT))


if __name__ == "__main__":
    PATH.write_text(written(), encoding="utf-8")
    print(PATH)
