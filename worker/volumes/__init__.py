"""Volumes as numbers: orientation, grids, intensities, windows, blending, labels. No files, no sessions."""
