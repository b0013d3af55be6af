"""One small application for each library."""
