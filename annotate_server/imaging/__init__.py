"""Bytes to nouns and back: every format that a volume or labelmap can have, and measuring."""
