"""A FastAPI application with a bit of everything, of which each answer is compared with uvicorn's.

``app.py`` puts it together, ``exchanges.py`` has the requests.
"""
