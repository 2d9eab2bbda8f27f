"""The doors: HTTP in, workflows called, HTTP out. They decide nothing."""
