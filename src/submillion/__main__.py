"""python -m submillion: the same as the `submillion` command."""

import sys

from submillion.cli import main

if __name__ == "__main__":
    sys.exit(main())
