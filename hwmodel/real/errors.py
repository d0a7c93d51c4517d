"""The border to the host, at which its errors become the machine's own.

No error of the host may end the kernel. So every error of a call made for an environment is Exhausted, which
becomes a refusal to that one; the call undoes what it had made before.
"""

import functools
from collections.abc import Callable
from types import TracebackType
from typing import ParamSpec, TypeVar

from hwmodel.errors import exhausted

P = ParamSpec("P")
T = TypeVar("T")


class Lending:
    """Makes errors of the host Exhausted: around a function, or as a context."""

    def __call__(self, function: Callable[P, T]) -> Callable[P, T]:
        """Wrap *function*."""

        @functools.wraps(function)
        def wrapped(*arguments: P.args, **named: P.kwargs) -> T:
            try:
                return function(*arguments, **named)
            except OSError as error:
                raise exhausted(error.errno or 0) from error

        return wrapped

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Turn what was raised."""
        if isinstance(error, OSError):
            raise exhausted(error.errno or 0) from error


lending = Lending()
