"""The formats of X.2, bit for bit: pure functions on words, independent of any environment."""
