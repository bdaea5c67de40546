"""`--set key=value`: the same command with other settings, in a folder of its own, so that no record is touched."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from pathlib import Path

from firstorder import settings
from firstorder.cli.session import Session
from firstorder.cli.verbs import Arguments, argument
from firstorder.errors import UserError
from firstorder.files import replacing

SET = argument(
    "--set",
    dest="overrides",
    action="append",
    default=[],
    metavar="KEY=VALUE",
    help="another value of a setting, for exploring; results go to a folder of their own, explored/...",
)
FOLDER = "explored/{training}/{label}"
HEADING = "# Made by `firstorder ... --set`: {what}. Written again by each such command.\n"


def redirected(arguments: Arguments, *, evaluating: bool) -> Arguments:
    """Return the arguments of the same command in the folder of its overrides; unchanged without overrides.

    It writes the params.yaml of that folder. If an evaluation has overrides of its own, it copies the checkpoint there.
    Raises UserError for what is no setting, a value that does not fit, or a missing checkpoint.
    """
    if not arguments.overrides:
        return arguments
    import yaml

    from firstorder.settings import overrides

    session = Session.of(arguments)
    evaluation = arguments.evaluation if evaluating else None
    given = overrides.parse(arguments.overrides, evaluating)
    training = (
        arguments.training
        if evaluation is None
        else (settings.lookup(session.project.evaluations, evaluation, "evaluation").training)
    )
    found = overrides.explored(session.project, training, evaluation, given)
    root = session.root / FOLDER.format(training=training, label=found.label)
    data_folder = os.path.relpath(session.root / session.project.data_folder, root)
    values = found.values | {"data_folder": data_folder}
    if found.evaluation is not None:
        trained_in = session.root
        if found.trained != overrides.WITHOUT:
            trained_in = session.root / FOLDER.format(training=training, label=found.trained)
        _take_checkpoint(trained_in, root, found.training, arguments, training)
    with replacing(root / "params.yaml") as part:
        heading = HEADING.format(what=" ".join(arguments.overrides).replace("\n", " "))
        part.write_text(heading + yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    print(f"firstorder: with {' '.join(arguments.overrides)} in {root}; no other result is touched", file=sys.stderr)
    changed = {"params": str(root / "params.yaml"), "overrides": [], "training": found.training}
    return argparse.Namespace(**{**vars(arguments), **changed, "evaluation": found.evaluation})


def _take_checkpoint(trained_in: Path, root: Path, name: str, arguments: Arguments, training: str) -> None:
    """Copy the checkpoint that an evaluation starts from, if it is not in this folder already."""
    model = settings.MODEL.format(training=name, seed=arguments.seed)
    if not (trained_in / model).exists():
        from firstorder.settings.overrides import parse

        of_training = [text for text in arguments.overrides if parse([text], True)[0][0] != "evaluation"]
        more = "".join(f" --set {shlex.quote(text)}" for text in of_training)
        raise UserError(
            f"{trained_in / model}: no such checkpoint; train it first: firstorder train {training} --seed "
            f"{arguments.seed}{more}"
        )
    if trained_in != root:
        from firstorder.records.headers import CHECKPOINT_FILE

        with replacing(root / model) as part:
            part.write_bytes(CHECKPOINT_FILE.read(trained_in / model))
