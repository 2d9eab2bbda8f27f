"""Running convolutional networks over whole volumes: tiles where the body is, blended a slab at a time."""
