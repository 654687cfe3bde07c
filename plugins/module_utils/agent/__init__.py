"""The host's side of a run: one process that answers the coordinator's requests for as long as the run lasts."""
