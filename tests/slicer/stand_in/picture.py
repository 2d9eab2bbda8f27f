"""A slice with its segmentation, drawn by Slicer's own slice logic and displayable managers, beside the panel."""

import numpy as np
import slicer
import vtk
from PySide6 import QtGui
from vtk.util.numpy_support import vtk_to_numpy

_logics = []


def drawn_slice(volume, ras, size=560, window=(400.0, 40.0)):
    """Return the pixels (rows from the top, columns, RGB) of the axial slice through a place."""
    scene, application = slicer.mrmlScene, slicer.app.applicationLogic()
    if application.GetSliceLogics() is None:
        application.SetSliceLogics(vtk.vtkCollection())
    factory = slicer.vtkMRMLSliceViewDisplayableManagerFactory.GetInstance()
    factory.SetMRMLApplicationLogic(application)
    if not factory.IsDisplayableManagerRegistered("vtkMRMLSegmentationsDisplayableManager2D"):
        factory.RegisterDisplayableManager("vtkMRMLSegmentationsDisplayableManager2D")
    slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(scene, True)
    logic = slicer.vtkMRMLSliceLogic()
    logic.SetMRMLApplicationLogic(application)
    logic.SetMRMLScene(scene)
    node = logic.AddSliceNode("Picture")
    node.SetOrientation("Axial")
    application.GetSliceLogics().AddItem(logic)
    logic.GetSliceCompositeNode().SetBackgroundVolumeID(volume.GetID())
    volume.GetDisplayNode().SetWindowLevel(*window)
    renderer, render_window = vtk.vtkRenderer(), vtk.vtkRenderWindow()
    render_window.SetOffScreenRendering(1)
    render_window.SetSize(size, size)
    render_window.AddRenderer(renderer)
    renderer.GetActiveCamera().ParallelProjectionOn()
    interactor = vtk.vtkGenericRenderWindowInteractor()  # the managers refer to it without asking whether it is there
    interactor.SetRenderWindow(render_window)
    group = slicer.vtkMRMLDisplayableManagerGroup()
    group.SetRenderer(renderer)
    group.Initialize(factory, renderer)
    group.SetMRMLDisplayableNode(node)
    node.SetDimensions(size, size, 1)
    logic.ResizeSliceNode(size, size)
    logic.FitSliceToBackground()
    logic.SetSliceOffset(ras[2])
    mapper, actor = vtk.vtkImageMapper(), vtk.vtkActor2D()
    mapper.SetColorWindow(255)
    mapper.SetColorLevel(127.5)
    mapper.SetInputConnection(logic.GetImageDataConnection())
    actor.SetMapper(mapper)
    actor.GetProperty().SetDisplayLocationToBackground()
    renderer.AddViewProp(actor)
    render_window.Render()
    grabbed = vtk.vtkWindowToImageFilter()
    grabbed.SetInput(render_window)
    grabbed.ReadFrontBufferOff()
    grabbed.Update()
    width, height, _ = grabbed.GetOutput().GetDimensions()
    pixels = vtk_to_numpy(grabbed.GetOutput().GetPointData().GetScalars()).reshape(height, width, -1)[::-1, :, :3]
    _logics.append((logic, group, render_window))
    return np.ascontiguousarray(pixels), node


def beside(panel, pixels, path):
    """Write the panel and a slice beside each other as PNG."""
    grabbed = panel.grab().toImage()
    height, width, _ = pixels.shape
    whole = QtGui.QImage(grabbed.width() + width + 8, max(grabbed.height(), height), QtGui.QImage.Format.Format_RGB32)
    whole.fill(QtGui.QColor(239, 239, 239))
    painter = QtGui.QPainter(whole)
    painter.drawImage(0, 0, grabbed)
    slice_image = QtGui.QImage(pixels.tobytes(), width, height, 3 * width, QtGui.QImage.Format.Format_RGB888)
    painter.drawImage(grabbed.width() + 8, 0, slice_image)
    painter.end()
    assert whole.save(str(path))
