"""Version 1 of the HTTP interface: one small module a noun."""
