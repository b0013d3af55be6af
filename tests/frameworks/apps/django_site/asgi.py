"""The usual ``asgi.py``; DJANGO_SETTINGS_MODULE is in the environment."""

from django.core.asgi import get_asgi_application

application = get_asgi_application()
