"""The page of published checkpoints: digest, size, accuracy, and the command that fetches each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from firstorder.records.cells import how_trained
from firstorder.report.read.statistics import accuracy_over_tasks
from firstorder.report.site.cells import clock
from firstorder.report.site.folders import Folder
from firstorder.report.text.formatting import percent, training_label
from firstorder.settings import MODEL


@dataclass(frozen=True, kw_only=True)
class PublishedFile:
    """A file that DVC keeps: its MD5, by which DVC stores it, and its size in bytes."""

    md5: str
    size: int


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """An accuracy measured on a checkpoint: shot and mode, percent, and the page of the cell."""

    what: str
    text: str
    page: str


@dataclass(frozen=True, kw_only=True)
class Model:
    """One published checkpoint; `sha256` is empty if no record names it."""

    title: str
    seed: int
    path: str
    md5: str
    sha256: str
    size: str
    trained: str
    accuracies: tuple[Accuracy, ...]

    @property
    def command(self) -> str:
        """The command that fetches it into a clone."""
        return f".venv/bin/dvc pull {self.path}"


def of(folders: Sequence[Folder], published: Mapping[str, PublishedFile]) -> list[Model]:
    """List the checkpoints of the folders that are among the `published` files (by path from the repository)."""
    return [model for folder in folders for model in _of_folder(folder, published)]


def _of_folder(folder: Folder, published: Mapping[str, PublishedFile]) -> Iterator[Model]:
    for training in folder.project.trainings:
        for seed in folder.project.seeds:
            path = folder.prefix + MODEL.format(training=training, seed=seed)
            if path not in published:
                continue
            records = [
                record
                for record in folder.records
                if (record.settings["evaluation"]["training"], record.seed) == (training, seed)
            ]
            run = how_trained(folder.root, training, seed)
            digests = {record.checkpoint_digest for record in records}
            yield Model(
                title=training_label(training) + (f" (folder {folder.name})" if folder.name else ""),
                seed=seed,
                path=path,
                md5=published[path].md5,
                sha256=digests.pop() if len(digests) == 1 else "",
                size=f"{published[path].size / 1e6:.2f} MB",
                trained=f"{clock(run.get('seconds'))} on {run.get('device', 'an unknown device')}" if run else "",
                accuracies=tuple(
                    Accuracy(
                        what=f"{record.shot}-shot, {record.mode}",
                        text=f"{percent(accuracy_over_tasks(record.correct_histogram)[0])} %",
                        page=folder.cell_page(f"{record.evaluation}/{record.mode}") or folder.index,
                    )
                    for record in records
                ),
            )
