"""What people look at: tables of errors, and sentences with their labels; as text, HTML and files."""

from rnncore.shown.errors import Error, ErrorTable, wrong_words
from rnncore.shown.sentences import ShownSentence, ShownSentences

__all__ = ["Error", "ErrorTable", "ShownSentence", "ShownSentences", "wrong_words"]
