"""What the AnnotateServer module of 3D Slicer is made of; numpy, qt, vtk and slicer are all it needs."""
