"""Libraries whose extension modules refuse, from two interpreters with a private copy each."""
