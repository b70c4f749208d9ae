"""Synthetic speech: invented words said by invented speakers, made by a source and a filter.

Nothing here was ever said. A phone is a set of formants and a share of noise; a word is a row of phones that
glide into one another; a speaker has a pitch, a vocal tract's length, a pace and a melody of their own. What
varies is drawn from the generator handed in, so equal generators give equal waves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["PHONES", "SAMPLES", "SAMPLE_RATE", "WORDS", "Wave", "said", "silence"]

SAMPLE_RATE = 8000
SAMPLES = SAMPLE_RATE
"""A second."""

WORDS = ("mano", "nami", "siku", "suki", "fela", "lefu", "rolu", "tano")
"""Pairs that share phones: an answer must hear the order, not only the sounds."""

Wave = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Phone:
    """How a phone sounds."""

    formants: tuple[float, float, float]
    """Hertz, of a vocal tract of ordinary length."""
    voice: float = 1.0
    noise: float = 0.0
    seconds: float = 0.12


PHONES = {
    "a": _Phone(formants=(730, 1090, 2440)),
    "e": _Phone(formants=(530, 1840, 2480)),
    "i": _Phone(formants=(270, 2290, 3010)),
    "o": _Phone(formants=(570, 840, 2410)),
    "u": _Phone(formants=(300, 870, 2240)),
    "m": _Phone(formants=(250, 1000, 2200), voice=0.35, seconds=0.08),
    "n": _Phone(formants=(250, 1600, 2600), voice=0.35, seconds=0.08),
    "l": _Phone(formants=(360, 1300, 2700), voice=0.5, seconds=0.07),
    "r": _Phone(formants=(420, 1300, 1600), voice=0.5, seconds=0.07),
    "s": _Phone(formants=(2500, 3200, 3800), voice=0.0, noise=0.5, seconds=0.1),
    "f": _Phone(formants=(900, 2000, 3400), voice=0.0, noise=0.25, seconds=0.09),
    "k": _Phone(formants=(1500, 1900, 2400), voice=0.0, noise=0.45, seconds=0.04),
    "t": _Phone(formants=(2200, 2900, 3600), voice=0.0, noise=0.45, seconds=0.04),
}
"""Of which words are made: the words' letters."""

_FRAME = 80
"""Samples between two points of a track: 10 ms."""
_FRAMES = SAMPLES // _FRAME
_GLIDE_FRAMES = 5
"""How long one phone takes to become the next."""
_BANDWIDTHS = (90.0, 130.0, 200.0)
_LOUDNESS = (1.0, 0.6, 0.35)
_PITCH_HZ = (85.0, 260.0)
_MELODY = 0.2
_TRACT = (0.85, 1.18)
"""Of the ordinary length's formants."""
_PACE = (0.75, 1.35)
_SIGNAL_TO_NOISE_DB = (0.0, 30.0)
_LEVEL_DB = (-30.0, -6.0)
_COLOUR = (0.0, 0.97)
"""Of background noise, from white to a rumble."""


def said(word: Sequence[str], generator: np.random.Generator) -> Wave:
    """A word said once by somebody, somewhere in a second of background noise."""
    tract, pace = generator.uniform(*_TRACT), generator.uniform(*_PACE)
    seconds = [PHONES[phone].seconds * generator.uniform(0.8, 1.25) / pace for phone in word]
    frames = np.maximum(2, np.rint(np.array(seconds) * SAMPLE_RATE / _FRAME).astype(int))
    spoken = _tracks(word, frames, tract, generator)
    sound = _voiced(spoken, _pitch(len(spoken.voice), generator)) + _noisy(spoken, generator)
    wave = np.zeros(SAMPLES, np.float32)
    begin = int(generator.integers(0, max(1, SAMPLES - len(sound))))
    sound = sound[: SAMPLES - begin]
    wave[begin : begin + len(sound)] = sound / max(1e-6, float(np.sqrt(np.mean(sound**2))))
    noise = _background(generator)
    mixed = wave + noise * 10 ** (-generator.uniform(*_SIGNAL_TO_NOISE_DB) / 20)
    return _at_level(mixed, generator)


def silence(generator: np.random.Generator) -> Wave:
    """A second of background noise."""
    return _at_level(_background(generator), generator)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tracks:
    """What the mouth does, a row every 10 ms."""

    formants: NDArray[np.float32]
    """[frames, 3], hertz"""
    voice: NDArray[np.float32]
    noise: NDArray[np.float32]


def _tracks(
    word: Sequence[str], frames: NDArray[np.int64], tract: float, generator: np.random.Generator
) -> _Tracks:
    """Step from phone to phone, then smooth the steps into glides."""
    phones = [PHONES[phone] for phone in word]
    jitter = generator.uniform(0.95, 1.05, (len(phones), 3))
    formants = np.repeat(np.array([phone.formants for phone in phones]) * jitter * tract, frames, axis=0)
    voice = np.repeat([phone.voice for phone in phones], frames)
    noise = np.repeat([phone.noise for phone in phones], frames)
    kernel = np.hanning(_GLIDE_FRAMES + 2)[1:-1]
    kernel /= kernel.sum()

    def smooth(track: NDArray[np.float64], mode: str) -> NDArray[np.float32]:
        padded = np.pad(track, _GLIDE_FRAMES // 2, mode=mode)  # type: ignore[call-overload]
        return np.asarray(np.convolve(padded, kernel, "valid"), np.float32)

    return _Tracks(
        formants=np.stack([smooth(formants[:, index], "edge") for index in range(3)], axis=1),
        voice=smooth(voice, "constant"),
        noise=smooth(noise, "constant"),
    )


def _pitch(frames: int, generator: np.random.Generator) -> NDArray[np.float32]:
    """Hertz every 10 ms: a base, and a rise or a fall over the word."""
    base = np.exp(generator.uniform(*np.log(_PITCH_HZ)))
    rise = generator.uniform(-_MELODY, _MELODY)
    return np.asarray(base * np.linspace(1, 1 + rise, frames), np.float32)


def _response(spoken: _Tracks, hertz: NDArray[np.float32]) -> NDArray[np.float32]:
    """How loud the mouth makes each frequency, [frames, frequencies]; hertz is [frames or 1, frequencies]."""
    made = np.zeros((len(spoken.voice), hertz.shape[1]), np.float32)
    for index, (width, loudness) in enumerate(zip(_BANDWIDTHS, _LOUDNESS, strict=True)):
        away = (hertz - spoken.formants[:, index : index + 1]) / width
        made += loudness / np.sqrt(1 + away**2)
    return made


def _voiced(spoken: _Tracks, pitch: NDArray[np.float32]) -> Wave:
    """Harmonics of the pitch, each as loud as the mouth makes it; a voice falls off with frequency."""
    count = int(SAMPLE_RATE / 2 / pitch.max())
    number = np.arange(1, count + 1, dtype=np.float32)
    loudness = _response(spoken, pitch[:, None] * number) * spoken.voice[:, None] / np.sqrt(number)
    samples = len(pitch) * _FRAME
    phase = 2 * np.pi * np.cumsum(_at_samples(pitch), dtype=np.float64) / SAMPLE_RATE
    # Each harmonic by the one before: e^{ikφ} costs a multiplication, a sine twenty.
    turn = np.exp(1j * phase).astype(np.complex64)
    turned, wave = np.ones(samples, np.complex64), np.zeros(samples, np.float32)
    for index in range(count):
        turned = turned * turn
        wave += turned.imag * _at_samples(loudness[:, index])
    return wave


def _noisy(spoken: _Tracks, generator: np.random.Generator) -> Wave:
    """White noise with the spectrum of the mouth, frame by frame, overlapped."""
    length = 2 * _FRAME
    count = len(spoken.noise)
    white = generator.standard_normal((count, length), dtype=np.float32) * np.hanning(length).astype(
        np.float32
    )
    hertz = np.fft.rfftfreq(length, 1 / SAMPLE_RATE).astype(np.float32)[None]
    shaped = np.fft.irfft(np.fft.rfft(white) * _response(spoken, hertz) * spoken.noise[:, None], length)
    wave = np.zeros((count + 1) * _FRAME, np.float32)
    for index, frame in enumerate(shaped):
        wave[index * _FRAME : index * _FRAME + length] += frame
    return 4 * wave[: count * _FRAME]


def _at_samples(track: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """A track of 10 ms at every sample, in straight lines."""
    after = np.append(track[1:], track[-1:])
    part = np.arange(_FRAME, dtype=np.float32) / _FRAME
    return np.asarray(track[:, None] + (after - track)[:, None] * part, np.float32).ravel()


def _background(generator: np.random.Generator) -> Wave:
    """Noise of loudness 1, between white and brown."""
    white = np.fft.rfft(generator.standard_normal(SAMPLES))
    turn = np.exp(-2j * np.pi * np.arange(len(white)) / SAMPLES)
    noise = np.fft.irfft(white / (1 - generator.uniform(*_COLOUR) * turn), SAMPLES)
    return np.asarray(noise / np.sqrt(np.mean(noise**2)), np.float32)


def _at_level(wave: Wave, generator: np.random.Generator) -> Wave:
    """As loud as somebody's microphone makes it, within −1…1."""
    level = 10 ** (generator.uniform(*_LEVEL_DB) / 20)
    return np.asarray(np.clip(wave / np.abs(wave).max() * level, -1, 1), np.float32)
