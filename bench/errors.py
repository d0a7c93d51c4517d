"""The error that stops a benchmark."""


class BenchError(Exception):
    """There is nothing to measure with; the text says why and what to do."""
