"""The formats of X.2, bit for bit: pure functions on words. Nothing here knows an environment."""
