"""A search, run: what it finds where eight bits hurt is small, good, and proven on other samples."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converter.conversion import convert
from converter.errors import RecipeError, RouteError
from converter.measurements import MeasurementCache
from converter.search.bench import split_rows
from edge_runtime.loading import load
from edge_runtime.package import open_package
from ota_contract.manifest import VerificationStatus
from tests.converter.conftest import Ferry
from tests.converter.uneven_model import write_uneven
from tests.packages import cache_environment, made_once
from tests.support.documentation import blocks

PAGE = "docs/search.md"
BUDGET = 0.01
RUNTIMES = ("onnx", "tflite")
GOAL = '[goal]\nmetric = "accuracy"\nmax_drop = 0.01\n'


@pytest.fixture(scope="module")
def searched(session: Path) -> Path:
    """The folder of the model, its recipe, and `package`."""
    with made_once(session, "searched") as (folder, there), pytest.MonkeyPatch.context() as patch:
        if not there:
            patch.setenv("FERRY_CACHE", cache_environment(session)["FERRY_CACHE"])
            recipe = write_uneven(folder, *blocks(PAGE, "toml"))
            conversion = convert(recipe, folder / "package", cache=MeasurementCache(folder / "measured"))
            assert conversion.unmet == ()
    return folder


@pytest.fixture(scope="module")
def report(searched: Path) -> dict[str, Any]:
    return dict(json.loads((searched / "package" / "report.json").read_text()))


def _record(report: Mapping[str, Any], runtime: str) -> dict[str, Any]:
    records = {item["runtime"]: item for item in report["search"]}
    return dict(records[runtime])


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_eight_bits_for_all_layers_hurt_and_for_some_do_not(report: Mapping[str, Any], runtime: str) -> None:
    record = _record(report, runtime)
    trials = {trial["id"]: trial for trial in record["trials"]}
    assert trials["int8"]["drop"] > 10 * BUDGET
    chosen = trials[record["chosen"]]
    assert chosen["precision"] == "int8"
    assert chosen["rules"]
    assert chosen["drop"] <= BUDGET
    assert trials["int8"]["size_bytes"] < chosen["size_bytes"] < 0.8 * trials["fp32"]["size_bytes"]


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_what_the_manifest_claims_is_counted_on_samples_kept_for_proof(searched: Path, runtime: str) -> None:
    """Counted again here, by the device's own runtime on the half the search did not look at."""
    package = searched / "package"
    release, _ = open_package(package)
    variant = release.variant(f"{runtime}-auto")
    assert variant.verification.status is VerificationStatus.PASSED
    with np.load(searched / "evaluation.npz") as archive:
        images, labels = archive["x"], archive["label"]
    rows = split_rows(len(images)).proof
    model = load(release, variant, package)
    right = sum(int(model.run({"x": images[row : row + 1]})["y"].argmax() == labels[row]) for row in rows)
    quality = variant.metrics.quality
    assert quality is not None
    assert (quality.n, quality.value_ppm) == (len(rows), round(right / len(rows) * 1_000_000))


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_the_layers_that_are_raised_are_those_that_lose_most_per_byte(
    report: Mapping[str, Any], runtime: str
) -> None:
    (found,) = (item for item in report["sensitivity"] if item["runtime"] == runtime)
    assert len(found["layers"]) == 3
    assert "3 of 3 layers with weights were examined" in found["caption"]
    order = sorted(found["layers"], key=lambda layer: -layer["loss"] / layer["weight_bytes"])
    record = _record(report, runtime)
    (chosen,) = (trial for trial in record["trials"] if trial["id"] == record["chosen"])
    assert [_unescaped(rule["layer"]) for rule in chosen["rules"]] == [
        layer["layer"] for layer in order[: len(chosen["rules"])]
    ]
    assert order[0]["loss"] > 100 * order[-1]["loss"]


def test_every_trial_says_what_became_of_it_and_n_is_never_stretched(report: Mapping[str, Any]) -> None:
    for record in report["search"]:
        assert [trial["outcome"] for trial in record["trials"]].count("chosen") == 1
        assert all(trial["why"] for trial in record["trials"])
    proofs = [line for line in report["certification"] if "-auto: " in line]
    assert len(proofs) == len(RUNTIMES)
    for line in proofs:
        assert "250 samples cannot certify at 97.5 % confidence a drop of at most 1 points" in line


def test_the_pages_own_example_prints_what_was_tried(
    searched: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(searched)
    (code,) = blocks(PAGE, "python")
    exec(compile(code, PAGE, "exec"), {})  # noqa: S102 - the page's own example
    printed = capsys.readouterr().out
    for runtime in RUNTIMES:
        assert f"{runtime} int8-2-raised" in printed
    assert "they certify" in printed


def test_the_page_shows_what_was_tried(searched: Path) -> None:
    page = (searched / "package" / "report.html").read_text()
    assert "int8-2-raised was chosen" in page
    assert "cannot certify" in page


def test_a_second_run_finds_the_same_bytes_without_running_a_pass(searched: Path, ferry: Ferry) -> None:
    """Of the user's cache: trials are remembered as everything else is."""
    done = ferry("convert", searched / "recipe.toml", "-o", "again")
    assert done.code == 0
    for variant in ("onnx-auto/model.onnx", "tflite-auto/model.tflite"):
        again = Path("again") / "variants" / variant
        assert again.read_bytes() == (searched / "package" / "variants" / variant).read_bytes()
    ran = [line for line in done.err.splitlines() if "→" in line and "known from before" not in line]
    assert ran == []


def test_layers_for_which_there_is_no_time_are_counted(ferry: Ferry) -> None:
    table = '[[variant]]\nruntime = "onnx"\nprecision = "int8-weights"\n'
    recipe = write_uneven(Path("hurried"), f"{GOAL}[search]\nsensitivity_s = 1e-9\n{table}")
    ferry("convert", recipe, "-o", "package")
    (found,) = json.loads(Path("package/report.json").read_text())["sensitivity"]
    assert found["layers"] == []
    assert found["caption"].endswith(
        "0 of 3 layers with weights were examined; there was no time for the 3 smallest."
    )


def test_plan_says_what_a_search_begins_with(searched: Path, ferry: Ferry) -> None:
    recipe = searched / "recipe.toml"
    assert "onnx-auto is searched for, beginning with int8, fp32\n" in ferry("plan", recipe).out
    rows = json.loads(ferry("plan", recipe, "--json").out)
    assert [row["candidates"] for row in rows] == [["int8", "fp32"]] * 2


def test_a_budget_nothing_meets_ends_with_one_and_the_best_found(ferry: Ferry) -> None:
    table = '[[variant]]\nruntime = "onnx"\nprecision = "auto"\ncandidates = ["int8"]\n'
    recipe = write_uneven(Path("tight"), f"{GOAL}[search]\nmax_trials = 1\n{table}")
    done = ferry("convert", recipe, "-o", "package")
    assert done.code == 1
    assert "ferry: onnx-auto: nothing that was tried keeps to the budget; see the report" in done.err
    release, _ = open_package(Path("package"))
    assert [variant.verification.status for variant in release.variants] == [VerificationStatus.FAILED]
    record = json.loads(Path("package/report.json").read_text())["search"][0]
    assert record["ended"] == "1 trials were allowed"
    assert record["trials"][0]["why"].startswith("the best found, and over budget")


def test_embeddings_need_no_labels(ferry: Ferry) -> None:
    """Judged by how alike the source's answers are; the sets have no labels at all."""
    table = '[[variant]]\nruntime = "onnx"\nprecision = "int8"\n'
    recipe = write_uneven(Path("unlabelled"), GOAL.replace("accuracy", "mean_cosine") + table)
    for name in ("calibration", "evaluation", "golden"):
        with np.load(f"unlabelled/{name}.npz") as archive:
            values = archive["x"]
        np.savez(f"unlabelled/{name}.npz", x=values)
    done = ferry("convert", recipe, "-o", "package")
    assert done.code == 1
    quality = open_package(Path("package"))[0].variant("onnx-int8").metrics.quality
    assert quality is not None
    assert quality.metric == "mean_cosine"
    assert 0 < quality.low_ppm < quality.value_ppm < 900_000
    report = json.loads(Path("package/report.json").read_text())
    assert report["source"]["mean_cosine"]["value_ppm"] == 1_000_000
    assert [item["runtime"] for item in report["sensitivity"]] == ["onnx"], "examined, unasked"


@pytest.mark.parametrize(
    ("found", "replaced", "kind", "message"),
    [
        ('candidates = ["int8", "fp32"]', 'candidates = ["palette4"]', RouteError, "no route gives"),
        ("max_trials = 24", "max_trials = 0", RecipeError, "search.max_trials: 0 is below 1"),
        ('prefer = "size"', 'prefer = "speed"', RecipeError, "'speed' is none of size, latency"),
    ],
)
def test_what_cannot_be_searched_is_refused_before_anything_runs(
    searched: Path, tmp_path: Path, found: str, replaced: str, kind: type[Exception], message: str
) -> None:
    recipe = tmp_path / "recipe.toml"
    text = (searched / "recipe.toml").read_text().replace(found, replaced, 1)
    for name in ("uneven.onnx", "calibration.npz", "evaluation.npz", "golden.npz"):
        text = text.replace(f'"{name}"', json.dumps(str(searched / name)))
    recipe.write_text(text)
    with pytest.raises(kind, match=message):
        convert(recipe, tmp_path / "package")
    assert not (tmp_path / "package").exists()


def test_one_sample_cannot_be_halved() -> None:
    with pytest.raises(RouteError, match="two evaluation samples"):
        split_rows(1)
    split = split_rows(101)
    assert sorted([*split.search, *split.proof]) == list(range(101))
    assert len(split.proof) == 51


def _unescaped(pattern: str) -> str:
    return pattern.replace("\\", "")
