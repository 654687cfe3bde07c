"""The release transaction of one app on one host. Runs on the host; needs nothing but Python 3.9."""
