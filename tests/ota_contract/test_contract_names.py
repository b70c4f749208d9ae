from __future__ import annotations

import itertools
from pathlib import PurePosixPath, PureWindowsPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ota_contract.errors import InvalidNameError
from ota_contract.names import (
    ModelName,
    Version,
    blob_path,
    check_device_id,
    check_name,
    check_relative_path,
    parse_model,
    publisher_role,
    release_target,
    rollout_role,
    rollout_target,
)
from tests.ota_contract.contract_strategies import models, names, versions

TRICKS = [
    "",
    ".",
    "..",
    "-a",
    "_a",
    "a b",
    "a/b",
    "a\\b",
    "a.b",
    "A",
    "ä",
    "а",
    "a\u0301",
    "ａ",
    "a\n",
    "\na",
    "a\0",
    "a\u200b",
    "a\u202e",
    "٣",
    "a" * 65,
    "%2e%2e",
]


@pytest.mark.parametrize("text", TRICKS)
def test_a_name_is_of_a_closed_pattern(text: str) -> None:
    with pytest.raises(InvalidNameError, match="publisher"):
        check_name(text, what="publisher")
    with pytest.raises(InvalidNameError):
        publisher_role(text)
    with pytest.raises(InvalidNameError):
        rollout_role(text)
    with pytest.raises(InvalidNameError):
        ModelName("ok", text)
    with pytest.raises(InvalidNameError):
        ModelName(text, "ok")


@given(models())
def test_a_model_is_read_back(name: ModelName) -> None:
    assert parse_model(str(name)) == name


@pytest.mark.parametrize("text", ["", "a", "/", "a/", "/b", "a/b/c", "a//b", "../b", "a/..", "a\\b", "a/b\n"])
def test_a_model_is_two_names_and_one_slash(text: str) -> None:
    with pytest.raises(InvalidNameError):
        parse_model(text)


def test_a_model_without_its_publisher_is_told_how_to_write_it() -> None:
    with pytest.raises(InvalidNameError, match="model 'digits' is not written publisher/model"):
        parse_model("digits")


@given(names(), names(), versions())
def test_targets_and_roles_never_leave_their_publisher(publisher: str, model: str, version: str) -> None:
    name = ModelName(publisher, model)
    assert release_target(name, version) == f"rel/{publisher}/{model}/{version}.json"
    assert rollout_target(name) == f"rollout/{publisher}/{model}"
    assert ".." not in PurePosixPath(release_target(name, version)).parts
    assert publisher_role(publisher) != rollout_role(publisher)


@pytest.mark.parametrize("text", ["camera-7", "00:1A:2b.x_y", "A", "a" * 128])
def test_device_ids_may_be_serial_numbers_and_addresses(text: str) -> None:
    assert check_device_id(text) == text


@pytest.mark.parametrize("text", ["", ".a", "-a", "a/b", "a b", "ä", "a\n", "a" * 129, "a\0", "..", "٣"])
def test_other_device_ids_are_refused(text: str) -> None:
    with pytest.raises(InvalidNameError):
        check_device_id(text)


@pytest.mark.parametrize(
    "text", ["release.json", "a/b/c.tflite", "M.mlpackage/Data/x", "_a", "/".join("abcdefgh")]
)
def test_paths_inside_a_package_are_taken(text: str) -> None:
    assert check_relative_path(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/etc/passwd",
        "../a",
        "a/../b",
        "a/..",
        ".",
        "./a",
        "a//b",
        "a/",
        ".hidden",
        "a/.git/x",
        "a\\b",
        "C:/x",
        "C:x",
        "~/x",
        "-rf",
        "a b",
        "a\n",
        "a\0b",
        "ä",
        "a/\u202e",
        "a/" * 8 + "b",
        "a" * 129,
        "%2e%2e/a",
    ],
)
def test_paths_that_could_leave_their_folder_are_refused(text: str) -> None:
    with pytest.raises(InvalidNameError):
        check_relative_path(text)


@given(st.text(max_size=30) | st.lists(st.sampled_from(["..", ".", "a", "/", "\\", "C:", "~"])).map("/".join))
def test_an_accepted_path_stays_below_its_folder_on_every_system(text: str) -> None:
    try:
        check_relative_path(text)
    except InvalidNameError:
        return
    assert not PurePosixPath(text).is_absolute()
    assert not PureWindowsPath(text).anchor
    assert ".." not in PurePosixPath(text).parts
    assert ".." not in PureWindowsPath(text).parts


def test_blobs_are_spread_over_256_folders() -> None:
    digest = "ab" + "0" * 62
    assert blob_path(digest) == f"sha256/ab/{digest}"
    for text in ("", "../" + "0" * 61, "A" * 64, "0" * 63, "0" * 64 + "\n"):
        with pytest.raises(InvalidNameError):
            blob_path(text)


@given(versions())
def test_a_version_is_read_back(text: str) -> None:
    assert str(Version.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        "1.2",
        "1.2.3.4",
        "v1.2.3",
        "01.2.3",
        "1.02.3",
        "1.2.3-",
        "1.2.3-01",
        "1.2.3-a..b",
        "1.2.3-a.00",
        "1.2.3+build",
        "1.2.3-ä",
        "1.2.3\n",
        " 1.2.3",
        "1.٢.3",
        "1２.0.0",
        "1234567890.0.0",
        "1.2.3-a/../b",
        "-1.2.3",
        "1.2.3-" + "a" * 33,
        "1.2.3-a.b.c.d.e.f",
    ],
)
def test_only_semantic_versions_are_versions(text: str) -> None:
    with pytest.raises(InvalidNameError, match="version"):
        Version.parse(text)


def test_precedence_is_that_of_semver() -> None:
    """semver.org §11, its own example, and the rules around it."""
    order = [
        "0.9.9",
        "1.0.0-0",
        "1.0.0-2",
        "1.0.0-10",
        "1.0.0--",
        "1.0.0-0a",
        "1.0.0-alpha",
        "1.0.0-alpha.1",
        "1.0.0-alpha.beta",
        "1.0.0-beta",
        "1.0.0-beta.2",
        "1.0.0-beta.11",
        "1.0.0-rc.1",
        "1.0.0",
        "1.0.1",
        "1.2.0",
        "1.10.0",
        "2.0.0-a",
        "2.0.0",
    ]
    parsed = list(map(Version.parse, order))
    for (i, left), (j, right) in itertools.product(enumerate(parsed), repeat=2):
        assert (left < right, left == right, left > right) == (i < j, i == j, i > j)
        assert (left <= right, left >= right) == (i <= j, i >= j)


@given(versions(), versions(), versions())
def test_precedence_is_a_total_order(a: str, b: str, c: str) -> None:
    left, middle, right = map(Version.parse, (a, b, c))
    assert [left < middle, left == middle, left > middle].count(True) == 1
    assert (left == middle) == (a == b)
    if left <= middle <= right:
        assert left <= right
    assert sorted([left, middle, right]) == sorted([right, left, middle])
