"""Hosts to deploy to, on one machine: systemd containers that are reached by ssh like any other host.

Run it with ``python3 -m lab``. Only the standard library is needed, so that it works before ``make setup`` does.
"""
