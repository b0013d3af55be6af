"""What concerns the process as a whole: its exit, its service manager, its successor.

The command uses it. A supervisor in somebody else's process uses nothing of it but the exit guard.
"""
