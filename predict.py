"""Predict with a saved model: the one data file that lies in best_model/, or any other.

    python3 predict.py                            # best_model/test_unlabelled.pkl (or .csv ...) to predictions.csv
    python3 predict.py FILE --output answers.csv  # any file
    python3 predict.py FILE --scores              # label names and probabilities too

The same as `submillion predict --labels integers`: labels are places among the label names, from 0.
"""

import sys

from submillion.cli import main

if __name__ == "__main__":
    sys.exit(main(["predict", "--labels", "integers", *sys.argv[1:]]))
