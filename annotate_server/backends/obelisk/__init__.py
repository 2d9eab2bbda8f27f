"""OBELISK-Net: a small network for abdominal CT that samples a blurred volume at learnt offsets."""
