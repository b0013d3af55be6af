from psycopg_pool import ConnectionPool

from .base import make

# Nobody listens there, and nobody closes it.
pool = ConnectionPool("host=127.0.0.1 port=9", min_size=1, open=True)
app = make()
