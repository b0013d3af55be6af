"""The client's side: requests as octets, a strict reader, connections, the application's reports.

Nothing here knows of cases.
"""
