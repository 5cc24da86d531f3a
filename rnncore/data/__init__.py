"""From files and sentences to numbers: readers, tokens, features, encoders, word vectors."""
