"""Turns committed writes to tracked models into changes and events."""
