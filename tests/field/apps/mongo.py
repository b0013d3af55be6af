import pymongo

from .base import make

# Nobody listens there: its monitors go on trying.
client = pymongo.MongoClient("127.0.0.1", 9, serverSelectionTimeoutMS=100)
client._topology.open()
app = make()
