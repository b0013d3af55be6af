"""For the tests of those who use this package. Nothing of it is imported when a server runs."""
