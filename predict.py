"""Predict with a saved model: the one data file that lies in best_model/, or any other.

    python3 predict.py                            # best_model/test_unlabelled.pkl (or .csv ...) to predictions.csv
    python3 predict.py FILE --output answers.csv  # any file
    python3 predict.py FILE --scores              # label names and probabilities too

The same as `submillion predict`.
"""

import sys

from submillion.cli import main

if __name__ == "__main__":
    sys.exit(main(["predict", *sys.argv[1:]]))
