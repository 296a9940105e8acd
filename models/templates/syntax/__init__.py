"""Turns the text of a template into a syntax tree of python-liquid's and Ringback's nodes that keep the limits."""
