"""The only exception that is meant for the user.

The command line prints its message as a single line and exits with code 2. Every other exception is a defect and keeps
its traceback.
"""


class UserError(Exception):
    """Something outside the program is wrong, such as a file, a setting, the disk or the network.

    The message is one line that says what was found, what was expected, where, and what to do next.
    """
