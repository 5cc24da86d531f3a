"""Sound as what a network reads: the public door to `rnncore.data.audio`."""

from rnncore.data.audio import log_mel, mel_bands, normalised, read_wav

__all__ = ["log_mel", "mel_bands", "normalised", "read_wav"]
