"""MeshNet: chains of dilated convolutions that parcel a whole head at once (the networks of brainchop)."""
