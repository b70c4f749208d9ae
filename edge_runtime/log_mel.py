"""Log-mel spectra of mono waveforms, by numpy alone, in double precision up to the last cast.

Agrees with librosa's and torchaudio's filter banks: triangles straight in hertz.
"""

from __future__ import annotations

import functools

import numpy as np

from edge_runtime.errors import InputError
from edge_runtime.port import AnyArray
from ota_contract.preprocessing_steps import (
    MAX_PIXELS,
    MAX_SAMPLES,
    FilterNorm,
    LogMel,
    LogScale,
    MelScale,
    Window,
)

__all__ = ["log_mel"]

_PCM16 = 1 / 32768
_CHUNK = 2**20
"""Numbers in memory at once: a long waveform is transformed in parts."""
_SLANEY_BREAK_HZ, _SLANEY_HZ, _SLANEY_STEP = 1000.0, 200.0 / 3, np.log(6.4) / 27


def log_mel(step: LogMel, waves: AnyArray) -> AnyArray:
    """FP32 `[batch, frames, mels]` of INT16 (PCM) or FP32 waveforms `[batch, samples]`.

    Raises:
        InputError: Not such waveforms, shorter than a frame, too long, or not finite.
    """
    if waves.ndim != 2 or waves.dtype not in (np.int16, np.float32):  # noqa: PLR2004 - batch, samples
        shape = list(waves.shape)
        raise InputError(f"log_mel takes INT16 or FP32 [batch, samples], got {waves.dtype} of shape {shape}")
    least = step.frame_length // 2 + 1 if step.centred else step.frame_length
    if not least <= waves.shape[1] <= MAX_SAMPLES:
        raise InputError(f"a waveform of {waves.shape[1]} samples; {least} to {MAX_SAMPLES} can be framed")
    if not np.isfinite(waves).all():
        raise InputError("a waveform holds NaN or infinity")
    samples = waves.astype(np.float64) * (_PCM16 if waves.dtype == np.int16 else 1.0)
    if step.centred:
        half = step.frame_length // 2
        samples = np.pad(samples, ((0, 0), (half, half)), mode="reflect")
    count = 1 + (samples.shape[1] - step.frame_length) // step.frame_step
    if len(waves) * count * step.mels > MAX_PIXELS:
        raise InputError(f"{count} frames of {step.mels} mels; at most {MAX_PIXELS} numbers are made")
    return np.stack([_spectra(step, row, count) for row in samples]) if len(waves) else _none(step, count)


def _none(step: LogMel, count: int) -> AnyArray:
    return np.zeros((0, count, step.mels), np.float32)


def _spectra(step: LogMel, samples: AnyArray, count: int) -> AnyArray:
    framed = np.lib.stride_tricks.sliding_window_view(samples, step.frame_length)[:: step.frame_step]
    window, bank = _window(step), _filter_bank(step)
    at_once = max(1, _CHUNK // step.fft_length)
    parts = []
    for begin in range(0, count, at_once):
        spectrum = np.abs(np.fft.rfft(framed[begin : begin + at_once] * window, step.fft_length))
        mels = (spectrum**step.power) @ bank
        parts.append(_logarithm(step, np.maximum(mels, step.floor)).astype(np.float32))
    return np.concatenate(parts)


def _logarithm(step: LogMel, value: AnyArray) -> AnyArray:
    match step.log:
        case LogScale.NATURAL:
            return np.asarray(np.log(value))
        case LogScale.DECIMAL:
            return np.asarray(np.log10(value))
        case LogScale.DECIBEL:
            return np.asarray(10 * np.log10(value))


@functools.lru_cache(maxsize=8)
def _window(step: LogMel) -> AnyArray:
    angle = 2 * np.pi * np.arange(step.frame_length) / step.frame_length
    match step.window:
        case Window.HANN:
            return np.asarray(0.5 - 0.5 * np.cos(angle))
        case Window.HAMMING:
            return np.asarray(0.54 - 0.46 * np.cos(angle))
        case Window.RECTANGULAR:
            return np.ones(step.frame_length)


@functools.lru_cache(maxsize=8)
def _filter_bank(step: LogMel) -> AnyArray:
    """Weights `[frequencies, mels]`: triangles whose corners are even in mels."""
    bins = np.arange(step.fft_length // 2 + 1) * step.sample_rate / step.fft_length
    low, high = _to_mel(step.mel_scale, np.array([step.f_min, step.f_max]))
    corners = _to_hz(step.mel_scale, np.linspace(low, high, step.mels + 2))
    widths = np.diff(corners)
    slopes = corners - bins[:, np.newaxis]
    weights = np.maximum(0, np.minimum(-slopes[:, :-2] / widths[:-1], slopes[:, 2:] / widths[1:]))
    if step.norm is FilterNorm.SLANEY:
        weights *= 2 / (corners[2:] - corners[:-2])
    return np.asarray(weights)


def _to_mel(scale: MelScale, hertz: AnyArray) -> AnyArray:
    if scale is MelScale.HTK:
        return np.asarray(2595 * np.log10(1 + hertz / 700))
    linear = hertz / _SLANEY_HZ
    over = np.log(np.maximum(hertz, _SLANEY_BREAK_HZ) / _SLANEY_BREAK_HZ) / _SLANEY_STEP
    return np.where(hertz < _SLANEY_BREAK_HZ, linear, _SLANEY_BREAK_HZ / _SLANEY_HZ + over)


def _to_hz(scale: MelScale, mels: AnyArray) -> AnyArray:
    if scale is MelScale.HTK:
        return np.asarray(700 * (10 ** (mels / 2595) - 1))
    broken = _SLANEY_BREAK_HZ / _SLANEY_HZ
    over = _SLANEY_BREAK_HZ * np.exp(_SLANEY_STEP * (np.maximum(mels, broken) - broken))
    return np.where(mels < broken, mels * _SLANEY_HZ, over)
