"""`python -m delift_core` is the command `delift`."""

import sys

from delift_core.cli import main

if __name__ == "__main__":
    sys.exit(main())
