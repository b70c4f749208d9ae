"""Train the example of a table: a forest behind a scaler that tells who grew a wine.

  python models/wine/train.py                        a good forest, in a second

Writes the model (skops, no pickle) and the data sets its recipe names into --out. The data is
scikit-learn's `load_wine`: 178 chemical analyses of wines of three growers of one region.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import skops.io
from sklearn.datasets import load_wine
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

_REPOSITORY = Path(__file__).resolve().parents[2]
_OUT = _REPOSITORY / "build" / "wine-model"
_SPLIT_SEED = 20_261
SPLITS = {"golden": 12, "evaluation": 80}
"""Wines of each set; the rest train and calibrate."""


def main() -> int:
    """Train, and write the model and its data sets."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=_OUT, help="folder to write (default build/wine-model)")
    parser.add_argument("--trees", type=int, default=40, help="how many (default %(default)s)")
    arguments = parser.parse_args()
    wine = load_wine()
    analyses = wine.data.astype(np.float32)
    order = np.random.default_rng(_SPLIT_SEED).permutation(len(analyses))
    golden, evaluation, train = np.split(order, np.cumsum(list(SPLITS.values())))
    model = make_pipeline(StandardScaler(), RandomForestClassifier(arguments.trees, random_state=1))
    model.fit(analyses[train], wine.target[train])
    arguments.out.mkdir(parents=True, exist_ok=True)
    skops.io.dump(model, arguments.out / "wine.skops")
    for name, rows in (("golden", golden), ("evaluation", evaluation), ("calibration", train)):
        np.savez(arguments.out / f"{name}.npz", analysis=analyses[rows], label=wine.target[rows])
    accuracy = model.score(analyses[evaluation], wine.target[evaluation])
    print(f"{arguments.out}: wine.skops, accuracy {accuracy:.4f} on {len(evaluation)} evaluation wines")
    return 0


if __name__ == "__main__":
    sys.exit(main())
