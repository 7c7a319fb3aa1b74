"""From a loopback port of the host to an address inside the machine, connection by connection."""

import asyncio
import socket

CHUNK = 256 * 1024
CONNECT_SECONDS = 10.0


async def forward(listener: socket.socket, host: str, port: int) -> asyncio.Server:
    """Accept on `listener` and lead each connection to `host`, which is looked up anew each time."""

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                far_reader, far_writer = await asyncio.open_connection(host, port)
        except OSError:
            # Also TimeoutError and a name that does not resolve: the caller sees a connection that is cut.
            writer.transport.abort()
            return
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(_pump(reader, far_writer))
                both.create_task(_pump(far_reader, writer))
        except* OSError:
            # One side is gone: tell the other at once, so that a server stops working for nobody.
            far_writer.transport.abort()
            writer.transport.abort()
        else:
            far_writer.close()
            writer.close()

    return await asyncio.start_server(accept, sock=listener)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(CHUNK):
        writer.write(chunk)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()
