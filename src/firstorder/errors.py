"""The one exception that is meant for the person at the keyboard.

`__main__` prints its message as a single line and exits with code 2; every other exception is a
defect and keeps its traceback.
"""


class UserError(Exception):
    """Something outside the program is wrong: a file, a setting, the disk, the network.

    The message is one line that says what was found, what was expected, where, and what to do next.
    """
