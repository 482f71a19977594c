"""Train a classifier: the seed's recipe unless told otherwise.

    python3 train.py                                              # roberta-base on AG News
    python3 train.py --recipe quickstart                          # MiniLM on BBC News, offline
    python3 train.py --recipe agnews-minilm --data.source news.csv  # your own

The same as `submillion train --recipe seed`, and the plots are in assets/ too.
"""

import sys
from pathlib import Path

from submillion.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]], recipe="seed", assets=Path("assets")))
