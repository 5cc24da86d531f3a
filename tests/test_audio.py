"""Sound to features, files of it, and strings glued or dialled."""

import numpy as np
import pytest
from scipy.io import wavfile

import rnncore as rc
from rnncore.audio import log_mel, mel_bands, normalised, read_wav
from rnncore.data.readers import DataError

RATE = 8000


def tone(hertz, seconds=0.5, loud=0.5):
    return loud * np.sin(2 * np.pi * hertz * np.arange(int(RATE * seconds)) / RATE)


def slow_log_mel(sound, n_mels, length, hop, size):
    """Each step, each band, by the definition."""
    bands = mel_bands(n_mels, size, RATE)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)
    found = []
    for start in range(0, len(sound) - length + 1, hop):
        part = sound[start : start + length] * hann
        k = np.arange(size // 2 + 1)[:, None]
        wave = (part * np.exp(-2j * np.pi * k * np.arange(length) / size)).sum(axis=1)
        found.append(np.log(abs(wave) ** 2 / (hann**2).sum() @ bands + 1e-8))
    return np.array(found)


def test_log_mel_is_its_definition():
    sound = np.random.default_rng(0).standard_normal(1000)
    np.testing.assert_allclose(log_mel(sound, RATE, n_mels=12), slow_log_mel(sound, 12, 200, 80, 200), rtol=1e-5)


@pytest.mark.parametrize("hertz", [300, 1000, 2500])
def test_a_tone_is_loudest_in_its_band(hertz):
    bands = mel_bands(40, 200, RATE)
    loudest = int(log_mel(tone(hertz), RATE)[10].argmax())
    assert bands[round(hertz * 200 / RATE), loudest] > 0.3


def test_bands_overlap_so_that_every_frequency_between_counts_once():
    bands = mel_bands(20, 1024, RATE)
    middle = bands[40:400]
    assert bands.min() >= 0
    np.testing.assert_allclose(middle.sum(axis=1), 1, atol=1e-12)


def test_whole_numbers_and_floats_say_the_same():
    sound = tone(500)
    whole = (sound * 32768).astype(np.int16)
    np.testing.assert_allclose(log_mel(whole, RATE), log_mel(whole / 32768, RATE))


def test_loudness_only_shifts_the_logarithms():
    quiet, loud = log_mel(tone(500, loud=0.1), RATE, floor=1e-30), log_mel(tone(500, loud=1.0), RATE, floor=1e-30)
    np.testing.assert_allclose(loud - quiet, np.log(100), rtol=1e-4)


def test_short_sounds_are_filled_up_and_long_ones_keep_whole_windows():
    assert log_mel(tone(500)[:10], RATE).shape == (1, 40)
    assert log_mel(tone(500)[:200], RATE).shape == (1, 40)
    assert log_mel(tone(500)[:279], RATE).shape == (1, 40)
    assert log_mel(tone(500)[:280], RATE).shape == (2, 40)


def test_slopes_are_those_of_a_line():
    found = log_mel(tone(500), RATE, deltas=2)
    assert found.shape[1] == 120
    energies, slopes = found[:, :40], found[:, 40:80]
    expected = np.polyfit(np.arange(-2, 3), energies[8:13].astype(np.float64), 1)[0]
    np.testing.assert_allclose(slopes[10], expected, atol=1e-5)


def test_normalising_takes_off_what_is_a_speakers():
    rng = np.random.default_rng(1)
    sounds = [log_mel(rng.standard_normal(2000) * (1 + n), RATE, n_mels=8) for n in range(4)]
    found = normalised(sounds, ["a", "b", "a", "b"])
    for group in (0, 1):
        together = np.concatenate(found[group::2])
        np.testing.assert_allclose(together.mean(axis=0), 0, atol=1e-5)
        np.testing.assert_allclose(together.std(axis=0), 1, atol=1e-5)
    alone = log_mel(rng.standard_normal(2000), RATE, n_mels=8, normalise=True)
    np.testing.assert_allclose(alone.mean(axis=0), 0, atol=1e-5)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32", "float32"])
def test_files_are_read_as_numbers_within_one(tmp_path, dtype):
    sound = tone(440)
    if dtype == "uint8":
        given = np.round(sound * 127 + 128).astype(np.uint8)
    else:
        given = (sound * (np.iinfo(dtype).max if dtype.startswith("int") else 1)).astype(dtype)
    wavfile.write(tmp_path / "one.wav", RATE, given)
    found, rate = read_wav(tmp_path / "one.wav")
    assert rate == RATE and found.dtype == np.float32
    np.testing.assert_allclose(found, sound, atol=0.01)
    if dtype == "int16":
        wavfile.write(tmp_path / "two.wav", RATE, np.column_stack([given, np.zeros_like(given)]))
        np.testing.assert_allclose(read_wav(tmp_path / "two.wav")[0], found / 2, atol=1e-6)


def test_bad_input_is_named(tmp_path):
    (tmp_path / "no.wav").write_text("nothing to hear")
    with pytest.raises(DataError, match=r"no\.wav: expected a \.wav file"):
        read_wav(tmp_path / "no.wav")
    with pytest.raises(DataError, match=r"expected the samples of a sound, .* got float64 \(2, 3\)"):
        log_mel(np.zeros((2, 3)), RATE)
    with pytest.raises(DataError, match="NaN"):
        log_mel([0.0, np.nan], RATE)
    with pytest.raises(ValueError, match="take fewer"):
        log_mel(tone(500), RATE, n_mels=100)
    with pytest.raises(ValueError, match="less than one sample"):
        log_mel(tone(500), RATE, hop=1e-5)
    with pytest.raises(ValueError, match="low and high"):
        log_mel(tone(500), RATE, high=5000)
    with pytest.raises(DataError, match="a group for each of 1 sounds, got 2"):
        normalised([np.zeros((2, 2))], [0, 1])


def test_dialled_keys_sound_with_their_two_tones():
    sounds, strings = rc.datasets.dialled(20, shortest=1, longest=1, noise=0.0, keys="147*")
    for sound, string in zip(sounds, strings, strict=True):
        energies = abs(np.fft.rfft(sound, RATE))
        assert energies[600:1100].argmax() + 600 == pytest.approx(
            {"1": 697, "4": 770, "7": 852, "*": 941}[string], abs=6
        )
        assert energies[1100:1700].argmax() + 1100 == pytest.approx(1209, abs=6)


def recordings(path):
    """A file like that of the spoken digits: each recording has numbers that tell which it is."""
    lengths = np.arange(1, 61) % 7 + 1
    digit, speaker, take = (part.ravel() for part in np.meshgrid(range(3), range(2), range(10), indexing="ij"))
    samples = np.repeat(np.arange(60), lengths).astype(np.int16)
    np.savez(path, samples=samples, starts=np.append(0, np.cumsum(lengths)), digit=digit, speaker=speaker, take=take)
    return digit, speaker, take


@pytest.mark.parametrize("mixed", [False, True])
def test_glued_digits_are_what_their_strings_say(tmp_path, mixed):
    digit, speaker, take = recordings(tmp_path / "digits.npz")
    sounds, strings = rc.datasets.glued_digits(tmp_path / "digits.npz", 50, takes=range(5, 10), mixed=mixed)
    several = 0
    for sound, string in zip(sounds, strings, strict=True):
        starts = np.flatnonzero(np.append(True, sound[1:] != sound[:-1]))
        which = sound[starts]  # a recording twice in a row looks like one
        found = "".join(str(digit[i]) for i in which)
        assert (np.isin(take[which], range(5, 10))).all()
        assert 3 <= len(string) <= 7
        assert found == string or len(found) < len(string)
        several += len(set(speaker[which])) > 1
    assert (several > 20) if mixed else (several == 0)
    again = rc.datasets.glued_digits(tmp_path / "digits.npz", 50, takes=range(5, 10), mixed=mixed)
    assert again[1] == strings and all((one == other).all() for one, other in zip(sounds, again[0], strict=True))


def test_glued_digits_name_what_is_wrong(tmp_path):
    recordings(tmp_path / "digits.npz")
    with pytest.raises(ValueError, match="takes: none of them is in the file, which has 0 to 9"):
        rc.datasets.glued_digits(tmp_path / "digits.npz", takes=[12])
    np.savez(tmp_path / "other.npz", samples=np.zeros(3))
    with pytest.raises(ValueError, match=r"other\.npz: expected the arrays .* starts is not there"):
        rc.datasets.glued_digits(tmp_path / "other.npz")
