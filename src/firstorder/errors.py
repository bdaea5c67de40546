"""The only exception that is meant for the user.

The command line prints its message as a single line and exits with code 2. Every other exception is a defect and keeps
its traceback.
"""

import re

_BREAK = re.compile(r"\s*[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]\s*")
# Also the marks that change the direction of writing, with which a name can look like another one.
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1b\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_LONGEST = 3000  # characters of a message
_ADDRESS = re.compile(r" at 0x[0-9A-Fa-f]+")
# Of torch (on a CPU, CUDA, cuBLAS, cuDNN), C++, threads and the system.
_NO_MEMORY = (
    *("can't allocate memory", "annot allocate memory", "out of memory", "not enough memory", "bad_alloc"),
    *("ALLOC_FAILED", "can't start new thread", "failed to map segment", "cannot create shared object descriptor"),
)
# Of CUDA, when a card falls off its bus, has an uncorrectable error, or is reset.
_LOST_DEVICE = (
    *("CUDA error: uncorrectable ECC", "CUDA error: unspecified launch failure", "CUDA error: unknown error"),
    *(
        "CUDA error: no CUDA-capable device",
        "CUDA error: all CUDA-capable devices",
        "CUDA error: CUDA-capable device(s)",
    ),
    *("CUDA error: hardware", "CUDA error: an illegal", "CUDA error: system", "CUDA error: driver shutting down"),
)


class UserError(Exception):
    """Something outside the program is wrong, such as a file, a setting, the disk or the network.

    The message is one line that says what was found, what was expected, where, and what to do next. Names and values
    in it may come from files: line breaks become spaces, other control characters escapes, addresses are left out.
    """

    def __init__(self, message: str) -> None:
        line = one_line(message)
        if len(line) > _LONGEST:  # the file is named at the beginning, and the next step at the end
            line = f"{line[: _LONGEST - 1000]} ... {line[-1000:]}"
        super().__init__(line)


def one_line(text: object) -> str:
    """Return a text in one line, without control characters and addresses of objects."""
    line = _ADDRESS.sub("", _BREAK.sub(" ", str(text)))
    return _CONTROL.sub(lambda found: _escape(found[0]), line)


def shown(name: object) -> str:
    """Return a name from outside as it may be printed: line breaks, control and unseen characters are escapes."""
    return "".join(each if each.isprintable() else _escape(each) for each in str(name))


def _escape(text: str) -> str:
    return text.encode("unicode_escape", "surrogatepass").decode()


def reason(error: BaseException, path: object) -> str:
    """Return what an error about a file says, in one line and without the path, to put behind the path."""
    text = error.strerror if isinstance(error, OSError) else str(error).removeprefix(f"{path}: ")
    return one_line(text or str(error) or type(error).__name__)


def lost_device(error: BaseException) -> bool:
    """Say whether an exception is of a GPU that failed, and not of the program that it computed."""
    return isinstance(error, RuntimeError) and any(what in str(error) for what in _LOST_DEVICE)


def lacks_memory(error: BaseException) -> bool:
    """Say whether Python, NumPy, torch (which raises a RuntimeError) or the system had too little memory.

    Also while a library was loaded: then an ImportError or a SystemError comes of it.
    """
    causes = [error]
    for cause in causes:  # grows
        known = (cause.__cause__, cause.__context__) if isinstance(cause, ImportError | SystemError) else ()
        causes += [one for one in known if one is not None and one not in causes]
    return any(isinstance(one, MemoryError) or any(text in str(one) for text in _NO_MEMORY) for one in causes)
