"""The code in documents is run as a reader would run it."""
