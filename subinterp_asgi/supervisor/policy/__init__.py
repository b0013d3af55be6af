"""What is decided about workers: which are replaced, when, by what, and how all of them end."""
