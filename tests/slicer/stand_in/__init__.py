"""What stands in for the Slicer application: PythonQt's dialect on PySide6, the widgets that a panel uses, and the
helpers of Slicer's own Python that its core on PyPI does not hold. MRML itself is Slicer's own.
"""
