"""The ring does what `libexo.testing.conformance` says, where messages fill it, and where they rarely do."""

from collections.abc import Callable

import pytest

from libexo.ipc.ring import PAGES
from libexo.testing import conformance
from libexo.testing.conformance import CHECKS, Rig, check_another_token
from libexo.testing.rings import RingHub

FEW = 5
"""Pages for 8 KiB in each direction: just enough for the messages some checks send without reading."""


NO_TOKENS = [check for check in CHECKS if check is not check_another_token]
"""Nobody says a token in a ring: the kernel hands its ends over."""


@pytest.mark.parametrize("check", NO_TOKENS, ids=lambda check: check.__name__.removeprefix("check_"))
@pytest.mark.parametrize("pages", [FEW, PAGES])
def test_ring(pages: int, check: Callable[[Rig], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """The transport passes the check, and nothing stays open."""
    monkeypatch.setattr(conformance, "PATIENCE", 4000)  # each time, a ring full of a long message goes on
    hub = RingHub(pages)
    rig = Rig(hub.transport, pause=lambda _: hub.flush())
    try:
        check(rig)
    finally:
        rig.close()
    assert (hub.open_ends(), hub.broken) == (0, [])
