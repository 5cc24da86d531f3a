"""Sound as what a network reads: the logarithms of energies in bands of the mel scale, step by step.

The mel scale, on which equal steps sound equal: mel = 2595·log10(1 + f/700) (O'Shaughnessy 1987). Bands are triangles
that overlap by half, as Davis and Mermelstein 1980 have them; slopes over time as Furui 1986.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from rnncore.data.readers import DataError
from rnncore.optim.arguments import check_count, check_number

__all__ = ["log_mel", "mel_bands", "n_steps", "normalised", "read_wav"]

HOP = 0.010  # seconds from one step to the next, unless told
_MOST_DELTAS = 2
_REACH = 2  # steps to each side that a slope is measured over


def log_mel(
    samples: Any,
    sample_rate: float,
    n_mels: int = 40,
    window: float = 0.025,
    hop: float = HOP,
    low: float = 20.0,
    high: float | None = None,
    floor: float = 1e-8,
    deltas: int = 0,
    normalise: bool = False,
) -> np.ndarray:
    """Return the logarithms of a sound's energies in mel bands.

    Parameters
    ----------
    samples : (N,) array
        Whole numbers are divided by the largest of their type; floats are taken as they are, usually within ±1.
    sample_rate : float
        Samples in a second.
    n_mels : int
        How many bands.
    window, hop : float
        Seconds that each step looks at (through a Hann window), and from one step to the next.
    low, high : float, optional
        The lowest and the highest frequency, in Hertz; None: half the sample rate.
    floor : float
        Added to energies, so that silence has a logarithm.
    deltas : int
        1: slopes over time beside the energies; 2: the slopes' slopes, too.
    normalise : bool
        Give each band of this sound the mean 0 and the standard deviation 1.

    Returns
    -------
    (T, n_mels·(1 + deltas)) float32
        T = 1 + (N - window) // hop in samples; a sound shorter than a window is filled up with silence to one.

    Raises
    ------
    DataError, ValueError, TypeError
        For samples that are none, and settings out of range.

    Examples
    --------
    >>> t = np.arange(4000) / 8000
    >>> energies = log_mel(np.sin(2 * np.pi * 1000 * t), 8000)
    >>> energies.shape, int(energies[20].argmax())
    ((48, 40), 18)
    """
    from scipy import fft, signal  # what needs no sound need not wait for it

    check_number("sample_rate", sample_rate, "(0, inf)", 16000)
    check_count("n_mels", n_mels, 1)
    check_count("deltas", deltas, 0)
    if deltas > _MOST_DELTAS:
        raise ValueError(f"deltas: expected 0, 1 or 2, got {deltas}")
    check_number("floor", floor, "(0, inf)", 1e-8)
    length, step = _in_samples("window", window, sample_rate), _in_samples("hop", hop, sample_rate)
    sound = _sound(samples)
    if len(sound) < length:
        sound = np.pad(sound, (0, length - len(sound)))
    size = fft.next_fast_len(length, real=True)
    shape = signal.windows.hann(length, sym=False)
    frames = np.lib.stride_tricks.sliding_window_view(sound, length)[::step] * shape
    energies = np.abs(fft.rfft(frames, size)) ** 2 / (shape**2).sum()
    found = np.log(energies @ _bands(n_mels, size, sample_rate, low, high) + floor)
    parts = [found]
    for _ in range(deltas):
        parts.append(_slopes(parts[-1]))
    found = np.concatenate(parts, axis=1)
    return (_scaled(found, found) if normalise else found).astype(np.float32)


def mel_bands(n_mels: int, size: int, sample_rate: float, low: float = 20.0, high: float | None = None) -> np.ndarray:
    """Return what each frequency of a Fourier transform of `size` samples counts in each band: (size // 2 + 1, n_mels).

    Examples
    --------
    >>> bands = mel_bands(10, 256, 8000)
    >>> bands.shape, bool((bands.sum(axis=0) > 0).all())
    ((129, 10), True)
    """
    top = sample_rate / 2 if high is None else high
    if not 0 <= low < top <= sample_rate / 2:
        raise ValueError(f"low and high: expected 0 <= low < high <= {sample_rate / 2:g} Hz, got {low!r} and {high!r}")
    ends = 2595 * np.log10(1 + np.array([low, top]) / 700)
    corners = 700 * (10 ** (np.linspace(ends[0], ends[1], n_mels + 2) / 2595) - 1)
    left, middle, right = corners[:-2], corners[1:-1], corners[2:]
    at = np.arange(size // 2 + 1)[:, None] * (sample_rate / size)
    bands: np.ndarray = np.maximum(0, np.minimum((at - left) / (middle - left), (right - at) / (right - middle)))
    if (bands.sum(axis=0) == 0).any():
        raise ValueError(
            f"n_mels={n_mels}: the lowest bands are narrower than frequencies can be told apart; take fewer"
        )
    return bands


_bands = functools.lru_cache(maxsize=8)(mel_bands)


def n_steps(n_samples: Any, sample_rate: float, window: float = 0.025, hop: float = HOP, **others: Any) -> Any:
    """Return how many steps `log_mel` with these options makes of so many samples, of each of some sounds.

    Examples
    --------
    >>> n_steps(np.array([4000, 10]), 8000).tolist()
    [48, 1]
    """
    length, step = _in_samples("window", window, sample_rate), _in_samples("hop", hop, sample_rate)
    return np.where(n_samples, 1 + np.maximum(n_samples - length, 0) // step, 0)


def normalised(features: Sequence[Any], groups: Sequence[Hashable]) -> list[np.ndarray]:
    """Give the features of each group of sounds, such as a speaker's, the mean 0 and the standard deviation 1.

    Parameters
    ----------
    features : list of (T, D) arrays
    groups : list
        Whose each sound is.

    Examples
    --------
    >>> loud, soft = np.array([[9.0], [11.0]]), np.array([[1.0], [3.0]])
    >>> [part.ravel().tolist() for part in normalised([loud, soft], ["Ann", "Bob"])]
    [[-1.0, 1.0], [-1.0, 1.0]]
    """
    if len(features) != len(groups):
        raise DataError(f"expected a group for each of {len(features)} sounds, got {len(groups)}")
    together: dict[Hashable, list[np.ndarray]] = {}
    for part, group in zip(features, groups, strict=True):
        together.setdefault(group, []).append(np.asarray(part))
    every = {group: np.concatenate(parts).astype(np.float64) for group, parts in together.items()}
    return [
        _scaled(np.asarray(part), every[group]).astype(np.asarray(part).dtype)
        for part, group in zip(features, groups, strict=True)
    ]


def read_wav(path: str | os.PathLike[str]) -> tuple[np.ndarray, int]:
    """Read a .wav file.

    Returns
    -------
    samples : (N,) float32
        Within ±1; of several channels their mean.
    sample_rate : int

    Raises
    ------
    DataError
        For a file that is not in this format.
    OSError
    """
    from scipy.io import wavfile

    try:
        rate, samples = wavfile.read(path)
    except (ValueError, EOFError) as error:
        raise DataError(f"{os.fspath(path)}: expected a .wav file ({error})") from None
    if samples.dtype == np.uint8:  # the one kind whose silence is not 0
        samples = (samples.astype(np.int16) - 128) * 256
    if samples.ndim == 2:
        samples = np.stack([_sound(samples[:, channel]) for channel in range(samples.shape[1])]).mean(axis=0)
    return _sound(samples).astype(np.float32), int(rate)


def _sound(samples: Any) -> np.ndarray:
    """Return samples as float64."""
    given = np.asarray(samples)
    if given.ndim != 1 or given.dtype.kind not in "fi" or not len(given):
        raise DataError(
            f"expected the samples of a sound, (N,) floats or whole numbers, got {given.dtype} {given.shape}"
        )
    if given.dtype.kind == "i":
        return given / (float(np.iinfo(given.dtype).max) + 1)
    if not np.isfinite(given).all():
        raise DataError("samples hold NaN or infinite values")
    return given.astype(np.float64)


def _in_samples(name: str, seconds: float, sample_rate: float) -> int:
    check_number(name, seconds, "(0, inf)", 0.02)
    n = round(seconds * sample_rate)
    if n < 1:
        raise ValueError(f"{name}={seconds} is less than one sample; it is in seconds")
    return n


def _slopes(values: np.ndarray) -> np.ndarray:
    """Return the slope of a line through each step and those around it (T, D)."""
    padded = np.pad(values, ((_REACH, _REACH), (0, 0)), mode="edge")
    n = len(values)
    total = sum(
        k * (padded[_REACH + k : _REACH + k + n] - padded[_REACH - k : _REACH - k + n]) for k in range(1, _REACH + 1)
    )
    return np.asarray(total) / (2 * sum(k * k for k in range(1, _REACH + 1)))


def _scaled(values: np.ndarray, by: np.ndarray) -> np.ndarray:
    spread = by.std(axis=0)
    scaled: np.ndarray = (values - by.mean(axis=0)) / np.where(spread > 0, spread, 1)
    return scaled
