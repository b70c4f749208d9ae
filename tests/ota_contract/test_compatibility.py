from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings

from ota_contract.compatibility import choose_variant, obstacles
from ota_contract.device import Attributes
from ota_contract.manifest import Release, Requirements, VerificationStatus
from tests.ota_contract.contract_strategies import attributes, releases
from tests.ota_contract.release_samples import sample_release

DEVICE = Attributes(
    device_id="a", os="linux", arch="x86_64", ram_bytes=2**30, runtimes={"onnx": "1.20.1", "tflite": "2.1.0"}
)
VARIANT = replace(sample_release().variants[0], requires=Requirements())


def test_a_variant_without_requirements_needs_its_runtime_alone() -> None:
    assert obstacles(VARIANT, Attributes(device_id="a", runtimes={"onnx": ""})) == ()
    assert obstacles(VARIANT, Attributes(device_id="a")) == ("has no runtime onnx",)


@pytest.mark.parametrize(
    ("installed", "needed", "fits"),
    [
        ("1.20.1", "1.20", True),
        ("1.20", "1.20.0", True),
        ("1.20.0", "1.20", True),
        ("1.19.9", "1.20", False),
        ("2", "1.20", True),
        ("1.9", "1.10", False),
        ("1.20rc1", "1.20", True),
        ("1.20.0+cpu", "1.20", True),
        ("1.20.dev3", "1.20", True),
        ("unknown", "1.20", False),
        ("", "1.20", False),
        ("", "", True),
        ("0", "", True),
        ("9" * 30, "1.20", True),
    ],
)
def test_runtime_versions_are_compared_as_numbers(installed: str, needed: str, *, fits: bool) -> None:
    variant = replace(VARIANT, requires=Requirements(runtime_version=needed))
    device = replace(DEVICE, runtimes={"onnx": installed})
    assert (obstacles(variant, device) == ()) is fits


@pytest.mark.parametrize(
    ("requires", "why"),
    [
        ({"os": ("macos", "ios")}, "needs macos or ios, is linux"),
        ({"arch": ("aarch64",)}, "needs aarch64, is x86_64"),
        ({"accelerator": "edgetpu"}, "needs the accelerator edgetpu"),
        ({"ram_bytes": 2**31}, "needs 2147483648 bytes of RAM, has 1073741824"),
        ({"runtime_version": "9"}, "needs onnx 9 or newer, has 1.20.1"),
    ],
)
def test_each_requirement_is_an_obstacle_in_words(requires: dict[str, Any], why: str) -> None:
    assert obstacles(replace(VARIANT, requires=Requirements(**requires)), DEVICE) == (why,)


def test_what_a_device_does_not_say_does_not_fit() -> None:
    """Fail closed: a silent device is not taken for a fitting one."""
    requires = Requirements(os=("linux",), arch=("x86_64",), ram_bytes=1, accelerator="gpu")
    silent = Attributes(device_id="a", runtimes={"onnx": "1.20"})
    assert len(obstacles(replace(VARIANT, requires=requires), silent)) == 4


def test_the_accelerator_is_an_attribute_of_the_devices_own() -> None:
    variant = replace(VARIANT, requires=Requirements(accelerator="edgetpu"))
    assert obstacles(variant, replace(DEVICE, extra={"accelerator": "edgetpu"})) == ()


def test_what_failed_its_verification_is_never_taken_and_what_did_not_run_may_be() -> None:
    def verified(status: VerificationStatus) -> tuple[str, ...]:
        return obstacles(replace(VARIANT, verification=replace(VARIANT.verification, status=status)), DEVICE)

    assert verified(VerificationStatus.FAILED) == ("failed its verification at conversion",)
    assert verified(VerificationStatus.NOT_RUN) == ()
    assert verified(VerificationStatus.PASSED) == ()


def test_the_variant_of_least_rank_is_taken() -> None:
    release = sample_release()
    choice = choose_variant(release, DEVICE)
    assert choice.variant is release.variants[0]
    assert choice.rejected == {"tflite-fp32": ("ranked after onnx-fp32",)}
    assert choice.explain() == "variant onnx-fp32 fits"
    assert choose_variant(release, replace(DEVICE, runtimes={"tflite": "2.1"})).variant is release.variants[1]


def test_a_device_nothing_fits_is_told_why_variant_by_variant() -> None:
    choice = choose_variant(sample_release(), Attributes(device_id="a", arch="x86_64", ram_bytes=2**30))
    assert choice.variant is None
    assert choice.explain() == (
        "no variant fits this device (onnx-fp32: has no runtime onnx; tflite-fp32: has no runtime tflite)"
    )


@settings(max_examples=30)
@given(releases(), attributes())
def test_the_choice_is_the_best_of_those_without_an_obstacle(release: Release, device: Attributes) -> None:
    choice = choose_variant(release, device)
    fitting = [variant for variant in release.variants if not obstacles(variant, device)]
    if choice.variant is None:
        assert not fitting
    else:
        assert choice.variant in fitting
        assert choice.variant.rank == min(variant.rank for variant in fitting)
    named = set(choice.rejected) | ({choice.variant.id} if choice.variant else set())
    assert named == {variant.id for variant in release.variants}
    assert choice.explain()


@settings(max_examples=30)
@given(releases(), attributes())
def test_the_order_of_variants_in_the_manifest_does_not_matter(release: Release, device: Attributes) -> None:
    turned = replace(release, variants=release.variants[::-1])
    assert choose_variant(turned, device).variant == choose_variant(release, device).variant
