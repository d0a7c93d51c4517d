"""The base of the classes in `kernel.abi.traps`, and the types of their fields."""

from typing import Annotated, Any, ClassVar

import msgspec

from kernel.abi.errors import Refusal
from kernel.abi.gate import Record
from kernel.abi.ids import ANY_FRAME
from kernel.abi.limits import TOKEN_BYTES
from kernel.abi.rights import Kind, Rights

Frame = Annotated[int, msgspec.Meta(ge=ANY_FRAME, lt=1 << 40)]
Token = Annotated[bytes, msgspec.Meta(min_length=TOKEN_BYTES, max_length=TOKEN_BYTES)]


class Trap(Record):
    """The base of all traps."""

    result: ClassVar[Any] = None
    refusals: ClassVar[tuple[Refusal, ...]] = ()
    needs: ClassVar[tuple[Kind | None, Rights] | None] = None
    """Kind of the first argument's capability (None: any kind) and the rights it must carry."""
    takes_offers: ClassVar[bool] = False
    """The first argument may be an offer; for other traps an offer is of the wrong kind."""
    takes_descriptors: ClassVar[bool] = False
    gives_descriptors: ClassVar[str] = ""


HANDLE_REFUSALS = (Refusal.BAD_HANDLE, Refusal.STALE_HANDLE, Refusal.WRONG_KIND, Refusal.MISSING_RIGHT)
