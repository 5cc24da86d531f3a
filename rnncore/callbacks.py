"""What looks on while a network is trained: the public door to `rnncore.train.callbacks`."""

from rnncore.train.callbacks import Callback, CSVLogger, EarlyStopping, ProgressBar

__all__ = ["CSVLogger", "Callback", "EarlyStopping", "ProgressBar"]
