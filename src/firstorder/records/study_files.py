"""Files of unfinished studies, from which they go on after an interruption."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from firstorder.files import MissingFileError
from firstorder.progress import Kept, Stop, Stopped, never
from firstorder.records.kept_files import OtherWorkError
from firstorder.records.states import DAMAGED, read_sealed, set_aside, set_other_aside, write_sealed

if TYPE_CHECKING:
    from firstorder.progress import Arrays

SECONDS_BETWEEN_SAVES = 60.0


@dataclass
class StudyFile(Kept):
    """Keeps the arrays of a study in a file. `identity` names everything that they depend on; others are left unused.

    This process works since `begun`.
    """

    path: Path
    identity: str
    stop: Stop = never
    begun: float = field(default_factory=time.monotonic)
    _saved: float = field(default_factory=time.monotonic)
    _seconds_before: float = 0.0
    is_resumed: bool = False  # arrays were read

    def load(self) -> Arrays:
        """Read the arrays; none if there are none of this study. A damaged file, or that of another, is set aside.

        Raises UserError if the file cannot be read.
        """
        try:
            tensors, about = read_sealed(self.path)
            if about["identity"] != self.identity:
                raise OtherWorkError(about, {})
            self._seconds_before = float(about["seconds"])
            self.is_resumed = bool(tensors)
            return {name: tensor.numpy() for name, tensor in tensors.items()}
        except MissingFileError:
            return {}
        except OtherWorkError as error:
            set_other_aside(self.path, error)
            return {}
        except DAMAGED as error:
            set_aside(self.path, "a part of a study", error, "study")
            return {}

    def keep(self, arrays: Arrays) -> None:
        """Write the arrays if they are due; raise Stopped, after that, if the study is to end here."""
        now, stopped = time.monotonic(), self.stop()
        if stopped or now - self._saved >= SECONDS_BETWEEN_SAVES:
            self._saved = now
            tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
            write_sealed(self.path, tensors, {"identity": self.identity, "seconds": round(self.seconds, 1)})
        if stopped:
            raise Stopped

    @property
    def seconds(self) -> float:
        """The seconds of all processes so far."""
        return self._seconds_before + time.monotonic() - self.begun

    def put_aside(self, error: Exception) -> None:
        """Set aside arrays from which the study cannot go on, although their digest is right."""
        set_aside(self.path, "a part of a study", error, "study")
        self.is_resumed, self._seconds_before = False, 0.0

    def discard(self) -> None:
        """Remove the file."""
        self.path.unlink(missing_ok=True)
