"""`python -m firstorder`, and the command `firstorder`."""

import os
import signal
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb and return its exit code, as firstorder.cli.main."""
    from firstorder.cli import main as run

    return run(arguments)


def command() -> int:
    """Run one verb in a process of its own: until the verb handles signals, as during the imports, one ends it here."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):  # not if it is ignored
            signal.signal(number, _end)
    return main()


def _end(number: int, frame: object) -> None:
    name = signal.Signals(number).name
    try:
        os.write(2, f"firstorder: {name}: ended at once; what was saved before is kept\n".encode())
    finally:
        os._exit(128 + number)


if __name__ == "__main__":
    sys.exit(command())
