"""Leaves a thread behind that waits for work, as libraries do."""

from concurrent.futures import ThreadPoolExecutor

pool = ThreadPoolExecutor(1)
pool.submit(int).result()
