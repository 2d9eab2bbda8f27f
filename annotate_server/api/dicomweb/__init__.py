"""DICOMweb on the studies of the server (PS3.18): QIDO-RS, WADO-RS and STOW-RS. Doors only."""
