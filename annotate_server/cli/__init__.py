"""The command line: one small module a command. It decides nothing: the workflows do the work."""
