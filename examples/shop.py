"""A shop, made with the framework of ``examples/mini``.

python -m examples.mini examples.shop:app
"""

import asyncio
import os

from examples.mini import Mini, until_drain

app = Mini()
prices = {"apple": 3, "pear": 4}


@app.on_start
async def open_shop(state):
    state["opened_in"] = os.getpid()


@app.get("/")
async def home(scope):
    return "Fruit.\n"


@app.get("/prices")
async def show_prices(scope):
    return prices | {"currency": scope["state"]["currency"]}


@app.get("/ticker")
async def ticker(scope):
    async def ticks():
        while True:
            yield "still open\n"
            await asyncio.sleep(0.5)

    return until_drain(ticks())
