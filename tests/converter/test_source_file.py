"""The source model is looked at before it is opened."""

from __future__ import annotations

import json
import pickle
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from converter.archives import ArchiveError, check_archive
from converter.errors import SourceError
from converter.recipe import load_recipe
from converter.source_file import check_source, digest_file
from tests.converter.recipes import recipe_text, write_recipe


class Bomb:
    """Leaves a trace when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.trace,)


def _check(folder: Path, source: Path) -> str:
    return check_source(load_recipe(write_recipe(folder, recipe_text(folder, source=source))))


def _refusal(folder: Path, source: Path) -> str:
    with pytest.raises(SourceError) as caught:
        _check(folder, source)
    return str(caught.value)


def _keras_file(path: Path, config: object) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", "{}")
        archive.writestr("config.json", json.dumps(config))
        archive.writestr("model.weights.h5", b"\x89HDF\r\n\x1a\n")
    return path


def test_a_good_model_is_named_by_its_digest(tmp_path: Path, model: Path) -> None:
    source = model / "digits.keras"
    assert _check(tmp_path, source) == digest_file(source)


def test_a_missing_source_says_what_makes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert _refusal(tmp_path, Path("absent.keras")) == (
        "recipe.toml: source.path: absent.keras does not exist; run `python models/digits/train.py` first"
    )


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_is_not_opened(tmp_path: Path, protocol: int) -> None:
    source, trace = tmp_path / "model.keras", tmp_path / "trace"
    source.write_bytes(pickle.dumps(Bomb(trace), protocol=protocol))
    assert "pickle" in _refusal(tmp_path, source)
    assert not trace.exists()


def test_a_legacy_hdf5_file_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "model.h5"
    source.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    assert "legacy HDF5 model; load it where you trust it" in _refusal(tmp_path, source)


@pytest.mark.parametrize("content", [b"", b"hello, I am a model", bytes(1000)])
def test_garbage_is_refused(tmp_path: Path, content: bytes) -> None:
    source = tmp_path / "model.keras"
    source.write_bytes(content)
    assert "is not a .keras file: it begins with" in _refusal(tmp_path, source)


def test_a_folder_is_refused(tmp_path: Path) -> None:
    assert "is a folder; save the model as one file" in _refusal(tmp_path, tmp_path)


def test_a_model_cut_off_anywhere_is_refused(tmp_path: Path, model: Path) -> None:
    whole = (model / "digits.keras").read_bytes()
    source = tmp_path / "model.keras"
    for length in (64, len(whole) // 2, len(whole) - 30):
        source.write_bytes(whole[:length])
        assert "is not a readable .keras file: not a complete zip archive" in _refusal(tmp_path, source)


def test_a_zip_of_something_else_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "model.keras"
    with zipfile.ZipFile(source, "w") as archive:
        archive.writestr("config.json", "{}")
    assert _refusal(tmp_path, source).endswith("is a zip file without model.weights.h5, so not a .keras file")


def test_a_lambda_saved_by_keras_is_refused(tmp_path: Path, odd_models: Path) -> None:
    message = _refusal(tmp_path, odd_models / "lambda.keras")
    assert "has a Lambda layer (halve), which holds code; rebuild it from Keras layers" in message


def test_a_lambda_hidden_deep_inside_is_refused(tmp_path: Path) -> None:
    inner = {"class_name": "Lambda", "module": "keras.layers", "config": {"name": "x"}}
    config = {
        "class_name": "Functional",
        "module": "keras",
        "config": {"layers": [{"config": {"layer": inner}}]},
    }
    assert "Lambda layer (x)" in _refusal(tmp_path, _keras_file(tmp_path / "model.keras", config))


@pytest.mark.parametrize("module", ["os", "my.models", "kerasx"])
def test_a_class_from_outside_keras_is_refused(tmp_path: Path, module: str) -> None:
    config = {"class_name": "system", "module": module, "config": {}}
    message = _refusal(tmp_path, _keras_file(tmp_path / "model.keras", config))
    assert f"needs {module}.system, which is code outside Keras" in message


def test_a_zip_bomb_is_refused_unpacked_by_nobody(tmp_path: Path) -> None:
    source = tmp_path / "model.keras"
    with zipfile.ZipFile(source, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", bytes(64 * 2**20))
        archive.writestr("model.weights.h5", b"")
    assert "a zip bomb" in _refusal(tmp_path, source)


def test_an_archive_of_too_many_members_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "many.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for index in range(10_001):
            archive.writestr(str(index), b"")
    with pytest.raises(ArchiveError, match="10001 members"):
        check_archive(path, max_bytes=1)


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x", "a\\..\\x"])
def test_a_member_that_would_leave_its_folder_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "escape.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, b"x")
    with pytest.raises(ArchiveError, match="outside its folder"):
        check_archive(path, max_bytes=100)


@given(st.binary(max_size=300))
def test_any_bytes_are_refused_in_one_line(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    folder = tmp_path_factory.mktemp("source")
    source = folder / "model.keras"
    source.write_bytes(b"PK\x03\x04" + content)
    assert "\n" not in _refusal(folder, source)
