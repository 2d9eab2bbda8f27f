"""DICOM Segmentation objects: `read_seg` onto a volume's grid, `write_seg` for the series that was labelled."""

from annotate_server.imaging.dicom_seg_reading import SegContent, read_seg, read_seg_content
from annotate_server.imaging.dicom_seg_writing import write_seg

__all__ = ["SegContent", "read_seg", "read_seg_content", "write_seg"]
