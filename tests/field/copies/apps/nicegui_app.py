from __future__ import annotations

from fastapi import FastAPI
from nicegui import ui

app = FastAPI()


@ui.page("/")
async def index() -> None:
    count = ui.label("0")
    name = ui.input("name")
    said = ui.label("nothing")

    async def greet() -> None:
        count.set_text(str(int(count.text) + 1))
        said.set_text(f"Grüezi {name.value}")

    ui.button("greet", on_click=greet)
    table = ui.table(rows=[{"ware": "bread", "price": 4.5}], row_key="ware")
    ui.button("add", on_click=lambda: table.add_row({"ware": "tea", "price": 1}))


ui.run_with(app, storage_secret="test")
