from datasette.app import Datasette

app = Datasette(memory=True).app()
