"""Write params.schema.json, by which an editor explains, completes and checks a params.yaml.

Usage: make schema   (or: python tools/write_params_schema.py)

It is made from the declarations in src/firstorder/settings/. Run it after one of them has changed; a test tells.
"""

from __future__ import annotations

from pathlib import Path

from firstorder import settings
from firstorder.settings import json_schema

PATH = Path(__file__).parents[1] / "params.schema.json"
NOTE = "Made by `make schema` from src/firstorder/settings/; edits here are lost."


def written() -> str:
    """Return what belongs into the file."""
    return json_schema.text(json_schema.document(settings.Project, "Settings of firstorder (params.yaml)", NOTE))


if __name__ == "__main__":
    PATH.write_text(written(), encoding="utf-8")
    print(PATH)
