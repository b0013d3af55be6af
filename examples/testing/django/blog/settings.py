"""Settings of a project in development: its database is a file, which tests must not touch."""

from pathlib import Path

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": Path(__file__).parent / "development.sqlite3",
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = ["blog", "django.contrib.auth", "django.contrib.contenttypes"]
MAILERS = {"default": {"BACKEND": "django.core.mail.backends.smtp.EmailBackend"}}
ROOT_URLCONF = "blog.urls"
SECRET_KEY = "of an example"
TITLE = "A blog"
USE_TZ = True
