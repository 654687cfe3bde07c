"""A server's data goes to another major version of PostgreSQL, and back."""
