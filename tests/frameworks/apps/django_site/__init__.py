"""A Django site with a model and sessions in SQLite; views and middleware, async and sync."""
