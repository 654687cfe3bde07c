"""Backups of one host that are proven by restoring them: a program there, started by timers and by playbooks."""
