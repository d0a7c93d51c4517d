"""Addresses for Python's own memory."""

import gc

import pytest

from libexo.l4.space.buffers import BUFFERS, BadAddress, Buffer, Buffers

END = 1 << 64


def load(buffers: Buffers, address: int, size: int) -> bytes:
    return bytes(buffers.piece(address, address + size, writable=False))


@pytest.mark.parametrize("buffer", [b"abcdef", bytearray(b"abcdef"), memoryview(b"xabcdef")[1:]])
def test_bytes_at_an_address(buffer: Buffer) -> None:
    """Any byte of a buffer is found at its address, in the upper half, and reading stops at the end."""
    buffers = Buffers()
    at = buffers.put(buffer)

    assert at >= BUFFERS
    assert (load(buffers, at, 6), load(buffers, at + 2, 2), load(buffers, at + 5, 99)) == (
        b"abcdef",
        b"cd",
        b"f",
    )


def test_the_same_buffer_has_one_address() -> None:
    """Asked twice for one object, the address is the same; equal objects have different ones."""
    buffers = Buffers()
    one, other = bytearray(b"same"), bytearray(b"same")

    assert buffers.put(one) == buffers.put(one) != buffers.put(other)


def test_written_through() -> None:
    """A writable piece is the buffer's own memory; of bytes there is none."""
    buffers = Buffers()
    own, constant = bytearray(4), b"abcd"
    at, fixed = buffers.put(own), buffers.put(constant)
    buffers.piece(at + 1, at + 3, writable=True)[:] = b"xy"

    assert own == b"\0xy\0"
    assert buffers.piece(at, at + 4, writable=False).readonly
    with pytest.raises(BadAddress, match="read-only"):
        buffers.piece(fixed, fixed + 4, writable=True)


def test_buffers_do_not_touch() -> None:
    """Behind each buffer is a gap: a run past its end meets no other."""
    buffers = Buffers()
    places = [(buffers.put(bytearray(size)), size) for size in (1, 63, 64, 65, 4096)]

    for at, size in places:
        for address in (at - 1, at + size):
            with pytest.raises(BadAddress, match="no buffer"):
                load(buffers, address, 1)


def test_forgotten() -> None:
    """A forgotten address names nothing, and is not given out again; where none begins there is none to forget."""
    buffers = Buffers()
    data = bytearray(8)
    at = buffers.put(data)
    for wrong in (at + 1, 0, at + 64):
        with pytest.raises(BadAddress, match="no buffer begins"):
            buffers.forget(wrong)
    buffers.forget(at)

    with pytest.raises(BadAddress, match="no buffer"):
        load(buffers, at, 1)
    with pytest.raises(BadAddress, match="no buffer begins"):
        buffers.forget(at)
    assert buffers.put(data) != at


def test_a_memoryview_goes_by_itself() -> None:
    """When nothing refers to a memoryview any more its address names nothing, and its memory is free."""
    buffers = Buffers()
    data = bytearray(8)
    view = memoryview(data)
    at = buffers.put(view)
    found = load(buffers, at, 8)
    del view
    gc.collect()

    assert found == bytes(8)
    with pytest.raises(BadAddress, match="no buffer"):
        load(buffers, at, 1)
    data.append(1)  # a buffer in use refuses to change its size
    assert buffers.put(memoryview(data)) != at


def test_one_memoryview_after_another() -> None:
    """Python reuses the identity of what has gone; a new buffer never takes over the address of an old one."""
    buffers = Buffers()
    identities, addresses = set(), set()
    for n in range(50):
        view = memoryview(bytes([n]))
        at = buffers.put(view)
        identities.add(id(view))
        addresses.add(at)
        assert load(buffers, at, 1) == bytes([n])
        del view

    assert len(identities) < len(addresses) == 50


def test_bytes_are_kept() -> None:
    """Bytes that nobody else refers to stay at their address until it is forgotten."""
    buffers = Buffers()
    at = buffers.put(bytes([1, 2, 3]))
    gc.collect()

    assert load(buffers, at, 3) == b"\1\2\3"


def test_a_buffer_that_shrank() -> None:
    """A bytearray may change its size between accesses: only what is there is found."""
    buffers = Buffers()
    data = bytearray(100)
    at = buffers.put(data)
    del data[10:]

    assert len(load(buffers, at, 100)) == 10
    with pytest.raises(BadAddress, match="no buffer"):
        load(buffers, at + 10, 1)


@pytest.mark.parametrize("buffer", [b"", memoryview(b"abcdef")[::2]])
def test_buffers_that_have_no_address(buffer: Buffer) -> None:
    """An empty buffer, or one with gaps, is refused."""
    with pytest.raises(ValueError, match="not one run"):
        Buffers().put(buffer)
