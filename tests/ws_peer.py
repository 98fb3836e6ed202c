"""Python's `websockets` as the other side, for tests/ws_peers:

ws_peer.py serve        an echo server; prints its port
ws_peer.py talk URL     a client of ours
"""

import asyncio
import sys

import websockets
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory


async def echo(socket):
    async for message in socket:
        if message == "close":
            await socket.close(4001, "bye")
            return
        await socket.send(message)


async def serve():
    async with websockets.serve(
        echo, "127.0.0.1", 0, subprotocols=["b", "c"], max_size=None
    ) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await asyncio.Future()


async def there_and_back(socket, message, wanted=None):
    await socket.send(message)
    back = await socket.recv()
    assert back == (message if wanted is None else wanted), (len(message), len(back))


async def fragments(parts):
    for part in parts:
        yield part


async def talk(url, **options):
    async with websockets.connect(url, max_size=None, **options) as socket:
        for size in [0, 1, 125, 126, 127, 4096, 65535, 65536, 70000, 1000000]:
            await there_and_back(socket, bytes(i * 7 + (i >> 8) & 255 for i in range(size)))
            await there_and_back(socket, "gr\u00fc\u00df\U0001f600 " * (size // 11))
        parts = ["\u00e9" * 1000, "b" * 70000, "\u20ac"]
        await there_and_back(socket, fragments(parts), "".join(parts))
        await (await socket.ping("are you there"))
        for i in range(1000):
            await socket.send(f"message {i}")
        for i in range(1000):
            assert await socket.recv() == f"message {i}"
        await socket.close(4000, "gr\u00fc\u00df")
        assert socket.close_code == 4000, socket.close_code




async def main(url):
    deflate = ClientPerMessageDeflateFactory
    await talk(url, compression=None)
    await talk(url)
    for parameters in [
        {"server_no_context_takeover": True, "client_no_context_takeover": True},
        {"server_max_window_bits": 10, "client_max_window_bits": 10},
        {"client_max_window_bits": True},
    ]:
        await talk(url, compression=None, extensions=[deflate(**parameters)])


if sys.argv[1] == "serve":
    asyncio.run(serve())
else:
    asyncio.run(asyncio.wait_for(main(sys.argv[2]), 60))
