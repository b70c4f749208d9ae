"""Log-mel spectra: against transformers' own numpy code, and against SciPy and the formulas."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.signal
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.audio_utils import mel_filter_bank, spectrogram

from edge_runtime.errors import InputError
from edge_runtime.port import AnyArray
from edge_runtime.preprocessing import prepare
from ota_contract.preprocessing import InputSpec
from ota_contract.preprocessing_steps import (
    FilterNorm,
    FitLength,
    LogMel,
    LogScale,
    MelScale,
    Step,
    Window,
)
from ota_contract.tensors import Datatype


def step(**changes: Any) -> LogMel:
    values: dict[str, Any] = {
        "sample_rate": 16_000,
        "frame_length": 400,
        "frame_step": 160,
        "fft_length": 512,
        "mels": 40,
        "f_min": 20.0,
        "f_max": 7_600.0,
        "floor": 1e-6,
    }
    return LogMel(**{**values, **changes})


def run(wave: AnyArray, *steps: Step) -> AnyArray:
    datatype = Datatype.INT16 if wave.dtype == np.int16 else Datatype.FP32
    spec = InputSpec(input="x", raw_datatype=datatype, raw_shape=(-1, -1), steps=steps)
    return prepare([spec], {"x": wave})["x"]


def tone(samples: int = 4_800, seed: int = 0) -> AnyArray:
    """Two tones in noise."""
    time = np.arange(samples) / 16_000
    noise = np.random.default_rng(seed).normal(0, 0.05, samples)
    wave: AnyArray = (np.sin(2 * np.pi * 440 * time) / 3 + np.sin(2 * np.pi * 3_000 * time) / 5 + noise)[None]
    return wave.astype(np.float32)


def by_transformers(wave: AnyArray, made: LogMel) -> AnyArray:
    """Frames of the FFT's length, the window padded in its middle: only the centred ones are alike."""
    bank = mel_filter_bank(
        num_frequency_bins=made.fft_length // 2 + 1,
        num_mel_filters=made.mels,
        min_frequency=made.f_min,
        max_frequency=made.f_max,
        sampling_rate=made.sample_rate,
        norm="slaney" if made.norm is FilterNorm.SLANEY else None,
        mel_scale=made.mel_scale.value,
    )
    window = {
        Window.HANN: scipy.signal.get_window("hann", made.frame_length),
        Window.HAMMING: scipy.signal.get_window("hamming", made.frame_length),
        Window.RECTANGULAR: np.ones(made.frame_length),
    }[made.window]
    mels = spectrogram(
        wave[0].astype(np.float64),
        window,
        frame_length=made.frame_length,
        hop_length=made.frame_step,
        fft_length=made.fft_length,
        power=float(made.power),
        center=made.centred,
        mel_filters=bank,
        mel_floor=made.floor,
        dtype=np.dtype(np.float64),
    )
    factor = {LogScale.NATURAL: np.log(10), LogScale.DECIMAL: 1.0, LogScale.DECIBEL: 10.0}[made.log]
    found: AnyArray = factor * np.log10(mels)
    return found.T


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"window": Window.HAMMING, "power": 1},
        {"window": Window.RECTANGULAR, "log": LogScale.DECIMAL},
        {"mel_scale": MelScale.SLANEY, "norm": FilterNorm.SLANEY, "log": LogScale.DECIBEL},
        {"mel_scale": MelScale.SLANEY, "f_min": 0.0, "f_max": 8_000.0, "mels": 64},
        {"norm": FilterNorm.SLANEY, "centred": True},
        {"centred": True, "frame_step": 123, "frame_length": 512},
    ],
)
@pytest.mark.parametrize("pcm", [False, True])
def test_it_is_what_transformers_computes(changes: dict[str, Any], pcm: bool) -> None:  # noqa: FBT001
    made, wave = step(**changes), tone()
    fed = np.rint(wave * 32_767).astype(np.int16) if pcm else wave
    wanted = by_transformers(fed / np.float32(32_768) if pcm else fed, made)
    got = run(fed, made)
    assert (got.dtype.name, got.shape) == ("float32", (1, *wanted.shape))
    np.testing.assert_allclose(got[0], wanted, atol=2e-5)


def test_it_is_the_formula() -> None:
    """Frame by frame, triangle by triangle, with SciPy's window and FFT."""
    made, wave = step(frame_length=64, frame_step=50, fft_length=64, mels=5), tone(400)

    def mel(hertz: float) -> float:
        return float(2595 * np.log10(1 + hertz / 700))

    even = np.linspace(mel(made.f_min), mel(made.f_max), made.mels + 2)
    corners = [700 * (10 ** (value / 2595) - 1) for value in even]
    for frame in range((400 - 64) // 50 + 1):
        piece = wave[0, frame * 50 : frame * 50 + 64].astype(np.float64)
        power = np.abs(scipy.fft.rfft(piece * scipy.signal.get_window("hann", 64))) ** 2
        for index, (low, middle, high) in enumerate(zip(corners, corners[1:], corners[2:], strict=False)):
            total = 0.0
            for number, value in enumerate(power):
                hertz = number * 16_000 / 64
                if low < hertz < high:
                    up, down = (hertz - low) / (middle - low), (high - hertz) / (high - middle)
                    total += min(up, down) * value
            assert run(wave, made)[0, frame, index] == pytest.approx(np.log(max(total, 1e-6)), abs=1e-5)


def test_silence_is_the_floor() -> None:
    np.testing.assert_allclose(run(np.zeros((2, 800), np.int16), step()), np.log(1e-6), rtol=1e-6)


@settings(deadline=None)
@given(st.integers(1, 4), st.integers(400, 3_000), st.booleans())
def test_a_batch_is_its_rows(rows: int, samples: int, centred: bool) -> None:  # noqa: FBT001
    made = step(centred=centred)
    waves = np.concatenate([tone(samples, seed) for seed in range(rows)])
    got = run(waves, made)
    frames = 1 + (samples if centred else samples - 400) // 160
    assert got.shape == (rows, frames, 40)
    for row in range(rows):
        np.testing.assert_array_equal(got[row : row + 1], run(waves[row : row + 1], made))


def test_a_long_waveform_is_transformed_in_parts() -> None:
    """The parts' seam is nowhere to be seen."""
    made = step(frame_step=10)
    wave = tone(40_000)
    got = run(wave, made)
    assert got.shape[1] > 2**20 // 512
    np.testing.assert_array_equal(got[:, 3_000:], run(wave[:, 30_000:], made))


def test_waveforms_are_cut_or_filled_up() -> None:
    wave = tone(1_000)
    short, long = run(wave, FitLength(length=600)), run(wave, FitLength(length=1_200))
    np.testing.assert_array_equal(short, wave[:, :600])
    np.testing.assert_array_equal(long, np.pad(wave, ((0, 0), (0, 200))))
    assert run(wave[:, :700], FitLength(length=1_000), step()).shape == (1, 4, 40)


@pytest.mark.parametrize(
    ("wave", "why"),
    [
        (np.zeros((1, 399), np.int16), "a waveform of 399 samples; 400 to 16777216"),
        (np.zeros((1, 2**24 + 1), np.int16), "a waveform of 16777217 samples"),
        (np.full((1, 500), np.nan, np.float32), "a waveform holds NaN or infinity"),
        (np.zeros((40, 2**20), np.int16), "1048177 frames of 40 mels; at most 67108864"),
    ],
)
def test_what_cannot_be_framed_is_refused(wave: AnyArray, why: str) -> None:
    with pytest.raises(InputError, match=f"raw input x: {why}"):
        run(wave, step(frame_step=1))


def test_other_types_and_shapes_are_refused() -> None:
    spec = InputSpec(input="x", raw_datatype=Datatype.FP64, raw_shape=(-1, -1), steps=(step(),))
    with pytest.raises(InputError, match=r"log_mel takes INT16 or FP32 \[batch, samples\], got float64"):
        prepare([spec], {"x": np.zeros((1, 500))})
