"""`python -m firstorder`."""

import sys

from firstorder.cli import main

if __name__ == "__main__":
    sys.exit(main())
