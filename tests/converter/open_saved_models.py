"""Opens the SavedModels of recipes: `python -m tests.converter.open_saved_models RECIPE...`.

Beside each recipe comes `says.txt` with what opening it raised. One process, for TensorFlow takes seconds.
"""

from __future__ import annotations

import sys
from pathlib import Path

from converter.errors import ConverterError
from converter.jobs import Job
from converter.passes.saved_model import open_saved_model
from converter.recipe import Overrides, load_recipe

__all__ = ["main"]


def main(recipes: list[str]) -> None:
    """Open the source of each."""
    for text in recipes:
        path = Path(text)
        job = Job(
            name="opening", folder=path.parent, recipe_path=path, overrides=Overrides(), inputs={}, params={}
        )
        said = "nothing"
        try:
            open_saved_model(job, load_recipe(path))
        except ConverterError as error:
            said = str(error)
        (path.parent / "says.txt").write_text(said)


if __name__ == "__main__":
    main(sys.argv[1:])
