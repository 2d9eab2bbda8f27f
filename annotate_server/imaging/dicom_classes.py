"""The classes of DICOM objects, as far as they tell whether there may be a volume in one."""

_STORAGE = "1.2.840.10008.5.1.4.1.1."

MODALITY_OF_CLASS = {
    _STORAGE + part: modality
    for modality, parts in {
        "CT": ("2", "2.1", "2.2", "13.1.1", "13.1.2"),  # single-frame, enhanced, legacy converted, cone beam
        "MR": ("4", "4.1", "4.4"),
        "PT": ("128", "128.1", "130"),
    }.items()
    for part in parts
}
"""What took the slices of a class that is made for slices."""

_CAPTURES = frozenset(_STORAGE + part for part in ("7", "7.2", "7.3"))
"""Secondary capture: screenshots, and what some tools write volumes as."""

_MODALITIES = frozenset({"CT", "MR", "PT", "OT", ""})


def may_hold_volume(sop_class: str, modality: str) -> bool:
    """Say whether an object of this class may hold slices; of an unknown or private class, the modality decides."""
    if sop_class in MODALITY_OF_CLASS or sop_class in _CAPTURES:
        return True
    return not sop_class.startswith(_STORAGE) and modality in _MODALITIES


def takes_slices(sop_class: str, modality: str) -> bool:
    """Say whether every image of this class is a slice of a patient, so that one without a place is broken."""
    return sop_class in MODALITY_OF_CLASS or (sop_class not in _CAPTURES and modality in ("CT", "MR", "PT"))
