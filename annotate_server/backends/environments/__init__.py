"""Backends whose libraries must not meet ours: an interpreter of their own, and what crosses between it and us.

This side holds a `guest.Guest`; over there `entry` and `serving` run a module of ours that defines
`open(words) -> Desk`.
"""
