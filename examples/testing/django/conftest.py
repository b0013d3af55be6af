pytest_plugins = ["subinterp_asgi.testing.plugin"]
