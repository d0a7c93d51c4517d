"""The interface of a replacement policy."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import ClassVar


class Policy(ABC):
    """Knows the pages that are there, and in which order they are to go. It touches nothing but its own records."""

    name: ClassVar[str]
    samples: ClassVar[bool] = True
    """Whether references matter to it."""

    def __init__(self, frames: int) -> None:
        """Begin with no page; at most *frames* will be there."""
        self.frames = frames

    @abstractmethod
    def inserted(self, page: int) -> None:
        """*page* is there now."""

    def referenced(self, page: int) -> None:  # noqa: B027 - a policy may let that be all the same
        """*page*, which is there, was used."""

    @abstractmethod
    def victims(self) -> Iterator[int]:
        """Yield every page that is there, at least once: the first one that may go is the one to take.

        To be asked anew when anything has changed.
        """

    @abstractmethod
    def removed(self, page: int) -> None:
        """*page* is not there any more."""

    @abstractmethod
    def __contains__(self, page: int) -> bool:
        """Say whether *page* is there."""

    def standing(self) -> Iterator[tuple[int, bool]]:
        """Yield each page that is there once, and whether it is yet to be spared for a use: to be handed over.

        The first of them come as fast where there are many as where there are few.
        """
        return ((page, False) for page in self.victims())
