"""Measures what is promised of Ringback's speed, against the really started program."""
