import asyncio
import socket
from collections.abc import Awaitable, Callable

from local.machine.forward import forward

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def listener() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


async def through(handler: Handler) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection that leads to `handler` by way of a forwarder."""
    far, near = listener(), listener()
    await asyncio.start_server(handler, sock=far)
    await forward(near, *far.getsockname())
    return await asyncio.open_connection(*near.getsockname())


def test_both_directions_pass_and_each_ends_by_itself() -> None:
    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"%d" % len(await reader.read(-1)))
        writer.close()

    async def scenario() -> bytes:
        reader, writer = await through(count)
        writer.write(b"x" * 5_000_000)
        writer.write_eof()
        return await reader.read()

    assert asyncio.run(asyncio.wait_for(scenario(), 10)) == b"5000000"


def test_a_stream_arrives_as_it_comes() -> None:
    async def first_of_two(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"first")
        await reader.read()
        writer.close()

    async def scenario() -> bytes:
        reader, writer = await through(first_of_two)
        first = await reader.readexactly(5)
        writer.close()
        return first

    assert asyncio.run(asyncio.wait_for(scenario(), 10)) == b"first"


def test_a_caller_who_leaves_cuts_the_far_end() -> None:
    async def scenario() -> None:
        cut = asyncio.Event()

        async def endless(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                while True:
                    writer.write(b"x" * 65536)
                    await writer.drain()
            except OSError:
                cut.set()

        reader, writer = await through(endless)
        await reader.readexactly(100)
        writer.transport.abort()
        await cut.wait()

    asyncio.run(asyncio.wait_for(scenario(), 10))


def test_where_nobody_listens_the_caller_is_cut_at_once() -> None:
    async def scenario() -> bytes:
        with listener() as nobody:
            target = nobody.getsockname()
        near = listener()
        await forward(near, *target)
        reader, _ = await asyncio.open_connection(*near.getsockname())
        try:
            return await reader.read()
        except ConnectionResetError:
            return b""

    assert asyncio.run(asyncio.wait_for(scenario(), 5)) == b""
