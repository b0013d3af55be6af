from apscheduler.schedulers.background import BackgroundScheduler

from .base import make

scheduler = BackgroundScheduler()
scheduler.add_job(print, "interval", hours=1)
scheduler.start()
app = make()
