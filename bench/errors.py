"""What a benchmark cannot go on for."""


class BenchError(Exception):
    """Nothing to measure with; the text says why and what to do."""
