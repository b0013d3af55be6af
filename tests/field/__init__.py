"""Real libraries and what they leave behind, against servers of the test's own on loopback.

Run by ``make field``, which installs these libraries; ``make test`` leaves them out.
"""
