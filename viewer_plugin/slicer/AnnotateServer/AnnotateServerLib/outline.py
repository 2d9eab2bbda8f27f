"""The line that follows the hand in a slice view."""

from __future__ import annotations

import vtk

from AnnotateServerLib.strokes import Place

_YELLOW = (1.0, 0.85, 0.1)


class Outline:
    """A line in one slice view; Slicer's effect object puts it there and takes it away."""

    def __init__(self, effect: object, view: object) -> None:
        self._effect, self._view = effect, view
        self._line = vtk.vtkPolyData()
        mapper = vtk.vtkPolyDataMapper2D()
        mapper.SetInputData(self._line)
        self._actor = vtk.vtkActor2D()
        self._actor.SetMapper(mapper)
        self._actor.GetProperty().SetColor(*_YELLOW)
        self._actor.GetProperty().SetLineWidth(2.0)
        effect.addActor2D(view, self._actor)

    def show(self, places: tuple[Place, ...], slice_node: object, is_box: bool) -> None:
        """Draw a line through places (RAS); for a box they are two of its corners. None clears it."""
        inverse = vtk.vtkMatrix4x4()
        vtk.vtkMatrix4x4.Invert(slice_node.GetXYToRAS(), inverse)
        flat = [inverse.MultiplyPoint((*place, 1.0))[:2] for place in places]
        if is_box and len(flat) == 2:
            (x0, y0), (x1, y1) = flat
            flat = [(x0, y0), (x1, y0), (x1, y1), (x0, y1), (x0, y0)]
        points, cells = vtk.vtkPoints(), vtk.vtkCellArray()
        cells.InsertNextCell(len(flat))
        for x, y in flat:
            cells.InsertCellPoint(points.InsertNextPoint(x, y, 0.0))
        self._line.SetPoints(points)
        self._line.SetLines(cells)
        self._line.Modified()
        self._view.sliceView().scheduleRender()

    def remove(self) -> None:
        """Take it out of the view."""
        self._effect.removeActor2D(self._view, self._actor)
