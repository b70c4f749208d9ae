"""A package appears whole or not at all, and replaces nothing but a package."""

from __future__ import annotations

from pathlib import Path

import pytest

from converter.errors import OutputError
from converter.package_folder import staged_package


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def _package(folder: Path, content: str) -> None:
    folder.mkdir()
    (folder / "release.json").write_text(content)


def _write(output: Path, error: BaseException) -> None:
    with staged_package(output) as staging:
        (staging / "release.json").write_text("half")
        raise error


def _write_while_another_moves_in(output: Path) -> None:
    with staged_package(output):
        output.mkdir()
        (output / "mine").touch()


def test_a_new_package_appears_at_the_end(tmp_path: Path) -> None:
    output = tmp_path / "deep" / "package"
    with staged_package(output) as staging:
        (staging / "release.json").write_text("new")
        assert not output.exists()
    assert (output / "release.json").read_text() == "new"
    assert _names(output.parent) == ["package"]
    assert output.stat().st_mode & 0o777 == 0o755


def test_an_older_package_is_replaced_whole(tmp_path: Path) -> None:
    output = tmp_path / "package"
    _package(output, "old")
    (output / "stale").touch()
    with staged_package(output) as staging:
        (staging / "release.json").write_text("new")
        assert (output / "release.json").read_text() == "old"
    assert _names(output) == ["release.json"]
    assert _names(tmp_path) == ["package"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_error_leaves_everything_as_it_was(tmp_path: Path, error: type[BaseException]) -> None:
    output = tmp_path / "package"
    _package(output, "old")
    with pytest.raises(error):
        _write(output, error())
    assert (output / "release.json").read_text() == "old"
    assert _names(tmp_path) == ["package"]


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    output = tmp_path / "thesis"
    output.mkdir()
    (output / "chapter-1.tex").write_text("years of work")
    with pytest.raises(OutputError, match="not empty and not a package"), staged_package(output):
        pytest.fail("must not begin")
    assert _names(output) == ["chapter-1.tex"]


def test_a_file_is_refused(tmp_path: Path) -> None:
    output = tmp_path / "file"
    output.touch()
    with pytest.raises(OutputError, match="is a file; name a folder"), staged_package(output):
        pytest.fail("must not begin")


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    output = tmp_path / "package"
    output.mkdir()
    with staged_package(output) as staging:
        (staging / "release.json").write_text("new")
    assert _names(output) == ["release.json"]


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    with (
        pytest.raises(OutputError, match=r"cannot write .*: (Not a directory|File exists)$"),
        staged_package(blocked / "package"),
    ):
        pytest.fail("must not begin")


def test_what_moved_in_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    output = tmp_path / "package"
    with pytest.raises(OutputError, match="not a package"):
        _write_while_another_moves_in(output)
    assert _names(output) == ["mine"]
